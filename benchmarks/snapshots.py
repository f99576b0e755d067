"""Snapshots of parameters beside `wandb.watch`'s own operations on the same tensors, and beside one read of them.

Weights alone are what ``wandb.watch(log="parameters")`` looks at, weights and gradients what ``log="all"`` does.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
import wandb
from torch import Tensor, nn
from wandb.integration.torch.wandb_torch import TorchHistory

from tunehook.snapshot.take import Snapshots


class Block(nn.Module):
    """A block of ResNet-18."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.main = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs),
        )  # fmt: skip
        down = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        self.side = down if stride > 1 else nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        """Add the way beside the convolutions."""
        found: Tensor = (self.main(images) + self.side(images)).relu()
        return found


def mlp() -> nn.Module:
    """0.24 M parameters."""
    return nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 10))


def resnet18() -> nn.Module:
    """11.2 M parameters, for ten classes."""
    widths = [
        (64, 64, 1),
        (64, 64, 1),
        (64, 128, 2),
        (128, 128, 1),
        (128, 256, 2),
        (256, 256, 1),
        (256, 512, 2),
        (512, 512, 1),
    ]
    return nn.Sequential(
        nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1),
        *(Block(*row) for row in widths), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10),
    )  # fmt: skip


def transformer() -> nn.Module:
    """69 M parameters: embeddings of 34000 words, and six layers of 768."""
    layers = [nn.TransformerEncoderLayer(768, 12, 3072, batch_first=True) for _ in range(6)]
    return nn.Sequential(nn.Embedding(34000, 768), *layers)


MODELS = {"mlp": mlp, "resnet18": resnet18, "transformer": transformer}


class Histogram:
    """Stands for `wandb.Histogram`, so that watch pays for its operations only."""

    def __init__(self, *, np_histogram: tuple[list[float], list[float]]) -> None:
        """Forget it."""


class Run:
    """Takes what `wandb.watch` would log, which costs nothing here."""

    def _log(self, row: dict[str, Any], *, commit: bool) -> None:
        """Forget it."""


def watch(tensors: list[Tensor]) -> None:
    """What `wandb.watch` does to each tensor: its own code."""
    make: Any = TorchHistory  # it has no types
    history = make()
    for tensor in tensors:
        history.log_tensor_stats(tensor.data.cpu(), "x")


def read(tensors: list[Tensor]) -> None:
    """One pure read of all elements."""
    for tensor in tensors:
        tensor.sum()


def variants(model: nn.Module, *, with_gradients: bool) -> dict[str, Callable[[], object]]:
    """What is timed, by name."""
    weights = {name: parameter.detach() for name, parameter in model.named_parameters()}
    slopes = {name: torch.randn_like(value) for name, value in weights.items()} if with_gradients else {}
    tensors = [*weights.values(), *slopes.values()]
    sampled, exact = Snapshots(), Snapshots(exact=True)
    return {
        "read": lambda: read(tensors),
        "watch": lambda: watch(tensors),
        "exact": lambda: exact.take(0, weights, slopes),
        "default": lambda: sampled.take(0, weights, slopes),
    }


def measure(name: str, rounds: int, *, with_gradients: bool) -> None:
    """Take turns, and print medians, those of ratios over rounds: what else runs disturbs a round as a whole."""
    torch.manual_seed(0)
    model = MODELS[name]()
    with torch.no_grad():
        timed = variants(model, with_gradients=with_gradients)
        times: dict[str, list[float]] = {variant: [] for variant in timed}
        for number in range(rounds + 1):
            for variant, call in timed.items():
                start = time.perf_counter()
                call()
                if number:  # the first round warms up
                    times[variant].append(time.perf_counter() - start)
    size = sum(parameter.numel() for parameter in model.parameters())
    what = "weights and gradients" if with_gradients else "weights"
    print(f"{name}, {size / 1e6:.2f} M parameters, {what}, {torch.get_num_threads()} threads")
    for variant, row in times.items():
        of_watch = statistics.median(took / other for took, other in zip(row, times["watch"], strict=True))
        reads = statistics.median(took / other for took, other in zip(row, times["read"], strict=True))
        print(
            f"  {variant:8}{statistics.median(row) * 1e3:9.2f} ms (best{min(row) * 1e3:8.2f})"
            f"   1/{1 / of_watch:<5.1f} of watch{reads:8.1f} reads{verdict(name, variant, of_watch, reads)}"
        )


def verdict(name: str, variant: str, of_watch: float, reads: float) -> str:
    """Whether the targets are met."""
    targets = []
    if variant == "exact":
        targets.append((of_watch <= 1 / 4, "1/4 of watch"))
    if variant == "default":
        share = 4 if name == "mlp" else 20
        targets.append((of_watch <= 1 / share, f"1/{share} of watch"))
        if name == "transformer":
            targets.append((reads <= 2, "2 reads"))
    return "".join(f"   {'met' if is_met else 'MISSED'}: {target}" for is_met, target in targets)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, epilog="example: python benchmarks/snapshots.py --rounds 9")
    parser.add_argument("--rounds", type=int, default=9, help="how often each variant runs (default: 9)")
    parser.add_argument("--model", choices=MODELS, action="append", help="only this one; may be repeated")
    given = parser.parse_args()
    wandb.run = Run()  # type: ignore[assignment]
    wandb.Histogram = Histogram  # type: ignore[assignment, misc]
    for chosen in given.model or MODELS:
        for with_gradients in (False, True):
            measure(chosen, given.rounds, with_gradients=with_gradients)
