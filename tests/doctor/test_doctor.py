"""What harms is found, said with its mend, and is the exit code."""

from __future__ import annotations

import gc
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from typer.testing import CliRunner

from hostile import ESCAPES, UNSEEN
from studies import write_study
from tunehook.adapter import Patches
from tunehook.cli import app
from tunehook.doctor import Finding, examine
from tunehook.doctor.machine import look_at_machine
from tunehook.doctor.packages import judge, look_at_packages
from tunehook.doctor.places import look_at_folder
from tunehook.extensions import CHECKS


def found(findings: Sequence[Finding], text: str) -> Finding:
    """The one finding that says something."""
    (one,) = [each for each in findings if text in each.text]
    return one


@pytest.mark.parametrize(
    ("package", "version", "asked", "level", "text"),
    [
        ("lightning", "2.6.1", ">=2.1,<2.7,!=2.6.2,!=2.6.3", "ok", "lightning 2.6.1"),
        ("lightning", "2.6.3", ">=2.1,<2.7,!=2.6.2,!=2.6.3", "harm", "lightning 2.6.3: it was compromised"),
        (
            "lightning",
            "2.7.0",
            ">=2.1,<2.7,!=2.6.2",
            "note",
            "lightning 2.7.0 is newer than any",
        ),
        ("lightning", "2.0.9", ">=2.1,<2.7", "harm", "lightning 2.0.9 is none that tunehook works with"),
        ("wandb", "0.28.0", ">=0.28.1", "harm", "wandb 0.28.0: processes that use PyTorch may hang"),
        ("wandb", "0.32.0rc1", ">=0.28.1", "ok", "wandb 0.32.0rc1"),
        ("optuna", "4.9", ">=5.0,<6", "harm", "optuna 4.9 is none"),
        ("scipy", None, ">=1.11", "harm", "scipy is missing, which tunehook needs"),
    ],
)
def test_versions(package: str, version: str | None, asked: str, level: str, text: str) -> None:
    """What is known to harm is said with its reason, and with the command that mends it."""
    told = judge(package, version, SpecifierSet(asked))
    assert (told.level, told.text[: len(text)]) == (level, text)
    assert (told.level == "ok") == (told.mend == "")
    if told.mend:
        requirement = Requirement(told.mend.split("'")[1])
        assert (requirement.name, requirement.specifier) == (package, SpecifierSet(asked))


