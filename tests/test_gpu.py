"""What only a GPU can show. With TUNEHOOK_TEST_ACCELERATOR=gpu the tests of Lightning train there too."""

from __future__ import annotations

import importlib
import json
import math
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import launch_scripts
import tunehook as th
from tunehook.record.journal import read_journal
from tunehook.snapshot import arrays as snapshot_arrays
from tunehook.snapshot.take import Snapshots
from tunehook.snapshot.torch_arrays import TorchReader
from tunehook.snapshot.values import Snapshot
from waiting import PATIENCE

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that torch can use"),
    pytest.mark.filterwarnings("ignore"),  # Lightning warns of small data, few workers, missing loggers ...
]

FLOATS = [torch.float32, torch.float64, torch.float16, torch.bfloat16]


class Watched(TorchReader):
    """Counts transfers, which alone may wait for the GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.transfers = 0

    def _transfer(self, tensor: Any) -> Any:
        self.transfers += 1
        with sync_is("default"):
            return super()._transfer(tensor)


@pytest.fixture(autouse=True)
def no_frameworks() -> None:
    """A warm parent of trials imports the frameworks, as with users."""


@contextmanager
def sync_is(mode: str) -> Iterator[None]:
    """What torch does where something waits for the GPU: nothing, or raise an error."""
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode(mode)
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)


def arrays(kind: torch.dtype, device: str) -> dict[str, torch.Tensor]:
    """Tensors of all sizes, contiguous and not, the same on each device."""
    made = torch.Generator().manual_seed(0)
    found = {f"w{size}": torch.randn(size, generator=made).to(kind) for size in (0, 1, 7, 3000, 16_384, 50_001)}
    found["turned"] = torch.randn(300, 200, generator=made).to(kind).t()
    found["last"] = torch.randn(8, 16, 30, 30, generator=made).to(kind, memory_format=torch.channels_last)
    return {name: tensor.to(device) for name, tensor in found.items()}


@pytest.mark.parametrize("kind", [*FLOATS, torch.int32, torch.bool])
def test_one_transfer_and_no_other_wait(kind: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parameters and gradients: torch raises an error where anything else waits for the GPU."""
    reader = Watched()
    monkeypatch.setitem(snapshot_arrays._readers, torch.Tensor, reader)
    tensors = arrays(kind, "cuda")
    taken = Snapshots()
    with sync_is("error"):
        for step in range(2):
            taken.take(step, tensors, tensors)
        with pytest.raises(RuntimeError, match="synchroniz"):
            tensors["w7"].cpu()
    assert reader.transfers == 2


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("kind", FLOATS)
def test_the_same_as_on_the_cpu(kind: torch.dtype, exact: bool) -> None:
    """To the last bit: the same elements are brought here and computed with, NaN and infinities too."""
    here, there = arrays(kind, "cpu"), arrays(kind, "cuda")
    for side in (here, there):
        side["w50001"][5], side["w50001"][77], side["w3000"][9] = math.nan, math.inf, -math.inf
    one, other = Snapshots(exact=exact), Snapshots(exact=exact)
    for step in range(2):
        mine, theirs = one.take(step, here, here), other.take(step, there, there)
        assert repr(theirs) == repr(mine)
        for side in (here, there):
            side["w16384"] += 1


def test_sparse_gradients() -> None:
    """Of an embedding, on the GPU."""
    snapshots = []
    for device in ("cpu", "cuda"):
        torch.manual_seed(0)
        layer = nn.Embedding(5000, 8, sparse=True).to(device)
        with torch.no_grad():
            layer.weight.copy_(torch.arange(40_000.0).view(5000, 8))
        layer(torch.tensor([[3, 4], [3, 4999]], device=device)).pow(2).sum().backward()
        snapshots.append(Snapshots().take(0, {"w": layer.weight}, {"w": layer.weight.grad}))
    assert repr(snapshots[0]) == repr(snapshots[1])


def train(
    callback: Any, *, precision: Any = "32-true", width: int = 64, fault: str | None = None, **settings: Any
) -> Any:
    """Two epochs on the GPU; the trained module."""
    import lightning as L

    class Net(L.LightningModule):
        def __init__(self, lr: float = 0.01) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.net = nn.Sequential(nn.Linear(4, width), nn.Dropout(0.3), nn.Linear(width, 1))
            self.seen: list[float] = []

        def training_step(self, batch: Any, index: int) -> Any:
            if fault == "memory":
                torch.empty(2**50, device=self.device)
            return self.net(batch[0]).pow(2).mean()

        def on_before_optimizer_step(self, optimizer: Any) -> None:
            slopes = [each.grad.double().flatten() for each in self.parameters() if each.grad is not None]
            self.seen.append(float(torch.cat(slopes).norm()))

        def validation_step(self, batch: Any, index: int) -> None:
            self.log("loss", self.net(batch[0]).pow(2).mean())

        def configure_optimizers(self) -> Any:
            return torch.optim.Adam(self.parameters(), lr=self.hparams["lr"])

    L.seed_everything(3)
    module = Net()
    rows = TensorDataset(torch.randn(64, 4))
    trainer = L.Trainer(
        max_epochs=2, accelerator="gpu", devices=1, precision=precision, callbacks=[callback] if callback else [],
        logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, **settings,
    )  # fmt: skip
    trainer.fit(module, DataLoader(rows, 16, shuffle=True), DataLoader(rows, 32))
    return module


