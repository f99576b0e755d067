"""One trial, one run, also without a recorder: what trainings open of W&B by themselves, read from the run files."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import tunehook as th
from run_file import RunFile, read_runs
from tunehook.integrations.lightning import TuneCallback
from tunehook.launch import ranks
from tunehook.session.in_progress import active, set_broadcast
from tunehook.trial.errors import TrialError
from tunehook.trial.values import Outcome, Trial
from waiting import PATIENCE

wandb = pytest.importorskip("wandb")
from wandb.sdk.lib import module  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning warns of small data, few workers, one logger for all ...

INSIDE = "Every trial needs a run of its own: call wandb.init inside the training function, without a fixed id."
LOGGER = "Every trial needs a run of its own: make the WandbLogger inside the training function, without a fixed id."


@pytest.fixture(autouse=True)
def _offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    monkeypatch.setenv("WANDB_SILENT", "true")
    wandb.teardown()
    yield
    wandb.teardown()
    module.unset_globals()  # type: ignore[no-untyped-call]


def make_study(name: str = "lr", **options: Any) -> th.Study:
    """A study without recorders."""
    return th.Study(
        "runs", {name: th.Float(0.001, 0.1)}, metric="val_loss", mode="min", search="random", max_failures=1,
        snapshots=False, **options,
    )  # fmt: skip


def fit(pl: Any, *callbacks: Any, logger: Any = False, error: Exception | None = None) -> Any:
    """Train a small net for two epochs."""

    class Net(pl.LightningModule):  # type: ignore[misc]
        def __init__(self, lr: float = 0.01) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.net = nn.Linear(4, 1)

        def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
            if error is not None:
                raise error
            loss: Tensor = self.net(batch[0]).pow(2).mean()
            return loss

        def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
            self.log("val_loss", self.net(batch[0]).pow(2).mean())

        test_step = validation_step

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=self.hparams["lr"])

    loader = DataLoader(TensorDataset(torch.ones(16, 4)), batch_size=8)
    trainer = pl.Trainer(
        max_epochs=2, accelerator="cpu", callbacks=[*callbacks], logger=logger, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, log_every_n_steps=1,
    )  # fmt: skip
    trainer.fit(Net(), loader, loader)
    return trainer, loader


def report(*loggers: object) -> None:
    """A training of the active trial without a framework."""
    session = active()
    assert session is not None
    session.ready(loggers=loggers)
    session.report(1, {"val_loss": 0.5})


def settle(folder: Path) -> list[RunFile]:
    """The runs below a folder, when all that is open has ended."""
    wandb.teardown()
    return read_runs(folder)


def opens(pl: Any, how: str) -> Callable[[], Any]:
    """A training that opens a run in one of the ways in which users do, and leaves it open."""

    class Late(pl.Callback):  # type: ignore[misc]
        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            wandb.init(project="mine", config={"lr": pl_module.hparams["lr"]})

        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            wandb.log({"val_loss": 0.5})

    class Logs(pl.Callback):  # type: ignore[misc]
        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            wandb.config.update(dict(pl_module.hparams), allow_val_change=True)
            wandb.log({"val_loss": 0.5})

    def train() -> Any:
        if how == "logger":
            return fit(pl, TuneCallback(), logger=pl.loggers.WandbLogger(project="mine", save_dir="."))
        if how == "given run":
            given = wandb.init(project="mine", reinit="create_new")
            return fit(pl, TuneCallback(), logger=pl.loggers.WandbLogger(experiment=given))
        if how == "wandb.init":
            wandb.init(project="mine")
            return fit(pl, TuneCallback(), Logs())
        return fit(pl, TuneCallback(), Late())

    return train


@pytest.mark.parametrize("how", ["logger", "given run", "wandb.init", "after fit began"])
def test_three_trials_are_three_runs(pl: Any, tmp_path: Path, how: str) -> None:
    """Whatever way a training opens its run, the next trial has another one, and none stays open."""
    study = make_study()
    study.optimize(opens(pl, how), trials=3, progress=False)
    assert wandb.run is None
    runs = read_runs(tmp_path)
    assert len({run.id for run in runs}) == 3
    assert [run.config["lr"] for run in runs] == [trial.params["lr"] for trial in study.trials]
    assert [(run.project, run.exit_code, len(run.column("val_loss"))) for run in runs] == [("mine", 0, 2)] * 3


def test_a_failed_trial_has_a_failed_run(one: Any, tmp_path: Path) -> None:
    """The exit code of the run is that of the trial's outcome."""

    def train() -> None:
        logger = one.loggers.WandbLogger(project="mine", save_dir=".")
        fit(one, TuneCallback(), logger=logger, error=ZeroDivisionError("mine"))

    with pytest.raises(th.StudyError):
        make_study().optimize(train, trials=2, progress=False)
    (run,) = read_runs(tmp_path)
    assert run.exit_code == 1


