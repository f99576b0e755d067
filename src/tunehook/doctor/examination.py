"""All that is looked at, in order."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from tunehook.adapter import live
from tunehook.doctor.finding import Finding
from tunehook.doctor.machine import look_at_machine
from tunehook.doctor.packages import installed, look_at_packages
from tunehook.doctor.places import look_at_folder, look_at_storage
from tunehook.extensions import CHECKS, LAUNCHERS, load
from tunehook.record import ROOT
from tunehook.system import did_you_mean, near


def examine(folder: Path = ROOT, *, storage: str | None = None) -> Iterator[Finding]:
    """Look at the versions, the machine, the folder of the studies, the storage, W&B and what is patched here.

    Nothing is changed: a file that is written to try the folder is removed at once.

    Args:
        folder: Where the studies are. Defaults to ``tunehook-studies``.
        storage: Storage URL. Defaults to that of ``TUNEHOOK_STORAGE``, if it is set.

    Example:
        >>> from tunehook.doctor import examine
        >>> {finding.about for finding in examine()} >= {"packages", "machine", "folder", "patches"}
        True
    """
    yield from look_at_packages()
    yield from look_at_machine()
    yield from look_at_folder(folder)
    yield from look_at_storage(folder, storage)
    yield from _launcher()
    for package, place in CHECKS.items():
        if installed(package) is not None:  # a folder of this name, as W&B makes one, is no package
            yield from load(place)()
    yield from _patches()


def _launcher() -> Iterator[Finding]:
    name = os.environ.get("TUNEHOOK_LAUNCHER")
    if name and name not in LAUNCHERS:
        guess = did_you_mean(near(name, LAUNCHERS, most=1))
        yield Finding("machine", "harm", f"TUNEHOOK_LAUNCHER is {name!r}, which is no launcher",
                      f"unset it, or give one of {', '.join(LAUNCHERS)}.{guess}")  # fmt: skip


def _patches() -> Iterator[Finding]:
    """Each name once: of objects there may be many."""
    names = list(dict.fromkeys(live()))
    if not names:
        yield Finding("patches", "ok", "tunehook stands over nothing of other packages in this process")
    for name in names:
        yield Finding("patches", "ok", f"tunehook stands over {name} in this process")
