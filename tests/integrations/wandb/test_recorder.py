"""The W&B recorder against the real SDK, offline: what it wrote is read back from the run files."""

from __future__ import annotations

import importlib
import logging
import os
import pickle
import re
import sys
import threading
import types
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from run_file import RunFile, read_runs
from tunehook.record import Recorder
from tunehook.trial.values import Outcome, Trial, key_of
from warm import warm_python

wandb = pytest.importorskip("wandb")
from tunehook.integrations.wandb import WandbRecorder  # noqa: E402
from tunehook.integrations.wandb.mode import find_mode  # noqa: E402
from tunehook.integrations.wandb.writer import Writer  # noqa: E402

pytestmark = [
    # wandb's and Lightning's own business: deprecated calls between them, few workers, no GPU used, no version of jit.
    pytest.mark.filterwarnings("ignore::Warning:lightning"),
    pytest.mark.filterwarnings("ignore::Warning:pytorch_lightning"),
    pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.*"),
    pytest.mark.filterwarnings("ignore:.*num_workers"),
]

OUTCOMES = [
    (Outcome("complete", "trained to the end", 0.75, 1), 0),
    (Outcome("pruned", "below the median", 0.75, 1), 0),
    (Outcome("failed", "ValueError: no", traceback="Traceback: no"), 1),
    (Outcome("infeasible", "out of memory", float("inf"), 1), 1),
    (Outcome("interrupted", "Ctrl-C"), 130),
]
DONE = OUTCOMES[0][0]


@pytest.fixture(scope="module", autouse=True)
def _offline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("WANDB_")]:
            patch.delenv(name)
        patch.setenv("WANDB_DIR", str(tmp_path_factory.mktemp("wandb")))
        patch.setenv("WANDB_ERROR_REPORTING", "false")
        patch.setenv("WANDB_MODE", "offline")
        patch.setenv("WANDB_SILENT", "true")
        yield
        wandb.teardown()


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[WandbRecorder]:
    """A lean recorder that writes below the test's folder."""
    made = WandbRecorder("digits", dir=tmp_path, lean=True, tags=["ours"])
    yield made
    made.close(Outcome("interrupted", "end of the test"))


def make_trial(folder: Path, number: int = 0, *, study: str = "my study", attempt: int = 0, **params: Any) -> Trial:
    """A trial of the study's folder below ``folder``, with ``lr`` 0.1 unless told otherwise."""
    params = params or {"lr": 0.1}
    key = key_of(study, number, datetime.fromtimestamp(len(str(folder)) * 1e5 + sum(map(ord, str(folder)))))
    return Trial(study, number, params, folder / study / f"trial-{number:04d}", "val_acc", "max", attempt, key)


def read_one(folder: Path) -> RunFile:
    """The only run below a folder."""
    (run,) = read_runs(folder)
    return run


def test_is_a_recorder(recorder: WandbRecorder) -> None:
    """The recorder satisfies the protocol of the core."""
    assert isinstance(recorder, Recorder)


@pytest.mark.parametrize(("outcome", "exit_code"), OUTCOMES, ids=lambda item: getattr(item, "state", None))
def test_run_of_our_own(tmp_path: Path, recorder: WandbRecorder, outcome: Outcome, exit_code: int) -> None:
    """A trial is one run with names, configuration, rows, axis, summary and the outcome's exit code."""
    recorder.open(make_trial(tmp_path, 7, lr=0.1, hidden=64), {"optimizer.lr": 0.1, "model.hidden": 64})
    recorder.report(0, {"val_acc": 0.5, "loss": float("nan")})
    recorder.report(1, {"val_acc": 0.75, "loss": float("inf")})
    recorder.close(outcome)

    run = read_one(tmp_path)
    assert run.id == f"my-study-{make_trial(tmp_path, 7).key}"
    assert (run.project, run.name, run.group, run.job_type) == ("digits", "trial-0007", "my study", "trial")
    assert run.tags == ("ours",)
    assert (run.config["lr"], run.config["hidden"]) == (0.1, 64)
    assert run.config["tunehook"] == {
        "study": "my study",
        "trial": 7,
        "key": make_trial(tmp_path, 7).key,
        "attempt": 0,
        "metric": "val_acc",
        "mode": "max",
        "outcome": outcome.state,
        "slots": {"optimizer.lr": 0.1, "model.hidden": 64},
    }
    assert run.column("trial/step") == [0, 1]
    assert run.column("val_acc") == [0.5, 0.75]
    assert [str(value) for value in run.column("loss")] == ["nan", "inf"]
    assert run.axes == {"trial/step": "", "val_acc": "trial/step", "loss": "trial/step"}
    assert run.summary["outcome"] == outcome.state
    assert run.summary["reason"] == outcome.reason
    assert run.summary.get("best/val_acc") == outcome.value
    assert run.summary.get("best/step") == outcome.step
    assert run.summary.get("traceback") == outcome.traceback
    assert run.exit_code == exit_code


