"""Population-based training in Lightning: what is copied, what changes, and what cannot."""

from __future__ import annotations

import hashlib
import os
import signal
from collections.abc import Callable
from typing import Any

import lightning as L
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import tunehook as th
from accelerator import ACCELERATOR
from tunehook.integrations.lightning import TuneCallback
from tunehook.record import checkpoints_of
from tunehook.trial import TrialError

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning warns of small data, few workers, missing loggers ...
SPACE = {
    "optimizer.lr": th.Float(1e-3, 1e-1, log=True),
    "optimizer.momentum": th.Float(0.1, 0.95),
    "optimizer.weight_decay": th.Float(1e-5, 1e-2, log=True),
    "dropout": th.Float(0.1, 0.5),
    "batch_size": th.Choice([8, 16, 32]),
}
EPOCHS, INTERVAL, POPULATION = 5, 2, 4


def bits(module: Any, optimizer: Any) -> str:
    """The weights and all that the optimizer keeps, in short."""
    kept = [one["momentum_buffer"] for one in optimizer.state.values() if "momentum_buffer" in one]
    tensors = [*module.state_dict().values(), *kept]
    return hashlib.sha256(b"".join(one.detach().cpu().numpy().tobytes() for one in tensors)).hexdigest()


class Seen:
    """What the first batch of each trial finds, and what its last one leaves."""

    def __init__(self) -> None:
        self.first: dict[int, dict[str, Any]] = {}
        self.last: dict[int, str] = {}
        self.dies_in: int | None = None
        self.is_killed = False

    def start(self, module: Any, batch: Any) -> None:
        trial = th.current()
        assert trial is not None
        optimizer = module.trainer.optimizers[0]
        group = optimizer.param_groups[0]
        self.first.setdefault(trial.number, {
            "bits": bits(module, optimizer),
            "epoch": module.current_epoch,
            **{f"optimizer.{key}": group[key] for key in ("lr", "momentum", "weight_decay")},
            "dropout": module.net[1].p,
            "batch_size": len(batch[0]),
        })  # fmt: skip
        if trial.number == self.dies_in and trial.attempt == 0 and module.current_epoch % INTERVAL:
            if self.is_killed:
                os.kill(os.getpid(), signal.SIGKILL)
            raise KeyboardInterrupt

    def end(self, module: Any) -> None:
        trial = th.current()
        assert trial is not None
        self.last[trial.number] = bits(module, module.trainer.optimizers[0])


def training(seen: Seen, *, decay: float | None = None) -> Callable[[], None]:
    """A training with shuffled batches, dropout and momentum."""

    class Net(L.LightningModule):
        def __init__(self, dropout: float = 0.2) -> None:
            super().__init__()
            self.net = nn.Sequential(nn.Linear(4, 8), nn.Dropout(dropout), nn.Linear(8, 1))

        def training_step(self, batch: Any, _: int) -> Any:
            return (self.net(batch[0]) - batch[0][:, :1]).pow(2).mean()

        def validation_step(self, batch: Any, _: int) -> None:
            self.log("loss", (self.net(batch[0]) - batch[0][:, :1]).pow(2).mean())

        def configure_optimizers(self) -> Any:
            made = torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
            return made if decay is None else ([made], [torch.optim.lr_scheduler.ExponentialLR(made, decay)])

        def on_train_batch_start(self, batch: Any, _: int) -> None:
            seen.start(self, batch)

        def on_train_batch_end(self, *_: Any) -> None:
            seen.end(self)

    def train() -> None:
        torch.manual_seed(3)
        data = TensorDataset(torch.randn(64, 4))
        trainer = L.Trainer(
            max_epochs=EPOCHS, accelerator=ACCELERATOR, callbacks=[TuneCallback()], logger=False,
            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        )  # fmt: skip
        trainer.fit(Net(), DataLoader(data, 16, shuffle=True), DataLoader(data, 64))

    return train


def study(name: str = "pbt", space: dict[str, Any] = SPACE, **options: Any) -> th.Study:
    """A population of four."""
    search = th.PBT(population=POPULATION, interval=INTERVAL)
    return th.Study(name, space, metric="loss", mode="min", search=search, seed=1, snapshots=False, **options)


def test_copies_and_new_values_are_there_in_the_next_step() -> None:
    """Each interval begins with the bits of its parent, and with its own values; the schedule that won is replayed.

    The model that it has led to is there.
    """
    seen, made = Seen(), study(keep="best")
    made.optimize(training(seen), progress=False)

    trials = made.trials
    places = [(one.lineage.generation, one.lineage.member) for one in trials if one.lineage is not None]
    assert places == [(generation, member) for generation in range(3) for member in range(POPULATION)]
    assert made.counts() == {"complete": 12}
    copies = 0
    for trial in trials:
        assert trial.lineage is not None
        first, parent = dict(seen.first[trial.number]), trial.lineage.parent
        assert first.pop("epoch") == trial.lineage.generation * INTERVAL
        found = first.pop("bits")
        assert first == dict(trial.params), trial.number
        if parent is not None:
            assert found == seen.last[parent], trial.number
            is_copy = made.trials[parent].lineage.member != trial.lineage.member  # type: ignore[union-attr]
            assert (dict(made.trials[parent].params) != dict(trial.params)) == is_copy
            copies += is_copy
    assert copies == 2
    for number in range(8):  # nobody goes on from them any more
        key = made._ledger.as_trial(made._ledger.numbered(number)).key
        assert not checkpoints_of(made.paths.trial(number), key).exists()

    model = made.best_model(training(Seen()))
    torch.manual_seed(3)
    data = torch.randn(64, 4)
    with torch.no_grad():
        assert float((model.net(data) - data[:, :1]).pow(2).mean()) == made.best.value

    again = Seen()
    replay = made.replay_schedule(training(again))
    won = made.schedule()
    assert [dict(one.params) for one in replay.trials] == [dict(one.params) for one in won]
    assert replay.trials[-1].value == made.best.value
    assert again.last[len(won) - 1] == seen.last[made.best.number]
    table = made.dataframe()
    assert list(table["member"]) == [0, 1, 2, 3] * 3
    assert list(table["parent"])[4:] == [one.lineage.parent for one in trials[4:]]  # type: ignore[union-attr]


