"""The best checkpoint as an artifact: its bytes, and its alias, in the run file of the study."""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import os
import re
from pathlib import Path
from typing import Any

import pytest

import tunehook as th
from adapters import Keras, Lightning
from run_file import RunFile, read_runs

wandb = pytest.importorskip("wandb")
from tunehook.integrations.wandb import WandbRecorder  # noqa: E402

pytestmark = [
    pytest.mark.usefixtures("offline"),
    pytest.mark.filterwarnings("ignore"),  # of the frameworks: small data, old calls of NumPy and pytrees ...
]

# The best of the three is the second trial; the values are also the number of the trial.
SCORES = ([1.0, 3.0, 2.0], [4.0, 6.0, 5.0], [2.0, 2.0, 2.0])


def make_study(**options: Any) -> th.Study:
    """A study that keeps its best checkpoint."""
    recorder = WandbRecorder("digits", lean=True, **{"best_checkpoint": True, **options})
    return th.Study("my.study", {"width": th.Int(2, 6)}, metric="score", mode="max", search="random", seed=0,
                    recorders=[recorder])  # fmt: skip


def study_runs(folder: Path) -> list[RunFile]:
    """The runs of studies below a folder, oldest first."""
    return [run for run in read_runs(folder) if run.job_type == "study"]


def own_artifact(run: RunFile) -> dict[str, bytes]:
    """The files of the study's model; those of its tables are left out."""
    assert "best" in run.aliases["my.study"]
    return run.artifact_files["my.study"]


def lightning_callback(project: Any, folder: Path) -> Any:
    """The checkpoint of the best epoch."""
    kind = importlib.import_module(f"{project.name}.callbacks").ModelCheckpoint
    return kind(dirpath=folder, filename="{epoch}", monitor="score", mode="max")


def keras_callback(project: Any, folder: Path) -> Any:
    """The same in Keras, with the epoch in the name."""
    return importlib.import_module("keras").callbacks.ModelCheckpoint(
        folder / "best-{epoch}.weights.h5", monitor="score", mode="max", save_best_only=True, save_weights_only=True
    )


@pytest.mark.parametrize("name", ["lightning", "keras"])
def test_the_best_checkpoint_is_an_artifact(tmp_path: Path, name: str) -> None:
    """After three trials the artifact holds the file of the second one's best epoch, byte for byte."""
    project: Any = Keras() if name == "keras" else Lightning("lightning.pytorch")
    make_callback = keras_callback if name == "keras" else lightning_callback
    folders: list[Path] = []

    def train() -> None:
        folder = tmp_path / f"checkpoints-{len(folders)}"
        folders.append(folder)
        folder.mkdir()
        scores = SCORES[len(folders) - 1]
        project.fit(project.model(), project.callback(), make_callback(project, folder), scores=scores)

    study = make_study()
    study.optimize(train, trials=3, progress=False)
    assert (study.best.number, study.best.value) == (1, 6.0)
    (run,) = study_runs(tmp_path)
    files = own_artifact(run)
    newest = max(folders[1].iterdir(), key=lambda file: file.stat().st_mtime_ns)
    assert files == {newest.name: newest.read_bytes()}
    assert sorted(run.aliases["my.study"]) == ["best", "latest", "trial-0001"]
    # The copy of the first trial, which was the best for a while, is gone.
    assert not study.paths.checkpoint(0).exists()


def tune(study: th.Study, trials: int, path: Path, *, writes: bool = True, sign: float = 1.0) -> None:
    """Trials whose value is their number, with a sign, and whose checkpoint is a text at one and the same path."""
    from tunehook.session.in_progress import active

    def train() -> None:
        session = active()
        assert session is not None
        session._driven = True
        session.ready()
        session.report(1, {"score": sign * session.trial.number})
        if writes:
            path.write_text(f"model {session.trial.number}")
            session.note_checkpoint(path)

    study.optimize(train, trials=trials, progress=False)


