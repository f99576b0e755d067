"""The versions that are installed, against those that tunehook asks for, and those that are known to harm.

The ranges are those of the package itself (``pip show``), so they are written once. No package is imported.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from tunehook.doctor.finding import Finding

# Why a version is left out, for those who have it. What is outside of a range without a word here was not tried.
_STOLEN = "it was compromised on the package index: take the keys of this machine for known"
_HARM = [
    ("lightning", "==2.6.2", _STOLEN),
    ("lightning", "==2.6.3", _STOLEN),
    ("pytorch-lightning", "==2.6.2", _STOLEN),
    ("pytorch-lightning", "==2.6.3", _STOLEN),
    ("wandb", "<0.28.1", "processes that use PyTorch may hang in it after a fork"),
]
_OWN = {"all", "docs", "test"}  # extras that bring no feature
_BACKENDS = ("torch", "tensorflow", "jax")  # of which tunehook asks for no version


def look_at_packages() -> Iterator[Finding]:
    """Python, what tunehook needs, what its extras bring, and the backends."""
    yield Finding("packages", "ok", f"Python {platform.python_version()} on {platform.system()} {platform.machine()}")
    try:
        asked = [Requirement(line) for line in metadata.requires("tunehook") or ()]
        yield Finding("packages", "ok", f"tunehook {metadata.version('tunehook')}")
    except metadata.PackageNotFoundError:
        yield Finding("packages", "note", "tunehook is not installed but imported from a folder, so which versions it "
                      "asks for is not known", "install it: pip install -e that folder")  # fmt: skip
        asked = []
    found: dict[Finding, None] = {}
    without = []
    for extra, needed in _by_extra(asked).items():
        there = {one.name: version for one in needed if (version := installed(one.name)) is not None}
        if extra and len(there) < len(needed):  # what is there of it may be another project's, of any version
            without.append(f"tunehook[{extra}]")
            continue
        found |= dict.fromkeys(judge(one.name, there.get(one.name), one.specifier) for one in needed)
    yield from found
    if without:
        yield Finding("packages", "ok", f"not installed, and not needed by all: {', '.join(without)}")
    yield from (Finding("packages", "ok", f"{name} {version}") for name in _BACKENDS if (version := installed(name)))
    yield from _keras_backend()


def judge(name: str, version: str | None, asked: SpecifierSet) -> Finding:
    """What to say of a version of a package, by the range that is asked for.

    Args:
        name: The package.
        version: What is installed of it, ``None`` for nothing.
        asked: The versions that tunehook asks for.
    """
    mend = f"pip install '{name}{asked}'"
    if version is None:
        return Finding("packages", "harm", f"{name} is missing, which tunehook needs", mend)
    for package, versions, why in _HARM:
        if package == name and SpecifierSet(versions).contains(version, prereleases=True):
            return Finding("packages", "harm", f"{name} {version}: {why}", mend)
    if asked.contains(version, prereleases=True):
        return Finding("packages", "ok", f"{name} {version}")
    if all(Version(version) >= Version(one.version) for one in asked if one.operator in ("<", "<=", "==")):
        return Finding("packages", "note", f"{name} {version} is newer than any that tunehook was tried with ({asked})",
                       f"{mend}, if something is wrong")  # fmt: skip
    return Finding("packages", "harm", f"{name} {version} is none that tunehook works with ({asked})", mend)


def installed(name: str) -> str | None:
    """The version of a package that is installed, ``None`` where it is not."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _by_extra(asked: list[Requirement]) -> dict[str, list[Requirement]]:
    """What each extra needs that brings a feature; under an empty name what is always needed."""
    extras = [name for name in metadata.metadata("tunehook").get_all("Provides-Extra") or () if name not in _OWN]
    always = [one for one in asked if _is_of(one, "")]
    return {"": always} | {name: [one for one in asked if one not in always and _is_of(one, name)] for name in extras}


def _is_of(one: Requirement, extra: str) -> bool:
    return one.marker is None or one.marker.evaluate({"extra": extra})


def _keras_backend() -> Iterator[Finding]:
    if installed("keras") is None:
        return
    name, where = os.environ.get("KERAS_BACKEND"), "KERAS_BACKEND"
    if not name:
        name, where = _configured() or "tensorflow", "Keras's configuration"
    if name not in _BACKENDS:
        yield Finding("packages", "note", f"the backend of Keras is {name!r} ({where}), with which nothing was tried",
                      f"set KERAS_BACKEND to one of {', '.join(_BACKENDS)}")  # fmt: skip
    elif installed(name) is None:
        there = [one for one in _BACKENDS if installed(one) is not None]
        yield Finding("packages", "harm" if where == "KERAS_BACKEND" else "note",
                      f"the backend of Keras is {name} ({where}), which is not installed",
                      f"export KERAS_BACKEND={there[0]}" if there else f"pip install {name}")  # fmt: skip
    else:
        yield Finding("packages", "ok", f"the backend of Keras is {name} ({where})")


def _configured() -> str | None:
    """The backend in the file that Keras reads, which it writes itself at its first import."""
    place = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras") / "keras.json"
    try:
        found = json.loads(place.read_text()).get("backend")
    except (OSError, ValueError, AttributeError):
        return None
    return found if isinstance(found, str) else None
