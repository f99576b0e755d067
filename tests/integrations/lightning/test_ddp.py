"""Two ranks train with the same values, stop at the same step, and equal the plain script to the last bit."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import torch

import tunehook as th
from tunehook.record.journal import read_journal
from tunehook.snapshot.values import Snapshot
from waiting import PATIENCE
from warm import python

pytestmark = pytest.mark.slow

SCRIPT = """
import importlib, json, sys, warnings
warnings.filterwarnings("ignore")
options = json.loads(sys.argv[1])
pl = importlib.import_module(options["namespace"])
import optuna, torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
import tunehook as th
from tunehook.integrations.lightning import TuneCallback


class Net(pl.LightningModule):
    def __init__(self, hidden=8, lr=0.1, dropout=0.3):
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(nn.Linear(4, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, 1))

    def training_step(self, batch, index):
        return self.net(batch[0]).pow(2).mean()

    def validation_step(self, batch, index):
        self.log("val_loss", self.net(batch[0]).pow(2).mean(), sync_dist=True)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=self.hparams.lr)


class Holder(pl.LightningModule):
    # It is handed its network and its optimizer.

    def __init__(self, net, optimizer):
        super().__init__()
        self.net, self.optimizer = net, optimizer

    training_step, validation_step = Net.training_step, Net.validation_step

    def configure_optimizers(self):
        return self.optimizer


class Meddler(pl.Callback):
    def on_fit_start(self, trainer, module):
        if options.get("meddle_on_rank") == trainer.global_rank:
            module.hparams["lr"] = 77.0