def test_long_traceback_keeps_both_ends(tmp_path: Path, recorder: WandbRecorder) -> None:
    """A long traceback is shortened in the middle: its last lines say what happened."""
    recorder.open(make_trial(tmp_path), {})
    recorder.close(Outcome("failed", "no", traceback="Traceback" + "x" * 50_000 + "ValueError: no"))

    kept = read_one(tmp_path).summary["traceback"]
    assert kept.startswith("Tracebackxxx")
    assert "... 46023 characters left out ..." in kept
    assert kept.endswith("xxxValueError: no")
    assert len(kept) < 4100


def test_close_is_harmless_twice_and_without_open(tmp_path: Path, recorder: WandbRecorder) -> None:
    """Only the first close of an open trial does something."""
    recorder.close(DONE)
    recorder.open(make_trial(tmp_path), {})
    recorder.close(DONE)
    recorder.close(Outcome("failed", "late"))

    run = read_one(tmp_path)
    assert (run.exit_code, run.summary["outcome"]) == (0, "complete")


def test_report_needs_an_open_trial(recorder: WandbRecorder) -> None:
    """A report without a trial is an error that says what to do."""
    with pytest.raises(RuntimeError, match=r"^The recorder has no open trial: call open\(\) before report\(\)\.$"):
        recorder.report(0, {"val_acc": 1.0})


def test_open_closes_a_forgotten_trial(tmp_path: Path, recorder: WandbRecorder) -> None:
    """The next trial ends the run that the one before left open, as interrupted."""
    recorder.open(make_trial(tmp_path, 0), {})
    recorder.open(make_trial(tmp_path, 1), {})
    recorder.close(DONE)

    first, second = read_runs(tmp_path)
    assert (first.exit_code, first.summary["outcome"]) == (130, "interrupted")
    assert first.summary["reason"] == "the next trial began before this one was closed"
    assert (second.exit_code, second.summary["outcome"]) == (0, "complete")


@pytest.mark.slow
def test_exit_closes_a_forgotten_trial(tmp_path: Path) -> None:
    """A script that ends without closing leaves a whole run with a non-zero exit code."""
    script = f"""
from pathlib import Path
from tunehook.integrations.wandb import WandbRecorder
from tunehook.trial import key_of, Trial
recorder = WandbRecorder("digits", dir={str(tmp_path)!r})
recorder.open(Trial("s", 0, {{"lr": 0.1}}, Path({str(tmp_path)!r}, "trial"), "val_acc", "max"), {{}})
recorder.report(3, {{"val_acc": 0.5}})
"""
    done = warm_python().start(["-c", script], cwd=tmp_path, env=os.environ)
    told = done.communicate()

    run = read_one(tmp_path)
    assert run.exit_code == 130
    assert run.column("val_acc") == [0.5]
    assert run.summary["reason"] == "the process ended before the trial was closed"
    assert (told, done.poll()) == (("", ""), 0)