def a_study(name: str = "gpu", **options: Any) -> th.Study:
    """A study that sets the learning rate."""
    usual: dict[str, Any] = {"metric": "loss", "mode": "min", "search": "random", "seed": 0}
    return th.Study(name, {"optimizer.lr": 0.02}, **{**usual, **options})


def taken(study: th.Study, number: int = 0) -> list[Snapshot]:
    """The snapshots in the journal of a trial."""
    events = read_journal(study.paths.journal(number))
    return [Snapshot.from_json(event["snapshot"]) for event in events if event["event"] == "snapshot"]


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed", "bf16-true"])
def test_gradients_are_unscaled(precision: str) -> None:
    """As the optimizer sees them, with torch's own scaler of the loss in half precision."""
    from tunehook.integrations.lightning import TuneCallback

    study = a_study(snapshots=th.SnapshotPlan(every=1))
    module = train(TuneCallback(study), precision=precision)
    norms = [snapshot.model_gradient.norm for snapshot in taken(study) if snapshot.model_gradient]
    assert len(norms) == 8
    assert norms == pytest.approx(module.seen, rel=1e-4)


def test_snapshots_change_no_bit() -> None:
    """Neither of the weights, nor of the random numbers of the GPU, of which dropout draws."""
    from tunehook.integrations.lightning import TuneCallback

    states: list[Any] = []
    for snapshots in (th.SnapshotPlan(every=1), False):
        study = a_study(f"bits{len(states)}", snapshots=snapshots)
        weights = train(TuneCallback(study)).state_dict()
        states.append([weights, torch.cuda.get_rng_state()])
    weights = train(None).state_dict()  # the plain script has another learning rate
    assert all(torch.equal(states[0][0][name], states[1][0][name]) for name in weights)
    assert not all(torch.equal(states[0][0][name], weights[name]) for name in weights)
    assert torch.equal(states[0][1], states[1][1])


def test_memory_that_runs_out_is_infeasible() -> None:
    """CUDA's own error."""
    from tunehook.integrations.lightning import TuneCallback

    study = a_study()
    study.optimize(lambda: train(TuneCallback(), fault="memory"), trials=1, progress=False)
    (trial,) = study.trials
    assert trial.outcome.state == "infeasible"
    assert "OutOfMemoryError" in trial.outcome.reason


def train_here() -> None:
    """A training in a process of its own."""
    from tunehook.integrations.lightning import TuneCallback

    warnings.simplefilter("ignore")
    module = train(TuneCallback())
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    print(f"\nsaw {visible} {torch.cuda.device_count()} {sums_of(module.state_dict())}")


def sums_of(weights: Any) -> list[float]:
    """A few numbers that are equal for equal weights."""
    return [float(weight.double().sum()) for weight in weights.values()]


def said(study: th.Study) -> list[str]:
    """What the trainings printed of themselves."""
    lines = [study.paths.output(trial.number).read_text().splitlines() for trial in study.trials]
    return [line for each in lines for line in each if line.startswith("saw ")]


@pytest.mark.slow
@pytest.mark.parametrize(("workers", "gpus", "visible"), [(2, 0, "None"), (1, 1, "0")])
def test_trial_processes(workers: int, gpus: int, visible: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Forked ones begin with the GPU untouched, fresh ones have devices of their own: the bits of one process."""
    from tunehook.integrations.lightning import TuneCallback

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    options: dict[str, Any] = {"metric": "loss", "mode": "min", "search": "grid"}
    there, here = (th.Study(name, {"lr": th.Choice([0.02, 0.03])}, **options) for name in ("there", "here"))
    there.optimize(train_here, trials=2, progress=False, workers=workers, gpus_per_trial=gpus)
    weights: list[Any] = []
    here.optimize(lambda: weights.append(train(TuneCallback()).state_dict()), trials=2, progress=False)
    assert [trial.outcome.state for trial in there.trials] == ["complete"] * 2
    devices = 1 if gpus else torch.cuda.device_count()
    assert sorted(said(there)) == sorted(f"saw {visible} {devices} {sums_of(each)}" for each in weights)


BORN_THERE = """
import json, sys, warnings
warnings.simplefilter("ignore")
import lightning as L, torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
import tunehook as th
from tunehook.integrations.lightning import TuneCallback

class Net(L.LightningModule):
    def __init__(self, hidden=5, lr=0.01):
        super().__init__()
        self.lr = lr
        self.rnn = nn.LSTM(4, hidden, num_layers=2, dropout=0.5, batch_first=True)
        self.head = nn.Sequential(nn.Dropout(0.3), nn.Linear(hidden, 1))
        self.head[1].bias.data += torch.rand(1, device="cuda").to(self.head[1].bias.device)

    def training_step(self, batch, index):
        loss = self.head(self.rnn(batch[0])[0]).pow(2).mean()
        self.log("loss", loss, on_epoch=True, on_step=False)
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=self.lr)