@pytest.mark.slow
def test_an_interrupted_population_comes_to_the_same() -> None:
    """One that is interrupted, or trained by two workers of which one is killed, has all values as without that."""
    space = {name: SPACE[name] for name in ("optimizer.lr", "dropout")}
    whole, broken = Seen(), Seen()
    broken.dies_in = 6
    wanted = study("whole", space)
    wanted.optimize(training(whole), progress=False)

    made = study("broken", space)
    with pytest.raises((KeyboardInterrupt, SystemExit)):  # Lightning makes one of the other
        made.optimize(training(broken), progress=False)
    made = study("broken", space)
    made.optimize(training(broken), progress=False)

    killed = Seen()
    killed.dies_in, killed.is_killed = 6, True
    beside = study("beside", space)
    beside.optimize(training(killed), workers=2, progress=False)

    def told(one: th.Study) -> list[Any]:
        ended = [trial for trial in one.trials if trial.outcome.state == "complete"]
        return sorted((t.lineage.generation, t.lineage.member, t.value, str(t.params)) for t in ended if t.lineage)

    assert told(made) == told(beside) == told(wanted)
    assert made.counts() == beside.counts() == {"complete": 12, "interrupted": 1}


def test_a_schedule_goes_on_with_the_new_rate() -> None:
    """Where a scheduler has lowered the rate, a new one is lowered as much."""
    seen = Seen()
    made = study(space={"optimizer.lr": SPACE["optimizer.lr"]})
    made.optimize(training(seen, decay=0.5), progress=False)

    places: list[Any] = [one.lineage for one in made.trials]
    assert any(one.member != places[one.parent].member for one in places[POPULATION:])
    for trial in made.trials:
        first = seen.first[trial.number]
        assert first["optimizer.lr"] == pytest.approx(trial.params["optimizer.lr"] * 0.5 ** first["epoch"], rel=1e-12)


@pytest.mark.parametrize(
    ("space", "said"),
    [
        ({"hidden": th.Choice([4, 8])}, r"'hidden' \(model.hidden = \d\) .* the weights may depend on it"),
        ({"spread": th.Float(0.1, 1)}, r"'spread' .* only the constructor uses it, whose weights are restored"),
        ({"optimizer.nesterov": th.Choice([True, False])}, "what an optimizer keeps depends on it"),
        ({"max_epochs": th.Int(2, 9)}, "the Trainer's plan of the whole training follows from it"),
        ({"scheduler.gamma": th.Float(0.1, 1)}, "a scheduler goes on with what is in its checkpoint"),
        ({"penalty": th.Float(0.1, 1), "hidden": 4}, None),
    ],
)
def test_what_cannot_change_in_the_middle_is_an_error(space: dict[str, Any], said: str | None) -> None:
    """A value that a restored checkpoint would overwrite, or that its weights depend on, is an error at the start."""

    class Net(L.LightningModule):
        def __init__(self, hidden: int = 8, spread: float = 0.5, penalty: float = 0.1) -> None:
            super().__init__()
            self.penalty = penalty
            self.first, self.last = nn.Linear(4, hidden), nn.Linear(hidden, 1)
            nn.init.normal_(self.first.weight, std=spread)

        def training_step(self, batch: Any, _: int) -> Any:
            return self.last(self.first(batch[0])).pow(2).mean() * self.penalty

        def on_train_epoch_end(self) -> None:
            self.log("loss", self.first.weight.sum())

        def configure_optimizers(self) -> Any:
            made = torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9, nesterov=False)
            return [made], [torch.optim.lr_scheduler.ExponentialLR(made, gamma=0.9)]

    def train() -> None:
        trainer = L.Trainer(
            max_epochs=2, accelerator=ACCELERATOR, callbacks=[TuneCallback()], logger=False,
            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        )  # fmt: skip
        trainer.fit(Net(), DataLoader(TensorDataset(torch.randn(16, 4)), 8))

    made = th.Study("fixed", space, metric="loss", mode="min", search=th.PBT(population=2), snapshots=False, seed=0)
    if said is None:
        made.optimize(train, progress=False)
        assert made.counts() == {"complete": 4}
        return
    with pytest.raises(th.InjectionError, match=f"cannot change in the middle of a training, .*{said}|{said}"):
        made.optimize(train, progress=False)
    assert made.counts() == {"failed": 1}


def test_a_training_without_a_fit_is_an_error() -> None:
    """There is nothing that a member could go on from."""
    made = study(space={"x": th.Float(0, 1)}, max_failures=1)

    with pytest.raises(TrialError, match="search='pbt' goes on from checkpoints of a fit, and the training has called"):
        made.optimize(lambda: {"loss": th.value("x", 0.5)}, progress=False)