def test_a_trainer_that_is_kept_tests_in_the_same_run(one: Any, tmp_path: Path) -> None:
    """After the study trainer.test goes on in the trial's run, as it does with a recorder."""
    kept: list[Any] = []
    make_study().optimize(lambda: kept.append(opens(one, "logger")()), trials=2, progress=False)
    trainer, loader = kept[0]
    trainer.test(trainer.lightning_module, loader, verbose=False)
    first, second, again = settle(tmp_path)
    assert first.id == again.id != second.id
    assert len(again.column("val_loss")) == 1


def test_a_logger_for_all_trials_is_refused(one: Any, tmp_path: Path) -> None:
    """A WandbLogger that is made outside of the training function serves one trial; the second is an error at once."""
    logger = one.loggers.WandbLogger(project="mine", save_dir=".", id="for-all")
    message = (
        "The WandbLogger of trial-0001 of study 'runs' holds the W&B run 'for-all', which belongs to trial-0000 of "
        f"study 'runs'. {LOGGER}"
    )
    with pytest.raises(TrialError, match=f"^{re.escape(message)}$"):
        make_study().optimize(lambda: fit(one, TuneCallback(), logger=logger), trials=3, progress=False)
    assert [len(run.column("val_loss")) for run in settle(tmp_path)] == [2, 0]


@pytest.mark.parametrize("where", ["variable", "argument", "after the fit began"])
def test_one_id_for_all_trials_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    """A fixed id, given to wandb.init or in WANDB_RUN_ID, would put all trials into one run."""
    fixed = f"fixed-{where}".replace(" ", "-")
    if where == "variable":
        monkeypatch.setenv("WANDB_RUN_ID", fixed)
        wandb.teardown()  # it is read once

    def train() -> None:
        begin = {} if where == "variable" else {"id": fixed}
        if where == "after the fit began":
            report()
            wandb.init(project="mine", **begin)
            return
        wandb.init(project="mine", **begin)
        report()
        wandb.log({"seen": 1})

    message = (
        f"The training of trial-0001 of study 'runs' holds the W&B run '{fixed}', which belongs to trial-0000 of "
        f"study 'runs'. {INSIDE}"
    )
    with pytest.raises(TrialError, match=f"^{re.escape(message)}$"):
        make_study().optimize(train, trials=3, progress=False)
    assert sum(len(run.column("seen")) for run in settle(tmp_path)) == (where != "after the fit began")


SCRIPT = """
import sys
import wandb
import tunehook as th
from tunehook.session import active


def train():
    wandb.init(project="mine", **({"id": "shared"} if sys.argv[1] != "workers" else {}))
    active().ready()
    active().report(1, {"val_loss": 0.5})
    if sys.argv[1] == "ends":
        raise KeyboardInterrupt
    if sys.argv[1] == "workers" and active().trial.number == 1:
        raise ZeroDivisionError


if __name__ == "__main__":
    study = th.Study("runs", {"lr": th.Float(0.001, 0.1)}, metric="val_loss", mode="min", search="random")
    study.optimize(train, trials=2, workers=2 if sys.argv[1] == "workers" else None, progress=False)
"""


def start(folder: Path, how: str) -> str:
    """Run the script, and return what it says of errors."""
    (folder / "script.py").write_text(SCRIPT)
    return subprocess.run(
        [sys.executable, "script.py", how], cwd=folder, env=_environment(), capture_output=True, text=True,
        timeout=PATIENCE, check=False,
    ).stderr  # fmt: skip


@pytest.mark.slow
def test_one_id_in_two_processes_is_refused(tmp_path: Path) -> None:
    """The study's folder tells later processes whose a run is; another attempt of the same trial goes on in it."""
    assert "KeyboardInterrupt" in start(tmp_path, "ends")
    assert "of trial-0002 of study 'runs' holds the W&B run 'shared', which belongs to trial-0001" in start(
        tmp_path, "goes on"
    )
    journals = [path.read_text().splitlines() for path in sorted(tmp_path.rglob("journal.jsonl"))]
    states = [json.loads(lines[-1])["state"] for lines in journals]
    assert states == ["interrupted", "complete", "failed"]


