"""What is done as soon as a module has been imported."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import pytest

from tunehook.adapter.imports import when_imported


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the path, whose modules are forgotten afterwards."""
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("later", "later.inner"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    return tmp_path


def test_it_is_done_once_right_after_the_import(modules: Path) -> None:
    """The module is complete by then; importing it again does nothing more."""
    (modules / "later.py").write_text("before = 1\nvalue = 2\n")
    seen = []
    when_imported("later", lambda: seen.append(sys.modules["later"].value))
    assert seen == []
    assert "later" not in sys.modules
    finders = len(sys.meta_path)
    importlib.import_module("later")
    importlib.import_module("later")
    assert seen == [2]
    assert len(sys.meta_path) == finders - 1


def test_it_is_done_now_where_the_module_is_loaded() -> None:
    """A loaded module is not waited for."""
    seen = []
    when_imported("json", lambda: seen.append(json.dumps(1)))
    assert seen == ["1"]


def test_a_module_of_a_package(modules: Path) -> None:
    """A dotted name is waited for as well."""
    (modules / "later").mkdir()
    (modules / "later" / "__init__.py").write_text("")
    (modules / "later" / "inner.py").write_text("value = 3\n")
    seen = []
    when_imported("later.inner", lambda: seen.append(sys.modules["later.inner"].value))
    importlib.import_module("later")
    assert seen == []
    importlib.import_module("later.inner")
    assert seen == [3]


def test_an_import_that_fails_can_be_tried_again(modules: Path) -> None:
    """It is done after the one that succeeds, and a missing module stays a missing module."""
    seen: list[int] = []
    when_imported("later", lambda: seen.append(1))
    with pytest.raises(ModuleNotFoundError, match=r"^No module named 'later'$"):
        importlib.import_module("later")
    (modules / "later.py").write_text("raise ValueError('not yet')\n")
    importlib.invalidate_caches()
    with pytest.raises(ValueError, match=r"^not yet$"):
        importlib.import_module("later")
    assert seen == []
    (modules / "later.py").write_text("value = 1234\n")
    importlib.invalidate_caches()
    importlib.import_module("later")
    assert seen == [1]