def test_trials_that_write_over_each_other(tmp_path: Path) -> None:
    """The best trial's file is kept before the next trial writes its own to the same place."""
    study = make_study()
    path = tmp_path / "model.ckpt"
    tune(study, 2, path)
    tune(study, 3, path, sign=-1.0)
    assert path.read_text() == "model 2"
    (run,) = study_runs(tmp_path)
    assert own_artifact(run) == {"model.ckpt": b"model 1"}


def test_a_later_process_does_not_log_it_again(tmp_path: Path) -> None:
    """The study goes on: the alias moves only if a better trial comes, whose model then takes the place."""
    path = tmp_path / "model.ckpt"
    for trials, best in ((1, 0), (1, 0), (3, 2)):
        tune(make_study(), trials, path)
        (run,) = study_runs(tmp_path)
        assert own_artifact(run) == {"model.ckpt": f"model {best}".encode()}


def test_a_file_that_was_changed_is_not_taken(tmp_path: Path) -> None:
    """What lies at the path now is another model."""
    study = make_study(best_checkpoint=False)
    path = tmp_path / "model.ckpt"
    trial = study.ask()
    session = study.session(trial)
    path.write_text("model 0")
    session.note_checkpoint(path)
    assert study.checkpoint(0) == path
    path.write_text("another")
    os.utime(path, ns=(1, 1))
    message = f"{path} was changed after trial-0000: give each trial a file of its own"
    with pytest.raises(OSError, match=f"^{re.escape(message)}$"):
        study.checkpoint(0)