class Odd:
    """An object that cannot even be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("no")


def test_nonsense_in_the_configuration(tmp_path: Path, recorder: WandbRecorder) -> None:
    """Whatever the configuration holds becomes plain, and nothing raises."""
    endless: list[Any] = []
    endless.append(endless)
    nonsense = {
        "nan": float("nan"),
        "infinity": float("-inf"),
        "object": Odd(),
        3: {(1, 2): {4}},
        "path": Path("a", "b"),
        "long": "x" * 40_000,
        "big": 2**70,
        "\udc80": "\udc81",
        "endless": endless,
        "class": int,
        "none": None,
    }
    params = {"lr": float("nan"), "layers": (64, 32), "\udc80": 1}
    recorder.open(make_trial(tmp_path, **params), nonsense)  # type: ignore[arg-type]
    recorder.close(Outcome("complete", "", float("nan"), 0))

    run = read_one(tmp_path)
    slots = run.config["tunehook"]["slots"]
    assert (run.config["lr"], run.config["layers"], run.config[r"\udc80"]) == ("nan", [64, 32], 1)
    assert (slots["nan"], slots["infinity"]) == ("nan", "-inf")
    assert slots["object"].startswith("<Odd instance at")
    assert slots["3"] == {"(1, 2)": [4]}
    assert slots["path"] == os.path.join("a", "b")  # noqa: PTH118 - as text
    assert slots["long"] == "x" * 40_000
    assert slots["big"] == str(2**70)
    assert slots["class"] == "<class 'int'>"
    assert slots["none"] is None
    assert slots[r"\udc80"] == r"\udc81"
    assert run.summary["best/val_acc"] == "NaN"


def test_numbers_of_numpy_and_torch_are_numbers(tmp_path: Path, recorder: WandbRecorder) -> None:
    """Scalars of array libraries are kept as numbers, not as text."""
    numpy, torch = pytest.importorskip("numpy"), pytest.importorskip("torch")
    values = {"f": numpy.float32(0.5), "i": numpy.int64(3), "b": numpy.bool_(True), "t": torch.tensor(2.0)}
    recorder.open(make_trial(tmp_path), values)
    recorder.close(DONE)

    assert read_one(tmp_path).config["tunehook"]["slots"] == {"f": 0.5, "i": 3, "b": True, "t": 2.0}


def test_taken_name(tmp_path: Path, recorder: WandbRecorder) -> None:
    """A hyperparameter may not bear the name under which we keep our own values."""
    message = "A hyperparameter is called 'tunehook', which is taken in a W&B configuration: rename it."
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        recorder.open(make_trial(tmp_path, tunehook=1), {})


def test_an_attempt_goes_on_in_its_run(tmp_path: Path, recorder: WandbRecorder) -> None:
    """A trial that is begun again, also by another recorder, has the same run id and asks to resume."""
    recorder.open(make_trial(tmp_path), {})
    recorder.close(Outcome("interrupted", "preempted"))
    other = WandbRecorder("digits", dir=tmp_path, lean=True)
    other.open(make_trial(tmp_path, attempt=1), {})
    other.close(DONE)

    first, second = read_runs(tmp_path)
    assert first.id == second.id
    assert (first.resume, second.resume) in [(False, True), (None, None)]
    assert second.config["tunehook"]["attempt"] == 1


def test_studies_of_one_name_do_not_meet(tmp_path: Path, recorder: WandbRecorder) -> None:
    """Trials of the same study name and number in two folders have two runs, side by side in one process."""
    other = WandbRecorder("digits", dir=tmp_path, lean=True, group="a group")
    recorder.open(make_trial(tmp_path / "here"), {})
    other.open(make_trial(tmp_path / "there"), {})
    recorder.report(0, {"val_acc": 0.1})
    other.report(0, {"val_acc": 0.2})
    recorder.close(DONE)
    other.close(DONE)

    first, second = read_runs(tmp_path)
    assert first.id != second.id
    assert sorted(first.column("val_acc") + second.column("val_acc")) == [0.1, 0.2]
    assert sorted([first.group, second.group]) == ["a group", "my study"]


def test_run_of_our_own_that_is_finished(tmp_path: Path, recorder: WandbRecorder) -> None:
    """A run of our own is gone on with too, whoever has finished it."""
    recorder.open(make_trial(tmp_path), {})
    recorder.report(0, {"val_acc": 0.5})
    assert recorder._here.line.writer.drain(10)
    assert recorder._here.live is not None
    assert recorder._here.live.run is not None
    recorder._here.live.run.finish()
    recorder.report(1, {"val_acc": 0.75})
    recorder.close(DONE)

    first, second = read_runs(tmp_path)
    assert first.id == second.id
    assert (first.column("val_acc"), second.column("val_acc")) == ([0.5], [0.75])
    assert (second.axes["val_acc"], second.summary["outcome"]) == ("trial/step", "complete")


def test_pickled_before_and_during_a_trial(tmp_path: Path, recorder: WandbRecorder) -> None:
    """A recorder travels to another process with its options and without its run."""
    recorder.open(make_trial(tmp_path), {})
    copy = pickle.loads(pickle.dumps(recorder))
    copy.close(Outcome("failed", "not mine"))
    recorder.close(DONE)

    assert (copy.project, copy.tags, copy.dir, copy.where()) == ("digits", ("ours",), tmp_path, recorder.where())
    assert read_one(tmp_path).exit_code == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform has no fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_forked_child_leaves_the_run_alone(tmp_path: Path, recorder: WandbRecorder) -> None:
    """A child process does not close the run of its parent."""
    recorder.open(make_trial(tmp_path), {})
    if (child := os.fork()) == 0:
        recorder.close(Outcome("failed", "from the child"))
        os._exit(0)
    os.waitpid(child, 0)
    recorder.report(0, {"val_acc": 0.5})
    recorder.close(DONE)

    run = read_one(tmp_path)
    assert (run.exit_code, run.summary["outcome"], run.column("val_acc")) == (0, "complete", [0.5])


def test_where(tmp_path: Path, recorder: WandbRecorder) -> None:
    """Offline, the record is the run's folder; it stays known after the trial."""
    assert recorder.where() is None
    recorder.open(make_trial(tmp_path), {})
    recorder.close(DONE)
    assert recorder.where() == str(read_one(tmp_path).path.parent)