def train(*callbacks, batch_size=8, **values):
    pl.seed_everything(3)
    data = TensorDataset(torch.randn(64, 4, generator=torch.Generator().manual_seed(0)))
    if options.get("hands_over"):
        inner = nn.Linear(4, 1)
        net = Holder(inner, torch.optim.SGD(inner.parameters(), lr=values.get("lr", 0.1)))
    else:
        net = Net(**values)
    trainer = pl.Trainer(
        max_epochs=6, accelerator="cpu", devices=2, strategy=options.get("strategy", "ddp"),
        callbacks=[*callbacks, Meddler()], logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(net, DataLoader(data, batch_size=batch_size, shuffle=True), DataLoader(data, batch_size=8))
    torch.save(dict(net.state_dict()), f"weights-{trainer.global_rank}.pt")
    with open(f"seen-{trainer.global_rank}.jsonl", "a") as file:
        print(json.dumps([trainer.global_step, trainer.current_epoch, dict(net.hparams)]), file=file)


def read_and_train():
    for _ in range(options.get("fits", 1)):
        train(TuneCallback(), hidden=2 * th.value("hidden", 4), batch_size=th.value("batch_size", 8))
    with open(f"ended-{th.current().number}-{torch.distributed.get_rank()}", "w"):
        pass
    return 0.5


if __name__ == "__main__":
    if options["mode"] == "plain":
        train(**options["values"])
    elif options["mode"] == "active":
        train(TuneCallback())
    else:
        space = {name: th.Float(*value) if isinstance(value, list) else value
                 for name, value in options["values"].items()}
        pruner = optuna.pruners.ThresholdPruner(upper=0.0, n_warmup_steps=3) if options.get("prune") else None
        stopper = pruner or options.get("stopper")
        study = th.Study("ranks", space, metric=options.get("metric", "val_loss"), mode="min", seed=1,
                         search="random", stopper=stopper, objective="last",
                         snapshots=th.SnapshotPlan(options["names"], every=5) if "names" in options else False)
        if "first" in options:
            study.enqueue(options["first"])
        if options["mode"] == "callback":
            train(TuneCallback(study))
        else:
            reads = options["mode"] == "reading"
            study.optimize(read_and_train if reads else lambda: train(TuneCallback()), trials=options["trials"],
                           progress=False)
    if torch.distributed.is_initialized():  # torch may abort a process that ends without it
        torch.distributed.destroy_process_group()
"""


def run(
    folder: Path, *, fails: bool = False, is_second: bool = False, given: Mapping[str, str] = MappingProxyType({}),
    launcher: Sequence[str] = (), interpreter: str = "", **options: Any,
) -> str:  # fmt: skip
    """Run the script in a folder of its own, where a launcher starts its ranks by it; returns what it printed.

    It is forked, as its ranks are, unless there is an interpreter for both.
    """
    is_new = not folder.exists()
    folder.mkdir(exist_ok=True)
    script = folder / "train.py"
    script.write_text(SCRIPT)
    done = subprocess.run(
        [interpreter or python(), *launcher, str(script), json.dumps({"namespace": "lightning.pytorch", **options})],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env={**os.environ, "OMP_NUM_THREADS": "1", **given},
    )
    said = done.stdout + done.stderr
    aborted = "terminate called without an active exception" in said
    if aborted and is_new and not is_second:
        # Seen on a loaded machine: a thread of torch outlives a rank that has ended its work, and aborts it at exit.
        # Where the rank is a spawned one, its trial fails and the script goes on.
        shutil.rmtree(folder)
        more: dict[str, Any] = {"given": given, "launcher": launcher, "interpreter": interpreter}
        return run(folder, fails=fails, is_second=True, **more, **options)
    assert (done.returncode != 0) == fails, said
    return said


def weights(folder: Path, rank: int = 0) -> dict[str, torch.Tensor]:
    """The weights that a rank ended with."""
    loaded: dict[str, torch.Tensor] = torch.load(folder / f"weights-{rank}.pt", weights_only=True)
    return loaded


def seen(folder: Path, rank: int = 0) -> list[Any]:
    """Last step, epoch and hyperparameters of each fit of a rank."""
    return [json.loads(line) for line in (folder / f"seen-{rank}.jsonl").read_text().splitlines()]


def study_in(folder: Path, names: list[str]) -> th.Study:
    """The trials as the storage has them; read past the study's own check of the space."""
    import optuna

    storage = f"sqlite:///{folder}/tunehook-studies/ranks/study.db"
    kept = optuna.load_study(study_name="ranks", storage=storage).user_attrs["tunehook:study"]
    space = th.Space.from_description(kept["space"])
    assert sorted(space.names) == sorted(names)
    return th.Study(
        "ranks", space, metric=kept["metric"], mode="min", search="random", storage=storage, objective="last",
        folder=folder / "tunehook-studies/ranks",
    )  # fmt: skip


def assert_equal(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> None:
    """Equal to the last bit."""
    assert left.keys() == right.keys()
    assert all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.parametrize("namespace", ["lightning.pytorch", "pytorch_lightning"])
def test_script_launcher_equals_the_plain_script(tmp_path: Path, namespace: str) -> None:
    """Shapes, learning rate and batch size under two-process DDP give the weights of the typed-in script."""
    values = {"hidden": 16, "lr": 0.02, "batch_size": 4}
    run(tmp_path / "plain", mode="plain", namespace=namespace, values=values)
    run(tmp_path / "tuned", mode="callback", namespace=namespace, values=values, interpreter=sys.executable)
    for rank in (0, 1):
        assert_equal(weights(tmp_path / "tuned", rank), weights(tmp_path / "plain", rank))
        assert seen(tmp_path / "tuned", rank) == seen(tmp_path / "plain", rank)
    assert len(study_in(tmp_path / "tuned", list(values)).trials) == 1


def test_rank_0_takes_the_snapshots(tmp_path: Path) -> None:
    """Once each, of weights that are the same on all ranks; the training stays the plain one, to the last bit."""
    values = {"hidden": 8, "lr": 0.02}
    run(tmp_path / "plain", mode="plain", values=values)
    run(tmp_path / "tuned", mode="callback", values=values, names=["*.weight"])
    for rank in (0, 1):
        assert_equal(weights(tmp_path / "tuned", rank), weights(tmp_path / "plain", rank))
    journal = tmp_path / "tuned/tunehook-studies/ranks/trial-0000/journal.jsonl"
    taken = [Snapshot.from_json(event["snapshot"]) for event in read_journal(journal) if event["event"] == "snapshot"]
    assert [snapshot.step for snapshot in taken] == [0, 5, 10, 15, 20, 24]
    assert list(taken[-1].parameters) == list(taken[-1].gradients) == ["net.0.weight", "net.3.weight"]
    kept = torch.cat([value.flatten() for name, value in weights(tmp_path / "tuned").items() if "weight" in name])
    assert taken[-1].model.norm == pytest.approx(float(kept.double().norm()), rel=1e-6)


def test_all_ranks_hear_of_a_pattern_that_fits_nothing(tmp_path: Path) -> None:
    """None of them waits for the others in the first step."""
    said = run(tmp_path, fails=True, mode="callback", values={"lr": 0.02}, names=["encoder.*"])
    assert "The pattern 'encoder.*' of names fits no parameter. There are: net.0.weight" in said


def test_ranks_ask_once_and_agree_over_several_trials(tmp_path: Path) -> None:
    """Three trials of study.optimize: three are asked for, and both ranks train with the values of each."""
    run(tmp_path, mode="optimize", trials=3, values={"lr": [0.001, 0.05], "dropout": [0.0, 0.5]})
    trials = study_in(tmp_path, ["lr", "dropout"]).trials
    assert [trial.outcome.state for trial in trials] == ["complete"] * 3
    assert seen(tmp_path, 0) == seen(tmp_path, 1)
    assert [fit[2]["lr"] for fit in seen(tmp_path)] == [trial.params["lr"] for trial in trials]


def test_ranks_of_a_sweeps_run_have_its_values(tmp_path: Path) -> None:
    """A script that W&B's agent runs: both ranks train with the values of the sweep, to the end."""
    values = tmp_path / "config-run1.yaml"
    values.write_text("wandb_version: 1\n\nlr:\n  value: 0.02\nhidden:\n  value: 16\ndata.batch_size:\n  value: 4\n")
    given = {"WANDB_SWEEP_ID": "s1", "WANDB_RUN_ID": "run1", "WANDB_SWEEP_PARAM_PATH": str(values)}
    run(tmp_path, mode="active", given=given)
    assert seen(tmp_path, 0) == seen(tmp_path, 1) == [[48, 6, {"hidden": 16, "lr": 0.02, "dropout": 0.3}]]


def test_ranks_stop_at_the_same_step(tmp_path: Path) -> None:
    """A stopping rule ends both ranks after the third of six epochs, and the trial is pruned."""
    run(tmp_path, mode="callback", prune=True, values={"lr": 0.01})
    assert seen(tmp_path, 0) == seen(tmp_path, 1)
    assert seen(tmp_path)[0][1] == 3
    (trial,) = study_in(tmp_path, ["lr"]).trials
    assert trial.outcome.state == "pruned"


def test_ranks_pause_and_go_on_bit_for_bit(tmp_path: Path) -> None:
    """The better trial waits after three epochs, and ends on both ranks as if it was trained in one go."""
    run(tmp_path / "plain", mode="plain", values={"lr": 0.05})
    given: dict[str, Any] = {"values": {"lr": [0.001, 0.05]}, "first": {"lr": 0.05}}
    run(tmp_path / "paused", mode="optimize", stopper="pause", trials=2, **given)
    assert seen(tmp_path / "paused", 0) == seen(tmp_path / "paused", 1)
    assert [fit[1] for fit in seen(tmp_path / "paused")] == [3, 3, 6]
    for rank in (0, 1):
        assert_equal(weights(tmp_path / "paused", rank), weights(tmp_path / "plain", rank))
    best, other = study_in(tmp_path / "paused", ["lr"]).trials
    assert (best.outcome.state, other.outcome.state) == ("complete", "paused")


def test_an_error_on_one_rank_is_an_error_on_all(tmp_path: Path) -> None:
    """Rank 1 loses its value: both ranks end, rank 0 with the message of rank 1, and the trial has failed."""
    said = run(tmp_path, mode="callback", meddle_on_rank=1, values={"lr": 0.01}, fails=True)
    assert "rank 1: Injected values were lost before the first step:" in said
    (trial,) = study_in(tmp_path, ["lr"]).trials
    assert trial.outcome.state == "failed"
    assert "model.lr holds 77.0 instead of 0.01 (hyperparameter 'lr')" in (trial.outcome.traceback or "")


def test_an_unknown_name_is_the_same_error_on_both_ranks(tmp_path: Path) -> None:
    """No rank starts to train when a name has no slot."""
    said = run(tmp_path, mode="optimize", trials=2, values={"hiden": 4}, fails=True)
    assert "There is nothing called 'hiden' to inject. Did you mean 'hidden'" in said
    assert not (tmp_path / "seen-0.jsonl").exists()
    assert len(study_in(tmp_path, ["hiden"]).trials) == 1


def test_spawned_ranks_equal_the_plain_script(tmp_path: Path) -> None:
    """With spawn the parent asks, rank 0 of the spawned processes trains and tells."""
    values = {"lr": 0.02, "batch_size": 4}
    run(tmp_path / "plain", mode="plain", strategy="ddp_spawn", values=values)
    run(tmp_path / "tuned", mode="callback", strategy="ddp_spawn", values=values)
    assert_equal(weights(tmp_path / "tuned"), weights(tmp_path / "plain"))
    (trial,) = study_in(tmp_path / "tuned", list(values)).trials
    assert trial.outcome.state == "complete"


@pytest.mark.parametrize("strategy", ["ddp_spawn", "ddp_fork"])
def test_spawned_ranks_tune_several_trials(tmp_path: Path, strategy: str) -> None:
    """The loop stays in the parent and takes each trial's end from its journal."""
    run(tmp_path, mode="optimize", strategy=strategy, trials=2, values={"lr": [0.001, 0.05]})
    trials = study_in(tmp_path, ["lr"]).trials
    assert [trial.outcome.state for trial in trials] == ["complete", "complete"]
    assert len({trial.value for trial in trials}) == 2


@pytest.mark.parametrize("mode", ["optimize", "callback"])
def test_spawned_ranks_train_another_shape(tmp_path: Path, mode: str) -> None:
    """The model of the parent is made with it, as if it had been typed in."""
    said = run(tmp_path / "tuned", mode=mode, strategy="ddp_spawn", trials=1, values={"hidden": 16})
    (trial,) = study_in(tmp_path / "tuned", ["hidden"]).trials
    assert trial.outcome.state == "complete", f"{trial.outcome}\n{said}"
    run(tmp_path / "plain", mode="plain", strategy="ddp_spawn", values={"hidden": 16})
    assert_equal(weights(tmp_path / "tuned"), weights(tmp_path / "plain"))


@pytest.mark.parametrize("strategy", ["ddp_spawn", "ddp_fork"])
def test_processes_of_a_fit_are_handed_an_optimizer(tmp_path: Path, strategy: str) -> None:
    """They do not see the call that made it, into which the value has gone before they are started."""
    given: dict[str, Any] = {"strategy": strategy, "hands_over": True, "values": {"lr": 0.3}}
    said = run(tmp_path / "tuned", mode="optimize", trials=1, **given)
    (trial,) = study_in(tmp_path / "tuned", ["lr"]).trials
    assert trial.outcome.state == "complete", f"{trial.outcome}\n{said}"
    run(tmp_path / "plain", mode="plain", **given)
    assert_equal(weights(tmp_path / "tuned"), weights(tmp_path / "plain"))
    run(tmp_path / "other", mode="plain", **{**given, "values": {}})
    assert not torch.equal(weights(tmp_path / "tuned")["net.weight"], weights(tmp_path / "other")["net.weight"])


def test_the_script_reads_the_same_values_on_all_ranks(tmp_path: Path) -> None:
    """Of the first trial, in which the other ranks are started, and of later ones; what rank 0 returns counts."""
    run(tmp_path / "x", mode="reading", values={"hidden": 5, "batch_size": 4, "lr": [0.01, 0.1]}, trials=2)
    study = th.Study.open("ranks", folder=tmp_path / "x" / "tunehook-studies" / "ranks")
    rates = [trial.params["lr"] for trial in study.trials]
    run(tmp_path / "plain", mode="plain", values={"hidden": 10, "batch_size": 4, "lr": rates[-1]})
    for rank in (0, 1):
        assert [hparams for *_, hparams in seen(tmp_path / "x", rank)] == [
            {"hidden": 10, "lr": lr, "dropout": 0.3} for lr in rates
        ]
        assert_equal(weights(tmp_path / "x", rank), weights(tmp_path / "plain", rank))
    assert [trial.value for trial in study.trials] == [0.5, 0.5]


TORCHRUN = ("-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "0", "--rdzv-backend", "c10d",
            "--rdzv-endpoint", "localhost:0")  # fmt: skip


def test_ranks_of_torchrun_train_another_shape(tmp_path: Path) -> None:
    """They are told of the first trial in a fit that is left before it begins, and of later ones before train."""
    run(tmp_path / "tuned", mode="optimize", launcher=TORCHRUN, trials=2, values={"hidden": 16, "lr": [0.01, 0.1]})
    study = th.Study.open("ranks", folder=tmp_path / "tuned" / "tunehook-studies" / "ranks")
    rates = [trial.params["lr"] for trial in study.trials]
    assert len(set(rates)) == 2
    run(tmp_path / "plain", mode="plain", values={"hidden": 16, "lr": rates[-1]})
    for rank in (0, 1):
        assert_equal(weights(tmp_path / "tuned", rank), weights(tmp_path / "plain", rank))
        assert [hparams["lr"] for *_, hparams in seen(tmp_path / "tuned", rank)] == rates


# What srun does: it starts each rank with SLURM's variables.
SRUN = """
import os, socket, subprocess, sys
with socket.socket() as free:
    free.bind(("localhost", 0))
    os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"] = "localhost", str(free.getsockname()[1])
said = {"JOB_ID": 7, "JOB_NAME": "tune", "NTASKS": 2, "NTASKS_PER_NODE": 2, "NNODES": 1, "NODEID": 0,
        "NODELIST": "localhost", "JOB_NODELIST": "localhost"}
ranks = [subprocess.Popen([sys.executable, *sys.argv[1:]], env=os.environ | {
    f"SLURM_{name}": str(value) for name, value in (said | {"PROCID": rank, "LOCALID": rank}).items()
}) for rank in range(2)]
sys.exit(max(rank.wait() for rank in ranks))
"""


@pytest.mark.parametrize("launcher", [TORCHRUN, ("-c", SRUN)], ids=["torchrun", "srun"])
def test_ranks_that_were_started_from_outside_read_the_same_values(tmp_path: Path, launcher: tuple[str, ...]) -> None:
    """All of them, in the script, before the first fit; what goes into a call is there in the second one of train."""
    values = {"hidden": 5, "batch_size": 4, "lr": 0.02}
    run(tmp_path / "x", mode="reading", launcher=launcher, values=values, trials=2)
    run(tmp_path / "plain", mode="plain", values={**values, "hidden": 10})
    for rank in (0, 1):
        assert [hparams["hidden"] for *_, hparams in seen(tmp_path / "x", rank)] == [10, 10]
        assert_equal(weights(tmp_path / "x", rank), weights(tmp_path / "plain", rank))


def test_all_ranks_leave_a_stopped_trial_at_its_next_fit(tmp_path: Path) -> None:
    """None of them waits for the others in a fit that does not begin, and the next trial follows."""
    run(tmp_path / "x", mode="reading", values={"lr": [0.01, 0.1]}, trials=2, fits=2, prune=True)
    study = th.Study.open("ranks", folder=tmp_path / "x" / "tunehook-studies" / "ranks")
    assert [trial.outcome.state for trial in study.trials] == ["pruned", "pruned"]
    assert [len(seen(tmp_path / "x", rank)) for rank in (0, 1)] == [2, 2]
    assert list((tmp_path / "x").glob("ended-*")) == []