@pytest.mark.slow
def test_trial_processes_finish_their_runs(tmp_path: Path) -> None:
    """With workers each run has the exit code of its trial too."""
    start(tmp_path, "workers")
    assert sorted(run.exit_code or 0 for run in read_runs(tmp_path)) == [0, 0, 1]


def test_ranks_that_follow_finish_their_runs(tmp_path: Path) -> None:
    """What a training opens on a rank above 0 does not reach into the next trial either."""
    announced = iter([Trial("digits", 1, {"lr": 0.1}, tmp_path, "val_loss", "min"), None])
    set_broadcast(lambda _: next(announced))
    try:
        ranks.follow(lambda: wandb.init(project="mine"))
    finally:
        set_broadcast(None)
    assert len({run.id for run in read_runs(tmp_path)}) == 2


def _environment() -> dict[str, str]:
    names = {name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"}
    return {**names, "PYTHONPATH": str(Path(th.__file__).parents[1])}


def test_a_run_around_the_study_stays_open(tmp_path: Path) -> None:
    """It is still wandb.run where trainings open runs of their own, and takes what is logged outside of them."""
    around = wandb.init(project="around")

    def train() -> None:
        wandb.log({"of": active().trial.number})  # type: ignore[union-attr]
        wandb.init(project="mine")
        report()
        wandb.log({"mine": 1})

    make_study().optimize(train, trials=2, progress=False)
    assert wandb.run is around
    assert wandb.init(project="any") is around
    wandb.log({"best": 0.5})
    wandb.finish()
    runs = read_runs(tmp_path)
    assert [(run.project, run.column("of"), run.column("mine"), run.column("best")) for run in runs] == [
        ("around", [0, 1], [], [0.5]), ("mine", [], [1], []), ("mine", [], [1], [])
    ]  # fmt: skip


def test_a_logger_that_adopts_the_run_around_the_study_is_refused(one: Any, tmp_path: Path) -> None:
    """Lightning's WandbLogger takes any open wandb.run, and so would all trials: an error in the first one."""
    around = wandb.init(project="around")
    message = f"The WandbLogger of trial-0000 of study 'runs' holds the W&B run '{around.id}', which was open before"
    with pytest.raises(TrialError, match=f"^{re.escape(f'{message} the trial. {LOGGER}')}$"):
        make_study().optimize(opens(one, "logger"), trials=2, progress=False)
    assert wandb.run is around
    assert settle(tmp_path)[0].rows == []


def test_a_callback_of_keras_that_writes_to_the_run_around_the_study_is_refused() -> None:
    """W&B's callbacks for Keras write to wandb.run, not those that a training opens alone."""
    place = "wandb.integration.keras.callbacks.metrics_logger"
    callback = type("WandbMetricsLogger", (), {"__module__": place})()
    around = wandb.init(project="around")
    message = f"The WandbMetricsLogger of trial-0000 of study 'runs' holds the W&B run '{around.id}', which was open"
    study = make_study()
    with pytest.raises(TrialError, match=f"^{re.escape(f'{message} before the trial. {INSIDE}')}$"):
        study.optimize(lambda: report(callback), trials=1, progress=False)

    def train() -> None:
        wandb.init(project="mine")
        report(callback)

    study.optimize(train, trials=2, progress=False)
    assert wandb.run is around


def test_fits_in_a_loop_that_leave_the_run_open(one: Any) -> None:
    """With TuneCallback(study) a fit is a trial: nothing of the script is finished, and a second trial is refused."""
    study = make_study("optimizer.lr")
    trainer, loader = fit(one, TuneCallback(study), logger=one.loggers.WandbLogger(project="mine", save_dir="."))
    first = wandb.run
    trainer.test(trainer.lightning_module, loader, verbose=False)
    wandb.log({"late": 1})
    with pytest.raises(TrialError, match=r"^The WandbLogger of trial-0001 of study 'runs' holds .* to trial-0000 of"):
        fit(one, TuneCallback(study), logger=one.loggers.WandbLogger(project="mine", save_dir="."))
    assert wandb.run is first
    wandb.finish()
    fit(one, TuneCallback(study), logger=one.loggers.WandbLogger(project="mine", save_dir="."))
    assert study.counts()["complete"] == 2


def test_wandb_init_in_a_loop_of_fits(one: Any, tmp_path: Path) -> None:
    """Where wandb.init returns the run of the trial before, that is an error; a run around the loop is none."""
    study = make_study("optimizer.lr")
    around = wandb.init(project="around")
    for _ in range(2):
        fit(one, TuneCallback(study))
        wandb.log({"seen": 1})
    wandb.finish()
    wandb.init(project="mine")
    fit(one, TuneCallback(study))
    wandb.init(project="mine")
    with pytest.raises(TrialError, match=r"^The training of trial-0003 of study 'runs' holds .* to trial-0002 of"):
        fit(one, TuneCallback(study))
    assert settle(tmp_path)[0].id == around.id


def test_a_run_around_optunas_own_study(one: Any, tmp_path: Path) -> None:
    """Each trial of an Optuna study may log its result into one run of the script, as Optuna's own callback does."""
    wandb.init(project="around")

    def objective(trial: optuna.Trial) -> float:
        trial.suggest_float("optimizer.lr", 0.001, 0.1)
        trainer, _ = fit(one, TuneCallback(trial, metric="val_loss", snapshots=False))
        wandb.log({"value": 0.5})
        return float(trainer.callback_metrics["val_loss"])

    optuna.create_study().optimize(objective, n_trials=2)
    wandb.finish()
    assert read_runs(tmp_path)[0].column("value") == [0.5, 0.5]


def test_a_study_inside_an_agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sweep has one run, which wandb.init in the training returns: an error that names the way out."""
    values = tmp_path / "config-run1.yaml"
    values.write_text("wandb_version: 1\n\nlr:\n  value: 0.03\n")
    for name, value in (("SWEEP_ID", "s1"), ("RUN_ID", "run1"), ("SWEEP_PARAM_PATH", str(values))):
        monkeypatch.setenv(f"WANDB_{name}", value)
    wandb.teardown()
    agents = wandb.init()

    def train() -> None:
        wandb.init()
        report()

    message = (
        "The training of trial-0000 of study 'runs' holds the W&B run 'run1', which was open before the trial. Every "
        "trial needs a run of its own: in a W&B sweep give the study a WandbRecorder, and the training no run of W&B."
    )
    with pytest.raises(TrialError, match=f"^{re.escape(message)}$"):
        make_study().optimize(train, trials=2, progress=False)
    assert wandb.run is agents


def test_a_training_that_finishes_its_run(tmp_path: Path) -> None:
    """Nothing is finished twice, and what a training has opened after that is finished too."""

    def train() -> None:
        with wandb.init(project="mine"):
            report()
        wandb.init(project="late")

    make_study().optimize(train, trials=2, progress=False)
    assert [run.project for run in read_runs(tmp_path)] == ["mine", "late", "mine", "late"]
    claims = [json.loads(line) for line in Path("tunehook-studies/runs/runs.jsonl").read_text().splitlines()]
    assert [claim["trial"] for claim in claims] == [0, 0, 1, 1]


def test_lines_of_the_claims_that_are_cut_off_say_nothing(tmp_path: Path) -> None:
    """A process that was killed as it wrote leaves a line that no later trial stumbles over."""
    path = Path("tunehook-studies/runs/runs.jsonl")
    path.parent.mkdir(parents=True)
    path.write_text('{"run": "x", "key"\n[1]\n{"run": "cut", "trial": "many"}\n')

    def train() -> None:
        wandb.init(project="mine")
        report()

    make_study().optimize(train, trials=1, progress=False)
    assert len(path.read_text().splitlines()) == 4


def test_a_run_that_cannot_be_finished_ends_no_study(caplog: pytest.LogCaptureFixture) -> None:
    """One warning names it; the trial has ended as what it was."""

    def train() -> None:
        run = wandb.init(project="mine")
        report()
        monkey.setattr(type(run), "finish", broken)

    def broken(*_: object, **__: object) -> None:
        raise ConnectionResetError("gone")

    with pytest.MonkeyPatch.context() as monkey:
        study = make_study()
        study.optimize(train, trials=1, progress=False)
    assert re.search(
        r"The W&B run '\w+' of a training could not be finished: ConnectionResetError\('gone'\)", caplog.text
    )
    assert study.trials[0].outcome == Outcome("complete", "trained to its end", 0.5, 1)


@pytest.mark.slow
def test_a_folder_called_wandb_is_no_sdk(tmp_path: Path) -> None:
    """Where W&B is not installed, a folder with earlier runs is imported in its place; a study does not mind."""
    (tmp_path / "wandb").mkdir()
    script = (
        "import sys; sys.path[:] = [p for p in sys.path if 'site-packages' not in p]; import wandb\n"
        "import tunehook.session.isolation as apart\n"
        "with apart.apart(None, lambda: 0): apart.claim_runs(None, [])\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE, check=False,
        env=_environment(),
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