def test_disabled(tmp_path: Path) -> None:
    """A disabled recorder goes through the motions and writes nothing."""
    recorder = WandbRecorder("digits", dir=tmp_path, mode="disabled")
    recorder.open(make_trial(tmp_path), {})
    recorder.report(0, {"val_acc": 0.5})
    recorder.close(DONE)
    assert recorder.where() is None
    assert read_runs(tmp_path) == []


@pytest.mark.parametrize("lean", [False, True])
def test_lean_leaves_requirements_out(tmp_path: Path, lean: bool) -> None:
    """By default a run lists its packages; a lean one does not."""
    recorder = WandbRecorder("digits", dir=tmp_path, lean=lean)
    recorder.open(make_trial(tmp_path), {})
    recorder.close(DONE)
    assert ("requirements.txt" in read_one(tmp_path).files) is not lean


KEY = "local-" + "0123456789" * 4


@pytest.mark.parametrize(
    ("environment", "netrc", "expected"),
    [
        ({}, "", ("offline", "no API key is configured; `wandb login` before the study, or `wandb sync` after it")),
        ({"WANDB_API_KEY": KEY}, "", ("online", "an API key is configured")),
        ({}, f"machine api.wandb.ai login user password {KEY}", ("online", "an API key is configured")),
        ({"WANDB_API_KEY": KEY, "WANDB_MODE": "offline"}, "", ("offline", "WANDB_MODE")),
    ],
)
def test_mode_is_found(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    netrc: str,
    expected: tuple[str, str],
) -> None:
    """Without a mode the environment decides, then whether there is a key; nobody is asked and nothing connects."""
    wandb.teardown()  # its settings were read from the environment before
    (tmp_path / "netrc").write_text(netrc)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("WANDB_MODE")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    try:
        assert find_mode() == expected
        assert find_mode("disabled") == ("disabled", "as asked for")
    finally:
        wandb.teardown()


