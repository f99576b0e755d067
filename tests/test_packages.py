"""What is built holds the whole package: the source distribution, the wheel, and the wheel from that distribution."""

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def _named(folder: Path, package: str) -> set[str]:
    """The files of a package by their names when it is installed; a folder that is a link is not looked into."""
    return {f"{package}/{file.relative_to(folder)}" for file in folder.rglob("*") if file.is_file()}


def _build(source: Path, kind: str, into: Path) -> Path:
    """Build a project in its folder as pip does."""
    into.mkdir(exist_ok=True)
    code = f"from setuptools import build_meta; print(build_meta.build_{kind}({str(into)!r}))"
    built = subprocess.run([sys.executable, "-c", code], cwd=source, text=True, capture_output=True)
    assert built.returncode == 0, built.stderr
    return into / built.stdout.split()[-1]


def _files(wheel: Path) -> set[str]:
    """What a wheel puts into the folder of packages, but for its own description."""
    return {name for name in zipfile.ZipFile(wheel).namelist() if not name.startswith("tunehook-")}


@pytest.mark.slow
def test_each_distribution_holds_each_file(tmp_path: Path) -> None:
    """An editable installation is what the tests themselves run on."""
    copy = tmp_path / "copy"
    for name in ("src/tunehook", "integrations"):
        compiled = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=compiled)
    for name in ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    files = _named(copy / "src/tunehook", "tunehook") | _named(copy / "integrations", "tunehook/integrations")
    assert {"tunehook/py.typed", "tunehook/integrations/keras/callback.py"} < files

    with tarfile.open(_build(copy, "sdist", tmp_path)) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    (source,) = (tmp_path / "unpacked").iterdir()
    wheels = _build(copy, "wheel", tmp_path), _build(source, "wheel", tmp_path / "again")
    assert [_files(wheel) for wheel in wheels] == [files] * 2
