"""What this process knows of its trial outside of any fit: which one it is, and what the script has read of it."""

from __future__ import annotations

import base64
import contextlib
import contextvars
import os
import pickle
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

from tunehook.trial import Trial

# Hands the trial to the ranks that a framework starts during its fit; they inherit the variable.
_VARIABLE = "TUNEHOOK_TRIAL"


class Stopped(BaseException):
    """Leaves the training function of a trial that was stopped, where it would begin another fit.

    It passes by ``except Exception``, so that only `tunehook` hears of it.
    """


class _Known:
    """The one instance is the class itself."""

    trial: Trial | None = None
    is_stopped: bool = False
    is_for_ranks: bool = False
    may_return: bool = False
    read: ClassVar[dict[str, Trial | None]] = {}
    defaults: ClassVar[dict[str, Any]] = {}
    injected: tuple[Trial, set[str]] | None = None


class _Asking:
    """An objective that is called, which asks for its values one by one: those so far, and what it has read of them."""

    def __init__(self, values: Callable[[], Mapping[str, Any]]) -> None:
        self.values, self.read, self.injected = values, dict[str, "Trial | _Asking | None"](), set[str]()

    def begin(self) -> None:
        """Forget both: it is called, maybe once more."""
        self.read.clear()
        self.injected = set()


_asking: contextvars.ContextVar[_Asking | None] = contextvars.ContextVar("asking", default=None)


def _reads() -> Mapping[str, Trial | _Asking | None]:
    """Who gave what was read, by name: in an objective by that, for several may be called in threads."""
    asking = _asking.get()
    return _Known.read if asking is None else asking.read


@contextlib.contextmanager
def asking(values: Callable[[], Mapping[str, Any]]) -> Iterator[Callable[[], None]]:
    """Call an objective inside that asks somebody else for its values, such as Optuna.

    Args:
        values: Gives those that it has asked for.

    Yields:
        What to call before it is called once more.
    """
    asked = _Asking(values)
    token = _asking.set(asked)
    try:
        yield asked.begin
    finally:
        _asking.reset(token)


def asked_values() -> Mapping[str, Any]:
    """What the objective that is called has asked for so far, or the values of the trial that is known."""
    asking, trial = _asking.get(), _Known.trial
    if asking is not None:
        return asking.values()
    return {} if trial is None else trial.params


@contextlib.contextmanager
def knowing(trial: Trial | None, *, may_return: bool = False, is_next: bool = False) -> Iterator[None]:
    """Know which trial the training function works on that is called inside.

    Args:
        trial: The trial; ``None`` on a rank that hears of it in its fit only.
        may_return: Whether that function may return the trial's value.
        is_next: Whether the function is called already, and what it has read is an earlier trial's. Defaults to False.
    """
    read, around = dict(_Known.read) if is_next else {}, _asking.get()
    _asking.set(None)  # a study within an objective has values of its own
    _Known.trial, _Known.is_stopped, _Known.may_return = trial, False, may_return
    _Known.read.clear()
    if trial is not None:
        learn(trial)
    _Known.read.update(read)
    _Known.defaults.clear()
    try:
        yield
    finally:
        _Known.trial, _Known.injected, _Known.may_return = None, None, False
        _asking.set(around)
        os.environ.pop(_VARIABLE, None)


@contextlib.contextmanager
def finding_ranks() -> Iterator[None]:
    """Call the training function inside up to its first fit, in which its ranks find each other and hear of the trial.

    They were started from outside, as by torchrun, and are called once more then.
    """
    _Known.is_for_ranks = True
    try:
        yield
    finally:
        _Known.is_for_ranks = False


def finds_ranks() -> bool:
    """Whether the training function is called only for that."""
    return _Known.is_for_ranks


def learn(trial: Trial) -> None:
    """Know the trial from now on, as if it had been known before the training function was called."""
    _Known.trial = trial
    _Known.read.clear()
    os.environ[_VARIABLE] = base64.b64encode(pickle.dumps(trial)).decode()


def handed_trial() -> Trial | None:
    """The trial that the process knew which started this one, ``None`` where it knew none."""
    text = os.environ.get(_VARIABLE)
    return None if text is None else pickle.loads(base64.b64decode(text))  # noqa: S301 - from the process that started us


def may_return_value() -> bool:
    """Whether the training function may return the trial's value, so that no fit has to measure it."""
    return _Known.may_return


def known_trial() -> Trial | None:
    """The trial that the training function works on, ``None`` where none is known."""
    return _Known.trial


@contextlib.contextmanager
def ending_early(tell: Callable[[Exception], object]) -> Iterator[None]:
    """Call the training function inside, which may end otherwise than it would where its trial was stopped.

    What a script raises then comes of what the stop has cut short, such as an empty history.

    Args:
        tell: Hears of such an error.
    """
    try:
        yield
    except Stopped:
        pass
    except Exception as error:
        if not _Known.is_stopped:
            raise
        tell(error)


def note_stop() -> None:
    """Note that the trial was stopped, so that no further fit of it begins."""
    _Known.is_stopped = True


def leave_if_stopped() -> None:
    """Leave the training function where its trial was stopped: called where a fit begins.

    Raises:
        Stopped: It was.
    """
    if _Known.trial is not None and _Known.is_stopped:
        raise Stopped


def note_read(name: str, trial: Trial | None) -> None:
    """Note that the script has read a value.

    Args:
        name: Its name.
        trial: The trial that gave it, ``None`` where the script got its default.
    """
    asking = _asking.get()
    if asking is None:
        _Known.read[name] = trial
    else:
        asking.read[name] = asking if name in asking.values() else None


def note_default(name: str, default: Any) -> None:
    """Note that the script has read a value that no trial gave, and got its own."""
    note_read(name, None)
    _Known.defaults[name] = default


def defaults_read() -> dict[str, Any]:
    """The script's own values that it has read since its training function was called, by name."""
    return dict(_Known.defaults)


def was_read(name: str) -> bool:
    """Whether the script has read a value of a name, its default included."""
    return name in _reads()


def names_read(trial: Trial) -> set[str]:
    """The names whose values the script has read from a trial."""
    return {name for name, giver in _reads().items() if giver in (trial, _asking.get()) and giver is not None}


def unread_values(trial: Trial) -> dict[str, Any]:
    """The values of a trial that the script has not read, by name: those are put into objects."""
    read = names_read(trial)
    return {name: value for name, value in trial.params.items() if name not in read}


def unread_asked() -> dict[str, Any]:
    """What the objective that is called has asked for and not read itself, by name."""
    read = _reads()
    return {name: value for name, value in asked_values().items() if read.get(name) is None}


def names_read_too_early(trial: Trial) -> list[str]:
    """The names of a trial for which the script got its defaults or an earlier trial's value, before it was known."""
    read, own = _reads(), names_read(trial)
    return [name for name in trial.params if name in read and name not in own]


def note_injected(trial: Trial, names: set[str]) -> None:
    """Note which values of a trial were put into objects."""
    asking = _asking.get()
    if asking is None:
        _Known.injected = trial, names
    else:
        asking.injected = names


def was_injected(trial: Trial | None, name: str) -> bool:
    """Whether a value of a trial, or of the objective that is called, was put into an object."""
    asking = _asking.get()
    if asking is not None:
        return name in asking.injected
    return _Known.injected is not None and _Known.injected[0] == trial and name in _Known.injected[1]