def test_mode_is_told_once(tmp_path: Path, recorder: WandbRecorder, caplog: pytest.LogCaptureFixture) -> None:
    """One line says where the trials are recorded, for all trials of a recorder."""
    with caplog.at_level(logging.INFO, "tunehook"):
        for number in range(2):
            recorder.open(make_trial(tmp_path, number), {})
            recorder.close(DONE)
    told = [text for name, _, text in caplog.record_tuples if name == "tunehook"]
    assert told == ["W&B records the trials in project 'digits', offline (WANDB_MODE)."]


def test_our_runs_are_silent(tmp_path: Path, recorder: WandbRecorder, capfd: pytest.CaptureFixture[str]) -> None:
    """W&B's banners do not appear for our own runs."""
    recorder.open(make_trial(tmp_path), {})
    recorder.close(DONE)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"project": ""}, ValueError, "project must be the name of a W&B project, got an empty text."),
        (
            {"project": "a/b"},
            ValueError,
            r"project must be the name of a W&B project, without / \ # ? % : and of at most 128 characters, got 'a/b'.",
        ),
        ({"init_timeout": 0}, ValueError, "init_timeout must be a number of seconds above 0, got 0."),
        ({"finish_timeout": -1.5}, ValueError, "finish_timeout must be a number of seconds above 0, got -1.5."),
        ({"mode": "on"}, ValueError, "mode must be one of online, offline, disabled or None, got 'on'."),
        ({"tags": "one"}, TypeError, "tags must be a sequence of texts, got the single text 'one'; write ['one']."),
        ({"tags": [""]}, ValueError, "A tag must have 1 to 64 characters, got 0: ''."),
    ],
)
def test_options_are_checked(options: dict[str, Any], error: type[Exception], message: str) -> None:
    """A wrong option is refused when the recorder is made, with the rule and what was given."""
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        WandbRecorder(**{"project": "digits", **options})


@pytest.mark.parametrize("stand_in", [None, types.ModuleType("wandb")], ids=["missing", "a folder of runs"])
def test_missing_package(monkeypatch: pytest.MonkeyPatch, stand_in: Any) -> None:
    """Without wandb the import says what to install, also where a folder of runs is called wandb."""
    monkeypatch.setitem(sys.modules, "wandb", stand_in)
    for name in [name for name in sys.modules if name.startswith("tunehook.integrations.wandb")]:
        monkeypatch.delitem(sys.modules, name)
    message = "tunehook.integrations.wandb needs the package wandb: pip install 'tunehook[wandb]'"
    with pytest.raises(ModuleNotFoundError, match=f"^{re.escape(message)}$"):
        importlib.import_module("tunehook.integrations.wandb").WandbRecorder  # noqa: B018 - imports it