def train(*callbacks, **typed):
    L.seed_everything(3)
    rows = TensorDataset(torch.randn(32, 3, 4))
    trainer = L.Trainer(max_epochs=2, accelerator="gpu", devices=1, callbacks=list(callbacks), logger=False,
                        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)
    if WAY == "there":
        with trainer.init_module():
            net = Net(**typed)
    else:
        net = Net(**typed)
    trainer.fit(net, DataLoader(rows, 8, shuffle=True))
    return [one.cpu() for one in net.state_dict().values()] + [torch.cuda.get_rng_state()]

WAY, VALUES = sys.argv[1], json.loads(sys.argv[2])
tuned = []
study = th.Study("born", VALUES, metric="loss", mode="min", search="grid", snapshots=th.SnapshotPlan(every=1))
study.optimize(lambda: tuned.extend(train(TuneCallback())), trials=1, progress=False)
plain = train(**VALUES)
print([torch.equal(one, other) for one, other in zip(tuned, plain, strict=True)])
"""


@pytest.mark.slow
@pytest.mark.parametrize("way", ["there", "here"])
@pytest.mark.parametrize("values", [{"lr": 0.05}, {"hidden": 7}])
def test_a_module_that_draws_on_the_gpu_first(way: str, values: dict[str, Any], tmp_path: Path) -> None:
    """In a process that did not use it before: constructed there or here, with dropout between recurrent layers."""
    given = [sys.executable, "-c", BORN_THERE, way, json.dumps(values)]
    done = subprocess.run(given, capture_output=True, text=True, timeout=PATIENCE, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout.splitlines()[-1].lower())) == {True}


# What Keras does when it is imported, in a module of its own, which no Lightning is loaded for.
ASKS_FIRST = """
import os
import torch
device = "cuda" if torch.cuda.is_available() else "cpu"
import launch_scripts

def train():
    launch_scripts.steps(1)
    print("summed", torch.ones(3, device=device).sum().item(), "in a child of", os.getppid())
"""


@pytest.mark.slow
@pytest.mark.parametrize("way", ["0", "1"])
def test_a_module_that_asks_for_a_gpu_at_its_top(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Each trial has the GPU: in a fresh process where the driver of CUDA is in use, else perhaps in a forked one."""
    monkeypatch.setenv("PYTORCH_NVML_BASED_CUDA_CHECK", way)
    (tmp_path / f"asks_first_{way}.py").write_text(ASKS_FIRST)
    monkeypatch.syspath_prepend(str(tmp_path))
    study = launch_scripts.study(tmp_path / "s", [0, 1])
    with caplog.at_level("INFO", logger="tunehook"):
        study.optimize(importlib.import_module(f"asks_first_{way}").train, workers=2, progress=False)
    texts = [study.paths.output(trial.number).read_text() for trial in study.trials]
    assert all(text.startswith("summed 3.0 in a child of ") for text in texts), texts
    assert ("GPU" in caplog.text) == (way == "0")
    assert way == "1" or len(set(texts)) == 2  # a forked one is the child of the warm parent


# Each holds its part of the GPU until the three that fit are there together.
SHARES = """
import time
from pathlib import Path
import torch
import tunehook as th

def train():
    part = th.value("x", 0.0)
    held = torch.empty(int(part * torch.cuda.get_device_properties(0).total_memory), dtype=torch.uint8, device="cuda")
    Path(f"holds-{part}").touch()
    for _ in range(600):
        if len(list(Path().glob("holds-*"))) == 3:
            return held.numel()
        time.sleep(0.1)
    raise TimeoutError("the others did not come")
"""


@pytest.mark.slow
def test_four_trials_share_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At once, each with a quarter of its memory; the one that takes more fails alone."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shares_a_gpu.py").write_text(SHARES)
    monkeypatch.syspath_prepend(str(tmp_path))
    parts: Any = [0.05, 0.1, 0.15, 0.3]
    study = launch_scripts.study(tmp_path / "s", parts)
    train = importlib.import_module("shares_a_gpu").train
    study.optimize(train, trials=4, progress=False, workers=4, gpus_per_trial=0.25)
    states = {trial.params["x"]: trial.outcome for trial in study.trials}
    assert [states[part].state for part in (0.05, 0.1, 0.15)] == ["complete"] * 3, states
    assert states[0.3].state in ("infeasible", "failed"), states
    assert "out of memory" in states[0.3].reason
