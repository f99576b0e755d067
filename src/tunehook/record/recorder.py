"""The protocol of recorders, what some of them can do besides, and the check that a recorder is one.

What a recorder can do besides is a protocol of one member for each. A recorder needs no base class: it has the method,
or it has not. A name that is nearly one of these would be ignored in silence, so it is an error.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeGuard, TypeVar, runtime_checkable

from tunehook.snapshot import Snapshot
from tunehook.trial import Outcome, Trial

_A = TypeVar("_A")

_NEAR = 0.83  # from this share of equal letters on, a name is taken for a slip


@runtime_checkable
class Recorder(Protocol):
    """Something that keeps a trial's record, such as `WandbRecorder` in ``tunehook.integrations.wandb``.

    A study holds recorders and calls them on one rank only, from the thread that trains, in this order: `open` once,
    `report` any number of times, `close` once. One recorder serves one trial after the other. What it may have besides
    are `CanStop`, `ShowsSnapshots`, `OneForAllAttempts`, `WritesBeside`, `ShowsStudy` and `KeepsModel`.

    A trial that goes on from a checkpoint of an earlier attempt hands over the reports of that attempt first.
    """

    def open(self, trial: Trial, config: Mapping[str, Any], *, loggers: Sequence[object] = ()) -> None:
        """Begin the record of a trial, before its first step.

        Args:
            trial: The trial, with its sampled values.
            config: The effective configuration by slot path: the sampled values and every other slot that exists, as
                `outline` has them.
            loggers: The loggers that the user gave to the framework, for a recorder that shares their run.
        """

    def report(self, step: int, metrics: Mapping[str, float]) -> None:
        """Keep the metrics of one step; steps never go down."""

    def close(self, outcome: Outcome) -> None:
        """End the record, whatever happened."""

    def where(self) -> str | None:
        """Where a person finds the record of the trial that was opened last: a path or an address."""


@runtime_checkable
class CanStop(Protocol):
    """A recorder on which people can stop a trial, which ends as pruned."""

    def wants_stop(self) -> str | None:
        """Why the trial shall stop, ``None`` where it shall go on; asked after each measurement."""


@runtime_checkable
class ShowsSnapshots(Protocol):
    """A recorder that shows the parameters."""

    def snapshot(self, step: int, snapshot: Snapshot) -> None:
        """Keep statistics of the parameters, taken after the measurement of a step, 0 before the first."""


@runtime_checkable
class OneForAllAttempts(Protocol):
    """A recorder whose record is the same for all attempts of a trial."""

    def has_reports(self, taken: int, made: int) -> int:
        """How many reports it has already, asked after `open` and where the trial goes on.

        Args:
            taken: How many come before the checkpoint, 0 where the trial starts over.
            made: So many have earlier attempts made.

        Returns:
            Their number; -1 says that it has not even the snapshots that lie before the first report.
        """


@runtime_checkable
class WritesBeside(Protocol):
    """A recorder that goes on writing beside the training."""

    def wait(self) -> None:
        """Return when all is written; called after the trial in the processes of a cluster."""


@runtime_checkable
class ShowsStudy(Protocol):
    """A recorder that shows the study as a whole."""

    def update(self, study: Any, *, is_last: bool) -> None:
        """Look at the study, a `Study`, after the end of each trial, in the process that tells the study.

        Args:
            study: The study.
            is_last: Whether ``study.optimize`` returns now.
        """


@runtime_checkable
class KeepsModel(Protocol):
    """A recorder that finds in the journal where the training has kept its model, if its attribute is true."""

    best_checkpoint: bool


# What each asks for.
MEMBERS: dict[Callable[..., object], str] = {
    CanStop: "wants_stop", ShowsSnapshots: "snapshot", OneForAllAttempts: "has_reports", WritesBeside: "wait",
    ShowsStudy: "update", KeepsModel: "best_checkpoint",
}  # fmt: skip
_BASE = ("open", "report", "close", "where")
_METHODS = {name: getattr(Recorder, name) for name in _BASE} | {
    name: getattr(ability, name) for ability, name in MEMBERS.items() if ability is not KeepsModel
}


def offers(recorder: object, ability: Callable[..., _A]) -> TypeGuard[_A]:
    """Whether a recorder can do something besides; a member that is ``None`` counts as missing.

    Args:
        recorder: The recorder.
        ability: The protocol, such as `CanStop`. As a callable, since to type checkers a protocol is no ``type``.
    """
    return _member(recorder, MEMBERS[ability]) is not None


def _member(recorder: object, name: str) -> Any:
    """A method by its name. Where every name gives something, as of a mock, what was written down counts."""
    if hasattr(recorder, "_no_recorder_has_this"):
        return inspect.getattr_static(recorder, name, None)
    return getattr(recorder, name, None)


def check_recorder(recorder: object) -> None:
    """Check that a recorder has the methods of one, and none that would be ignored or could not be called.

    Args:
        recorder: What was passed as one.

    Raises:
        TypeError: It is none, or something about it is a slip.
    """
    missing = [name for name in _BASE if not callable(getattr(recorder, name, None))]
    if isinstance(recorder, type) or len(missing) == len(_BASE):
        raise TypeError(
            f"A recorder has the methods open, report, close and where; got {recorder!r}.\n"
            "  Pass instances, such as recorders=[WandbRecorder(project='digits')]."
        )
    kind = type(recorder).__name__
    slips = _slips(recorder)
    if missing:
        meant = [f" Is {slip!r} meant to be {name!r}?" for slip, name in slips.items() if name in missing]
        raise TypeError(
            f"A recorder has the methods open, report, close and where; {kind} lacks {', '.join(missing)}."
            f"{''.join(meant)}\n  Write: " + "; ".join(map(_signature, missing))
        )
    for slip, name in slips.items():
        raise TypeError(
            f"{kind} has {slip!r}, which tunehook never calls. Did you mean {name!r}?\n"
            f"  A recorder can also have {', '.join(MEMBERS.values())}. If it is something else, give it another name, "
            f"such as _{slip}."
        )
    for name in _METHODS:
        _check_call(recorder, name)
    if inspect.isroutine(_member(recorder, MEMBERS[KeepsModel])):
        raise TypeError(
            f"{kind}.best_checkpoint is a method. It has to be an attribute, True where the recorder wants the model "
            "that a training kept.\n  Write: self.best_checkpoint = True"
        )


def _slips(recorder: object) -> dict[str, str]:
    """What a recorder has, by its name, that is nearly something that it lacks."""
    kind = type(recorder)
    public = [name for name in dir(kind) if not name.startswith("_")]
    flags = [*public, *(name for name in getattr(recorder, "__dict__", ()) if not name.startswith("_"))]
    pairs = [(name, known) for name in public if callable(getattr(kind, name, None)) for known in _METHODS]
    pairs += [
        (name, MEMBERS[KeepsModel]) for name in flags if isinstance(inspect.getattr_static(recorder, name, None), bool)
    ]
    return {name: known for name, known in pairs if _is_near(name, known) and not hasattr(recorder, known)}


def _is_near(name: str, known: str) -> bool:
    one, other = (text.replace("_", "").lower() for text in (name, known))
    return difflib.SequenceMatcher(a=one, b=other).ratio() >= _NEAR


def _check_call(recorder: object, name: str) -> None:
    """Check that a method can be called as it will be, as far as its parameters can be known."""
    method = _member(recorder, name) if name not in _BASE else getattr(recorder, name)
    if method is None:
        return
    kind = type(recorder).__name__
    if not callable(method):
        raise TypeError(
            f"{kind}.{name} is no method, but {method!r}; a recorder's {name} is called.\n"
            f"  Write: {_signature(name)}\n  If it is something else, give it another name."
        )
    try:
        takes = inspect.signature(method)
    except (TypeError, ValueError):  # such as of a class in C
        return
    wanted = [*inspect.signature(_METHODS[name]).parameters.values()][1:]
    try:
        takes.bind(
            *[one for one in wanted if one.kind is not one.KEYWORD_ONLY],
            **{one.name: one for one in wanted if one.kind is one.KEYWORD_ONLY},
        )
    except TypeError as error:
        raise TypeError(
            f"{kind}.{name}{takes} cannot be called as a recorder's {name} is: {error}.\n  Write: {_signature(name)}"
        ) from None


def _signature(name: str) -> str:
    """How a method is written, without its types."""
    parameters = inspect.signature(_METHODS[name]).parameters.values()
    plain = inspect.Signature([one.replace(annotation=one.empty) for one in parameters])
    return f"def {name}{plain}: ..."