class Lightning:
    """One of Lightning's two namespaces, with a tiny model and a callback driven by hand."""

    def __init__(self, name: str) -> None:
        self.pl = pytest.importorskip(name)
        self.torch = pytest.importorskip("torch")
        self.WandbLogger = importlib.import_module(f"{name}.loggers").WandbLogger
        self.ModelCheckpoint = importlib.import_module(f"{name}.callbacks").ModelCheckpoint

    def make_model(self) -> Any:
        torch = self.torch

        class Net(self.pl.LightningModule):  # type: ignore[name-defined,misc]
            def __init__(self, lr: float = 1e-3) -> None:
                super().__init__()
                self.save_hyperparameters()
                self.layer = torch.nn.Linear(2, 1)

            def training_step(self, batch: Any, index: int) -> Any:
                return self.layer(batch[0]).sum()

            def validation_step(self, batch: Any, index: int) -> None:
                self.log("val_acc", self.layer(batch[0]).mean())

            def test_step(self, batch: Any, index: int) -> None:
                self.log("test_acc", self.layer(batch[0]).mean())

            def configure_optimizers(self) -> Any:
                return torch.optim.SGD(self.parameters(), lr=0.1)

        return Net()

    def make_callback(self, recorder: WandbRecorder, trial: Trial, outcome: Outcome) -> Any:
        class Tune(self.pl.Callback):  # type: ignore[name-defined,misc]
            def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
                if stage == "fit":
                    recorder.open(trial, {"model.lr": 0.1}, loggers=trainer.loggers)

            def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
                if not trainer.sanity_checking:
                    recorder.report(trainer.current_epoch, {"val_acc": float(trainer.callback_metrics["val_acc"])})

            def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
                recorder.close(Outcome("failed", str(exception), traceback=repr(exception)))

            def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
                if stage == "fit":
                    recorder.close(outcome)

        return Tune()

    def make_data(self) -> Any:
        return self.torch.utils.data.DataLoader(self.torch.utils.data.TensorDataset(self.torch.ones(4, 2)))

    def fit(
        self,
        recorder: WandbRecorder,
        trial: Trial,
        logger: Any,
        *,
        outcome: Outcome = DONE,
        callbacks: Sequence[Any] = (),
    ) -> Any:
        trainer = self.pl.Trainer(
            max_epochs=2,
            accelerator="cpu",
            logger=logger,
            callbacks=[self.make_callback(recorder, trial, outcome), *callbacks],
            enable_checkpointing=bool(callbacks),
            enable_progress_bar=False,
            enable_model_summary=False,
            log_every_n_steps=1,
        )
        trainer.fit(self.make_model(), self.make_data(), self.make_data())
        return trainer


@pytest.fixture(params=["lightning.pytorch", "pytorch_lightning"])
def host(request: pytest.FixtureRequest) -> Lightning:
    """Lightning, in each of its namespaces."""
    return Lightning(request.param)


@pytest.fixture
def users_logger(tmp_path: Path, host: Lightning) -> Any:
    """Makes the user's WandbLogger."""
    return lambda **options: host.WandbLogger(**{"project": "users", "save_dir": tmp_path, **options})


@pytest.mark.slow
@pytest.mark.parametrize(("outcome", "exit_code"), OUTCOMES, ids=lambda item: getattr(item, "state", None))
def test_shared_run(
    tmp_path: Path, recorder: WandbRecorder, host: Lightning, users_logger: Any, outcome: Outcome, exit_code: int
) -> None:
    """With a WandbLogger there is one run, its project and id the user's, with both their rows and ours."""
    host.fit(
        recorder, make_trial(tmp_path), users_logger(id=f"mine-{host.pl.__name__}-{outcome.state}"), outcome=outcome
    )

    run = read_one(tmp_path)
    assert run.id.startswith("mine-")
    assert (run.project, run.name, run.group, run.job_type) == ("users", "trial-0000", "my study", "trial")
    assert run.tags == ("ours",)
    assert run.config["lr"] == 0.1  # not the 0.001 of save_hyperparameters
    assert run.config["tunehook"]["slots"] == {"model.lr": 0.1}
    ours = [row for row in run.rows if "trial/step" in row]
    assert [sorted(row) for row in ours] == [["trial/step", "trial/val_acc"]] * 2
    assert run.column("trial/val_acc") == run.column("val_acc")
    assert run.column("trainer/global_step") == [3, 7]
    assert run.axes["trial/val_acc"] == "trial/step"
    assert run.summary["outcome"] == outcome.state
    assert run.summary.get("best/val_acc") == outcome.value
    assert run.exit_code == exit_code


@pytest.mark.slow
def test_three_loggers_three_runs(tmp_path: Path, recorder: WandbRecorder, host: Lightning, users_logger: Any) -> None:
    """A WandbLogger made in the training function gives each trial its run, also after trainer.test."""
    for number in range(3):
        trainer = host.fit(recorder, make_trial(tmp_path, number, lr=float(number)), users_logger())
        trainer.test(trainer.lightning_module, host.make_data(), verbose=False)
    recorder._close_left_over(DONE)

    runs = read_runs(tmp_path)
    fits = [run for run in runs if "trial/step" in run.axes]
    tests = [run for run in runs if run not in fits]
    assert [run.config["lr"] for run in fits] == [0, 1, 2]
    assert len({run.id for run in fits}) == 3
    assert [(run.id, run.exit_code, len(run.column("test_acc"))) for run in tests] == [(run.id, 0, 1) for run in fits]
    assert [run.config["lr"] for run in tests] == [0, 1, 2]