def test_a_training_without_a_checkpoint(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One warning says how a training keeps one, and the study's run is there."""
    with caplog.at_level(logging.WARNING, "tunehook"):
        tune(make_study(), 3, tmp_path / "model.ckpt", writes=False)
    told = [record.getMessage() for record in caplog.records if record.name == "tunehook"]
    assert told == [
        (
            "W&B gets no checkpoint of the best trial, 0 (its training wrote none). In Lightning, add "
            "ModelCheckpoint(monitor=..., mode=...) to the callbacks of the Trainer; in Keras, "
            "ModelCheckpoint('trial.keras', save_best_only=True) to those of fit."
        )
    ]
    (run,) = study_runs(tmp_path)
    assert len(run.rows) == 3
    assert "my.study" not in run.aliases


def test_it_needs_the_run_of_the_study() -> None:
    """The artifact is one of that run."""
    with pytest.raises(ValueError, match=r"^best_checkpoint=True needs study_run=True"):
        make_study(study_run=False)


def test_nothing_is_noted_unless_it_is_asked_for(tmp_path: Path) -> None:
    """Without the option a trial's journal has no line more."""
    study = make_study(best_checkpoint=False)
    assert not study.session(study.ask()).wants_checkpoint


PLACES = ["the file", "a folder", "a file in a folder", "the copy", "the folder of the copy", "the folder of the trial"]


@pytest.mark.parametrize("where", PLACES)
def test_what_a_link_leads_to_is_not_uploaded(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, caplog: pytest.LogCaptureFixture, where: str
) -> None:
    """Wherever somebody puts it once the training has kept its model, nobody's file goes to W&B or is removed."""
    private = tmp_path_factory.mktemp("private")
    (private / "secret.ckpt").write_text("s3cret")
    study, model = make_study(study_run=True), tmp_path / "model"
    session = study.session(study.ask())
    session._driven = True
    session.report(1, {"score": 1.0})
    (model if where != "the file" else tmp_path).mkdir(exist_ok=True)
    (model / "part.ckpt" if model.is_dir() else model).write_text("1 mine")
    session.note_checkpoint(model)
    session._journal.close()  # type: ignore[union-attr]
    mine = (model / "part.ckpt" if model.is_dir() else model).stat()
    os.utime(private / "secret.ckpt", ns=(mine.st_mtime_ns, mine.st_mtime_ns))
    link, target = {
        "the file": (model, private / "secret.ckpt"),
        "a folder": (model, private),
        "a file in a folder": (model / "part.ckpt", private / "secret.ckpt"),
        "the copy": (study.paths.checkpoint(0) / "model", private),
        "the folder of the copy": (study.paths.checkpoint(0), private),
        "the folder of the trial": (study.paths.trial(0), private),
    }[where]
    if link.exists():
        link.rename(tmp_path / "moved")
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(target)
    if where == "the folder of the trial":  # which says what somebody wants to have
        lines = (tmp_path / "moved/journal.jsonl").read_text()
        told = {"event": "checkpoint", "path": str(private), "size": mine.st_size, "changed": mine.st_mtime_ns}
        (private / "journal.jsonl").write_text(lines + json.dumps(told) + "\n")
    with caplog.at_level(logging.WARNING, "tunehook"), contextlib.suppress(OSError):
        session.end()
    study.lead.show(is_last=True)
    for run in study_runs(tmp_path):
        assert b"s3cret" not in b"".join(run.artifact_files.get("my.study", {}).values())
    assert not [
        file
        for file in tmp_path.rglob("*")
        if file.is_file() and b"s3cret" in file.read_bytes() and not _is_linked(file)
    ]
    assert (private / "secret.ckpt").read_text() == "s3cret"
    assert "W&B gets no checkpoint of the best trial, 0 (" in caplog.text or where == "the folder of the trial"


def _is_linked(file: Path) -> bool:
    return any(path.is_symlink() for path in (file, *file.parents))


@pytest.mark.parametrize("name", ["shown.json", "trial-0000/checkpoint.{pid}"])
def test_files_of_ours_that_are_links(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    """They are neither written to nor removed, which is told, and the training goes on."""
    private = tmp_path_factory.mktemp("private")
    (private / "part").write_text("{}")
    study = make_study(best_checkpoint=not name.endswith("json"))
    link = study.paths.folder / name.format(pid=os.getpid())
    link.parent.mkdir(parents=True)
    link.symlink_to(private / "part" if name.endswith("json") else private)
    tune(study, 1, tmp_path / "model.ckpt")
    assert study.best.value == 0.0
    assert [(file.name, file.read_text()) for file in private.iterdir()] == [("part", "{}")]
    assert f"{link} is a link, and links below {study.paths.folder} are not followed" in caplog.text


def finish(study: th.Study, number: int, score: float, path: Path) -> None:
    """Train a trial that was asked for; its checkpoint is a text of its own."""
    session = study.session(study._ledger.as_trial(study._ledger.trials()[number]))
    session._driven = True
    session.ready()
    session.report(1, {"score": score})
    file = path.with_name(f"model-{number}.ckpt")
    file.write_text(f"model {number}")
    session.note_checkpoint(file)
    session.end()


def test_of_equal_trials_the_first_is_the_best(tmp_path: Path) -> None:
    """In whatever order they end: the study, its run and the artifact name the same trial, and hold its model."""
    study = make_study()
    for _ in range(3):
        study.ask()
    for number, score in ((2, 0.5), (1, 0.5), (0, 0.25)):
        finish(study, number, score, tmp_path / "model")
    study.lead.show(is_last=True)
    (run,) = study_runs(tmp_path)
    assert study.best.number == run.summary["best/trial"] == run.config["tunehook"]["best"]["trial"] == 1
    assert own_artifact(run) == {"model-1.ckpt": b"model 1"}
    assert "trial-0001" in run.aliases["my.study"]


@pytest.mark.parametrize("writes", [True, False], ids=["kept", "without"])
def test_another_process_has_found_a_better_trial(tmp_path: Path, writes: bool) -> None:
    """A model that was the best when this process kept it is not logged as the best after that of a better one."""
    mine, theirs = make_study(), make_study(best_checkpoint=writes)
    for _ in range(2):
        mine.ask()
    finish(mine, 1, 0.5, tmp_path / "model")
    finish(theirs, 0, 0.5, tmp_path / "model")
    theirs.lead.show(is_last=True)
    mine.lead.show(is_last=True)
    best = [run.summary["best/trial"] for run in study_runs(tmp_path)]
    assert best[-1] == 0
    for number, run in zip(best, study_runs(tmp_path), strict=True):
        model = {f"model-{number}.ckpt": f"model {number}".encode()}
        assert run.artifact_files.get("my.study", model) == model
