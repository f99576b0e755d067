"""What all processes have shown of a study in its run, kept in its folder, and changed by one of them at a time."""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from tunehook.record import is_whole, lock_file, make_folder, open_file
from tunehook.system import StoredError, from_json, read_whole

# So many seconds another process may take for its burst.
PATIENCE = 10.0


@contextlib.contextmanager
def changing(path: Path) -> Iterator[dict[str, Any]]:
    """What was shown of the study, to be changed by one process at a time; kept if nothing is raised.

    Raises:
        TimeoutError: Another process holds it for too long.
    """
    make_folder(path.parent, below=path.parent)
    with open_file(path, "ab+", below=path.parent) as file:
        deadline = time.monotonic() + PATIENCE
        while not lock_file(file):
            if time.monotonic() > deadline:
                raise TimeoutError(f"Another process holds {path}.")
            time.sleep(0.05)
        file.seek(0)
        shown = read_shown(file)
        before = dict(shown)
        yield shown
        if shown != before:
            file.truncate(0)
            file.write(json.dumps(shown).encode())
            file.flush()
            os.fsync(file.fileno())


def read_shown(file: IO[bytes]) -> dict[str, Any]:
    """What was shown, by project; where a machine died and left half of it, rows may come twice, none is missing."""
    try:
        found = from_json(read_whole(file))
    except StoredError:
        return {}
    return {key: kept for key, kept in found.items() if _is_kept(kept)} if isinstance(found, dict) else {}


def _is_kept(kept: Any) -> bool:
    """Whether it is what a burst leaves behind."""
    return (
        isinstance(kept, dict)
        and isinstance(kept.get("run"), str)
        and is_whole(kept.get("trials"))
        and (kept.get("model") is None or is_whole(kept["model"]))
        and (kept.get("folder") is None or (isinstance(kept["folder"], str) and is_whole(kept.get("from"))))
    )


def replaceable(kept: dict[str, Any], run_id: str, *, has_model: bool) -> Path | None:
    """The folder of the latest burst, where it was offline and the next one can write all that it has.

    Args:
        kept: What that burst has left behind.
        run_id: The run.
        has_model: Whether the next one has the model that it has to keep.
    """
    if kept.get("folder") is None or (kept.get("model") is not None and not has_model):
        return None
    folder, file = Path(kept["folder"]), f"run-{run_id}.wandb"
    is_ours = re.fullmatch(rf"offline-run-\d+_\d+-{re.escape(run_id)}(-\d+)?", folder.name) is not None
    if not is_ours or folder.is_symlink() or not (folder / file).is_file() or (folder / f"{file}.synced").exists():
        return None
    return folder
