"""The generators of GPUs, with generators of the CPU in their place: what torch has of them is the same."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tunehook.system.randomness import kept_random, random_state, restore_random


class Gpus:
    """What `torch.cuda` is asked, of GPUs that are not used before `begin`."""

    def __init__(self, patch: pytest.MonkeyPatch, count: int = 2) -> None:
        self.generators: list[torch.Generator] = []
        self.count, self.sets = count, 0
        made = torch.Generator
        patch.setattr(torch.backends.cuda, "is_built", lambda: True)
        patch.setattr(torch, "Generator", lambda *_: made())
        patch.setattr(torch.cuda, "is_initialized", lambda: bool(self.generators))
        patch.setattr(torch.cuda, "device_count", lambda: self.count)
        patch.setattr(torch.cuda, "get_rng_state", lambda index: self.generators[index].get_state())
        patch.setattr(torch.cuda, "get_rng_state_all", lambda: [one.get_state() for one in self.generators])
        patch.setattr(torch.cuda, "set_rng_state", self.set)

    def begin(self, seed: int) -> None:
        """Use them: as torch does then, they are seeded as the CPU was."""
        self.generators = [torch.Generator().manual_seed(seed) for _ in range(self.count)]

    def draw(self) -> list[float]:
        """A number of each."""
        return [torch.rand(1, generator=one).item() for one in self.generators]

    def set(self, state: Any, index: int) -> None:
        """Put one back."""
        self.sets += 1
        self.generators[index].set_state(state)


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> Gpus:
    """Two GPUs that nothing uses yet, in a script with a seed."""
    found = Gpus(monkeypatch)
    torch.manual_seed(5)
    return found


def test_before_a_gpu_is_used(gpus: Gpus) -> None:
    """Its state is the seed with which it will begin: it is put back, whether it was used by then or not."""
    before = random_state()
    restore_random(before)
    gpus.begin(5)
    drawn = gpus.draw()
    assert gpus.draw() != drawn
    restore_random(before)
    assert gpus.draw() == drawn


def test_only_what_has_moved_is_put_back(gpus: Gpus) -> None:
    """To put a state back makes cuDNN draw a new one for recurrent layers, so it is not done for nothing."""
    gpus.begin(5)
    with kept_random():
        pass
    assert gpus.sets == 0
    with kept_random():
        drawn = torch.rand(1, generator=gpus.generators[1]).item()
    assert gpus.sets == 1
    assert torch.rand(1, generator=gpus.generators[1]).item() == drawn


def test_a_machine_with_fewer_gpus(gpus: Gpus) -> None:
    """The states of those that it has are put back."""
    gpus.begin(5)
    before = random_state()
    drawn = gpus.draw()
    gpus.count = 1
    gpus.generators.pop()
    restore_random(before)
    assert gpus.draw() == drawn[:1]
