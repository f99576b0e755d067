"""Where a study is kept: Optuna's storages, opened by several processes at once, and failing with a way out."""

from __future__ import annotations

import contextlib
import random
import re
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optuna.storages import BaseStorage


class StudyError(RuntimeError):
    """A study that cannot be opened, or cannot go on."""


def patiently(make: Callable[[], BaseStorage]) -> BaseStorage:
    """Make a storage, again where another process makes the tables of a new database at the same moment."""
    import sqlalchemy.exc

    for seconds in (0.1, 0.2, 0.4, 0.8, 1.6):
        try:
            return make()
        except sqlalchemy.exc.DBAPIError as error:
            if not re.search("already exists|unique", str(error.orig), re.IGNORECASE):
                raise
            time.sleep(seconds * random.SystemRandom().uniform(0.5, 1.5))
    return make()


@contextlib.contextmanager
def quiet(optuna: Any) -> Iterator[None]:
    """Optuna's own lines on a study that is opened say nothing that ours do not."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(max(before, optuna.logging.WARNING))
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)


@contextlib.contextmanager
def storage_errors(study: str, storage: object) -> Iterator[None]:
    """Say which storage cannot be used and what to do; passwords stay out.

    Args:
        study: Name of the study.
        storage: The storage, its URL or its file.

    Raises:
        StudyError: In place of what the storage raises.
    """
    import sqlalchemy.exc
    from optuna.exceptions import StorageInternalError

    try:
        yield
    except (sqlalchemy.exc.SQLAlchemyError, StorageInternalError, OSError, ImportError, ValueError) as error:
        cause = error.__cause__ or error
        said = (str(getattr(cause, "orig", None) or cause) or repr(cause)).splitlines()[0].rstrip(".")
        text = (
            f"The storage {getattr(storage, 'url', storage)} of study '{study}' cannot be used: {said}.\n"
            "  Check that the place exists and can be written, or give another one: Study(..., storage=...)."
        )
        raise StudyError(re.sub(r"(://[^/@:\s]*):\S*@", r"\1:***@", text)) from error