@pytest.mark.slow
def test_reused_logger(tmp_path: Path, recorder: WandbRecorder, host: Lightning, users_logger: Any) -> None:
    """A WandbLogger made outside the training function is refused in the second trial, before it trains."""
    logger = users_logger(id=f"reused-{host.pl.__name__}")
    host.fit(recorder, make_trial(tmp_path, 0), logger)
    message = (
        f"The WandbLogger of trial-0001 of study 'my study' holds the W&B run 'reused-{host.pl.__name__}', which "
        "belongs to trial-0000 of study 'my study'. Every trial needs a run of its own: make the WandbLogger inside "
        "the training function, without a fixed id."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        host.fit(recorder, make_trial(tmp_path, 1), logger)
    recorder._close_left_over(DONE)
    assert all(run.config.get("tunehook", {}).get("trial") != 1 for run in read_runs(tmp_path))


@pytest.mark.slow
def test_two_fits_in_one_trial(tmp_path: Path, recorder: WandbRecorder, host: Lightning, users_logger: Any) -> None:
    """A second fit of the same trial with the same WandbLogger goes on in the trial's run."""
    logger = users_logger()
    for _ in range(2):
        host.fit(recorder, make_trial(tmp_path), logger)

    first, second = read_runs(tmp_path)
    assert first.id == second.id
    assert [run.column("trial/step") for run in (first, second)] == [[0, 1], [0, 1]]


@pytest.mark.slow
def test_finished_logger(tmp_path: Path, recorder: WandbRecorder, host: Lightning, users_logger: Any) -> None:
    """A WandbLogger whose run is finished already is refused before training."""
    logger = users_logger(id=f"finished-{host.pl.__name__}")
    logger.experiment.finish()
    with pytest.raises(ValueError, match=r"holds the W&B run 'finished-.*', which is finished already\. Every trial"):
        host.fit(recorder, make_trial(tmp_path), logger)


@pytest.mark.slow
def test_forgotten_trial_before_a_shared_one(
    tmp_path: Path, recorder: WandbRecorder, host: Lightning, users_logger: Any
) -> None:
    """A WandbLogger that adopts the run of a trial nobody closed makes a run of its own instead."""
    recorder.open(make_trial(tmp_path, 0), {})
    host.fit(recorder, make_trial(tmp_path, 1), users_logger())

    first, second = read_runs(tmp_path)
    assert (first.project, first.exit_code, first.config["tunehook"]["trial"]) == ("digits", 130, 0)
    assert (second.project, second.exit_code, second.config["tunehook"]["trial"]) == ("users", 0, 1)


@pytest.mark.slow
def test_users_arguments_win(tmp_path: Path, recorder: WandbRecorder, host: Lightning, users_logger: Any) -> None:
    """Name, group, job type and tags that the user gave to the WandbLogger stay."""
    logger = users_logger(name="mine", group="my group", job_type="fit", tags=["theirs"])
    host.fit(recorder, make_trial(tmp_path), logger)

    run = read_one(tmp_path)
    assert (run.name, run.group, run.job_type, run.tags) == ("mine", "my group", "fit", ("theirs",))


@pytest.mark.slow
@pytest.mark.parametrize(("log_model", "artifacts"), [(True, 1), ("all", 2)])
def test_checkpoints_become_artifacts(
    tmp_path: Path, recorder: WandbRecorder, host: Lightning, users_logger: Any, log_model: Any, artifacts: int
) -> None:
    """With log_model the checkpoints are logged before the run ends, and the trainer's own finalize changes nothing."""
    checkpoint = host.ModelCheckpoint(dirpath=tmp_path / "checkpoints", monitor="val_acc", mode="min")
    host.fit(recorder, make_trial(tmp_path), users_logger(log_model=log_model), callbacks=[checkpoint])

    run = read_one(tmp_path)
    assert run.artifacts == [f"model-{run.id}"] * artifacts
    assert run.exit_code == 0


@pytest.mark.slow
def test_training_that_raises(tmp_path: Path, recorder: WandbRecorder, host: Lightning, users_logger: Any) -> None:
    """An error in training passes through; the shared run has failed and the next trial has a run of its own."""

    class Break(host.pl.Callback):  # type: ignore[name-defined,misc]
        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            raise ArithmeticError("broken")

    checkpoint = host.ModelCheckpoint(dirpath=tmp_path / "checkpoints", save_last=True)
    with pytest.raises(ArithmeticError, match=r"^broken$"):
        host.fit(recorder, make_trial(tmp_path, 0), users_logger(log_model="all"), callbacks=[Break(), checkpoint])
    host.fit(recorder, make_trial(tmp_path, 1), users_logger())

    first, second = read_runs(tmp_path)
    assert (first.exit_code, first.summary["outcome"], first.summary["reason"]) == (1, "failed", "broken")
    assert first.summary["traceback"] == "ArithmeticError('broken')"
    assert (second.exit_code, second.summary["outcome"]) == (0, "complete")
    assert first.id != second.id


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:There is a wandb run already in progress")
def test_logger_that_adopts_the_users_run(
    tmp_path: Path, recorder: WandbRecorder, host: Lightning, users_logger: Any
) -> None:
    """A WandbLogger adopts an open wandb.run: it becomes the first trial's and ends with it, not the second's."""
    users = wandb.init(
        project="script", dir=tmp_path, group="theirs", name="mine", settings=wandb.Settings(silent=True)
    )
    for number in range(2):
        host.fit(recorder, make_trial(tmp_path, number), users_logger())
        assert wandb.run is None

    first, second = read_runs(tmp_path)
    assert (first.id, first.project, first.group, first.name) == (users.id, "script", "theirs", "mine")
    assert (second.project, second.group) == ("users", "my study")
    assert [run.config["tunehook"]["trial"] for run in (first, second)] == [0, 1]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:There is a wandb run already in progress")
def test_two_studies_in_one_logger(tmp_path: Path, recorder: WandbRecorder, host: Lightning, users_logger: Any) -> None:
    """A second study at the same time is refused the run of the first, which goes on unharmed."""
    recorder.open(make_trial(tmp_path), {}, loggers=[users_logger()])
    other = WandbRecorder("digits", dir=tmp_path, lean=True)
    with pytest.raises(ValueError, match=r"which belongs to trial-0000 of study 'my study'\."):
        host.fit(other, make_trial(tmp_path, study="other"), users_logger())
    recorder.report(0, {"val_acc": 0.5})
    recorder.close(DONE)

    run = read_one(tmp_path)
    assert (run.exit_code, run.config["tunehook"]["study"], run.column("trial/val_acc")) == (0, "my study", [0.5])


@pytest.mark.slow
def test_logger_untouched_before_open(
    tmp_path: Path, recorder: WandbRecorder, host: Lightning, users_logger: Any
) -> None:
    """A logger that has no run yet gets the trial's id, so that a second attempt goes on in its run."""
    for attempt in range(2):
        recorder.open(make_trial(tmp_path, attempt=attempt), {}, loggers=[object(), users_logger()])
        recorder.close(DONE)

    first, second = read_runs(tmp_path)
    assert first.id == second.id
    assert re.fullmatch(r"my-study-0000-[0-9a-f]{8}", first.id)


def test_a_thread_for_which_there_is_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told, and begins with the next job; what waited is done too."""
    writer, done = Writer(), list[int]()
    with monkeypatch.context() as full:

        def no_room(_: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        full.setattr(threading.Thread, "start", no_room)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            writer.put(lambda: done.append(1), limit=60)
    writer.put(lambda: done.append(2), limit=60)
    assert writer.drain(60)
    assert done == [1, 2]