def test_the_backend_of_keras(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One that is not installed harms where the environment asks for it; a script may set another than the file's."""
    from tunehook.doctor import packages

    monkeypatch.setattr(packages, "installed", {"keras": "3.15", "torch": "2.9"}.get)
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    told = found([*look_at_packages()], "the backend of Keras is tensorflow")
    assert (told.level, told.mend) == ("harm", "export KERAS_BACKEND=torch")
    monkeypatch.delenv("KERAS_BACKEND")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    (tmp_path / "keras.json").write_text('{"backend": "jax"}')
    assert found([*look_at_packages()], "the backend of Keras is jax").level == "note"
    (tmp_path / "keras.json").write_text('["torch"')
    assert found([*look_at_packages()], "the backend of Keras is tensorflow").level == "note"
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    assert found([*look_at_packages()], "the backend of Keras is torch").level == "ok"


@pytest.mark.parametrize(
    ("script", "hidden", "expected"),
    [
        ("echo 'NVIDIA H200, 143771 MiB'", None, ("ok", "GPU 0: NVIDIA H200, 143771 MiB")),
        ("echo 'NVIDIA H200, 143771 MiB'", "", ("note", "CUDA_VISIBLE_DEVICES is '', which hides all GPUs")),
        ("echo 'NVIDIA H200, 143771 MiB'", "-1", ("note", "CUDA_VISIBLE_DEVICES is '-1', which hides all GPUs")),
        ("echo 'Driver/library version mismatch'; exit 18", None,
         ("harm", "the GPUs do not answer: nvidia-smi says 'Driver/library version mismatch'")),
    ],
)  # fmt: skip
def test_gpus(
    script: str, hidden: str | None, expected: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are those of the driver; one that does not answer, and a variable that hides all, are told."""
    (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n{script}\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    if hidden is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    assert expected in [(one.level, one.text) for one in look_at_machine()]


def test_the_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What can be written and locked is well, and nothing is left there; what cannot is told."""
    (fine, *_) = look_at_folder(tmp_path / "not" / "yet")
    assert (fine.level, fine.text.split(",")[0]) == ("ok", f"{tmp_path} can be written to")
    assert not [*tmp_path.iterdir()]
    (told,) = look_at_folder(Path("/proc/nothing"))
    assert told.level == "harm"
    assert told.text.startswith("nothing can be written in /proc: ")
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("nowhere")
    for name in ("file", "link"):
        (told,) = look_at_folder(tmp_path / name)
        assert (told.level, told.text.split(":")[0]) == ("harm", f"nothing can be written in {tmp_path / name}")
    monkeypatch.setattr("tunehook.doctor.places.lock_file", lambda _: True)  # as a file system without locks has it
    assert found([*look_at_folder(tmp_path)], "cannot be locked").level == "harm"
    monkeypatch.setattr("tunehook.doctor.places.kind_of", lambda _: "nfs4")
    assert "postgresql://" in found([*look_at_folder(tmp_path)], "(nfs4)").mend


def test_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each finding is a line or an object; a damaged study harms, and its mend is the command that rebuilds it."""
    monkeypatch.setattr("tunehook.doctor.examination.look_at_packages", lambda: iter(()))
    write_study(trials=2, epochs=2, snapshots=0)
    gc.collect()  # its connection ends, by which SQLite moves all to the file
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    done = CliRunner().invoke(app, ["doctor", "--storage", "sqlite:///missing.db", "--json"])
    told = [Finding(**json.loads(line)) for line in done.output.splitlines()]
    after = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    assert [path for path in {**before, **after} if before.get(path) != after.get(path)] == []
    assert found(told, "sqlite:///missing.db cannot be used: there is no file missing.db").level == "harm"
    assert done.exit_code == 1
    done = CliRunner().invoke(app, ["doctor"])
    assert (done.exit_code, done.output.splitlines()[-1]) == (0, "nothing harms")
    Path("tunehook-studies/digits/study.db").write_bytes(b"no database" * 500)
    done = CliRunner().invoke(app, ["doctor"])
    assert done.exit_code == 1
    assert "tunehook rebuild digits" in done.output
    assert done.output.splitlines()[-1] == "1 thing to mend, marked harm"
    done = CliRunner().invoke(app, ["doctor", "digits"])  # as other commands take it
    assert "note  storage: there is no study in digits\n      give the folder that has" in done.output


def test_patches() -> None:
    """What stands over other packages in this process; `--load` imports a module before."""
    with Patches() as patches:
        patches.put(json, "loads", json.loads)
        assert found([*examine()], "stands over json.loads").about == "patches"
    done = CliRunner().invoke(app, ["doctor", "--load", "no_such_module"])
    assert done.exit_code == 2
    assert (
        done.output
        == "--load no_such_module cannot be imported: ModuleNotFoundError: No module named 'no_such_module'\n"
    )


def test_wandb(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mode and why, without the key; a mode that W&B does not know harms."""
    pytest.importorskip("wandb")
    key = "0123456789" * 4
    monkeypatch.setenv("WANDB_API_KEY", key)
    told = [*examine()]
    assert found(told, "there is no study in tunehook-studies yet").level == "ok"
    assert found(told, "runs are recorded offline: WANDB_MODE").mend == "`tunehook sync` uploads them later"
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("WANDB_BASE_URL", "https://me:pass-word@wandb.example")
    assert found([*examine()], "runs are recorded online to https://me:***@wandb.example")
    monkeypatch.setenv("WANDB_MODE", "of\x1b[2Jline")
    done = CliRunner().invoke(app, ["doctor"])
    assert done.exit_code == 1
    assert r"WANDB_MODE is 'of\x1b[2Jline', which W&B does not know" in done.output
    assert key not in done.output


def test_a_folder_is_no_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What W&B left in the working directory of a notebook, where W&B itself is not installed."""
    (tmp_path / "not_wandb").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(CHECKS, "not_wandb", "not_wandb.health:look")
    assert [*examine()]


def test_hostile_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names of studies, folders and variables do nothing to the terminal."""
    name = ESCAPES.replace("/", "").replace("\ud800", "")
    folder = Path("tunehook-studies", name)
    folder.mkdir(parents=True)
    (folder / "study.db").write_bytes(b"no database" * 500)
    monkeypatch.setenv("TUNEHOOK_LAUNCHER", ESCAPES.replace("\ud800", ""))
    monkeypatch.setenv("TUNEHOOK_STORAGE", f"sqlite:///{name}")
    done = CliRunner().invoke(app, ["doctor"])
    assert done.exit_code == 1
    assert not UNSEEN.search(done.output)
    assert "TUNEHOOK_LAUNCHER is" in done.output
