"""Whose a run of W&B is: told by this process, by all processes of the study, or by the run's own configuration.

The SDK is not imported with this module, since trainings without a recorder are kept apart too.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from tunehook.integrations.wandb import sdk
from tunehook.record import has, is_text, is_whole, make_folder, open_file, runs_of
from tunehook.system import StoredError, from_json, read_lines
from tunehook.trial import Trial

if TYPE_CHECKING:
    from wandb import Run

INSIDE = "call wandb.init inside the training function, without a fixed id"


class NotYoursError(ValueError):
    """A run cannot be a trial's: it belongs to another trial, is finished, or there is none."""


class Holding(Protocol):
    """What holds a run in the user's code."""

    @property
    def holder(self) -> str:
        """What it is, for messages."""

    @property
    def way_out(self) -> str:
        """How each trial gets a run of its own."""


@dataclass(frozen=True)
class Training:
    """A training that holds a run, by nothing but ``wandb.run``."""

    holder: str = "training"
    way_out: str = INSIDE


def refusal(trial: Trial, holding: Holding, problem: str) -> str:
    """Why a run cannot be a trial's, for people."""
    return (
        f"The {holding.holder} of {trial.name} of study {trial.study!r} {problem}. "
        f"Every trial needs a run of its own: {holding.way_out}."
    )


@dataclass(frozen=True)
class Owner:
    """The trial that a run belongs to; its attempts have one key."""

    key: str
    study: str
    number: int

    @classmethod
    def of(cls, trial: Trial) -> Owner:
        """A trial, as the owner of a run."""
        return cls(trial.key, trial.study, trial.number)

    @classmethod
    def told_by(cls, run: Run) -> Owner | None:
        """Whose a run is by its configuration, which one that was resumed has from the server."""
        told = dict(run.config).get("tunehook")
        if not isinstance(told, Mapping) or not {"key", "study", "trial"} <= told.keys():
            return None  # a value of the user's own
        return cls(told["key"], told["study"], told["trial"])


# Seconds in which W&B's service lets go of a run that was finished.
_RELEASED = 2.0


class Owners:
    """Whose the runs of this process are. All recorders have the same, because two studies can meet in one run."""

    def __init__(self) -> None:
        self._owners: dict[str, Owner] = {}  # by the run's id, kept after the trial, because an id can come back
        self._held: list[Run] = []  # of the trials that are open now
        self._hidden: set[str] = set()  # the ids of runs of our own that are about to begin
        self._one_at_a_time = threading.Lock()

    def check(self, run_id: str, trial: Trial, holding: Holding, told: Owner | None = None) -> None:
        """Refuse a run that is another trial's, by what it says itself where nothing else is known.

        Raises:
            NotYoursError: It is.
        """
        if (problem := _why_not(run_id, self._owners.get(run_id) or told, trial)) is not None:
            raise NotYoursError(refusal(trial, holding, problem))

    def claim(self, run: Run, trial: Trial, holding: Holding | None = None) -> None:
        """Note that an open run is this trial's.

        Raises:
            NotYoursError: It belongs to another trial or is finished.
        """
        from wandb.errors import UsageError

        holding = holding or Training()
        self.check(run.id, trial, holding, Owner.told_by(run))
        try:
            run.define_metric("trial/step")
        except UsageError as error:
            text = f"holds the W&B run {run.id!r}, which is finished already"
            raise NotYoursError(refusal(trial, holding, text)) from error
        self._owners[run.id] = Owner.of(trial)
        self.hold(run)

    def claim_first(self, run_id: str, trial: Trial) -> str | None:
        """Note that a run is this trial's, for all processes of the study; why not, if another one was first."""
        owner = self._owners.setdefault(run_id, Owner.of(trial))
        if owner.key == trial.key:
            owner = _first_claim(run_id, trial)
        return _why_not(run_id, owner, trial)

    def hold(self, run: Run) -> None:
        """Note that an open run is no training's."""
        self._held.append(run)

    def let_go(self, run: Run) -> None:
        """Note that it has ended."""
        self._held[:] = [held for held in self._held if held is not run]

    def is_held(self, run: Run) -> bool:
        """Whether it is open for a trial or a study."""
        return any(run is held for held in self._held)

    def begin(self, run_id: str, **options: Any) -> Run:
        """Begin or resume a run of our own, in no sweep, which ``wandb.init`` in the user's code never returns.

        Without arguments it would return the latest open run, one that ``wandb.log`` does not know.

        Args:
            run_id: Its id.
            options: Further arguments of ``wandb.init``.
        """
        import wandb

        end = time.monotonic() + _RELEASED
        while True:
            try:
                with self._hiding(run_id), sdk.outside_sweep(self._one_at_a_time):
                    return wandb.init(id=run_id, reinit="create_new", **options)
            except Exception as error:
                if time.monotonic() > end or not str(error).endswith("is in use"):
                    raise
            time.sleep(0.05)  # the service still lets go of the run of this id, which was finished just now

    @contextlib.contextmanager
    def _hiding(self, run_id: str) -> Iterator[None]:
        sdk.list_no_more(lambda one: one in self._hidden)
        self._hidden.add(run_id)
        try:
            yield
        finally:
            self._hidden.discard(run_id)


OWNERS = Owners()


def _why_not(run_id: str, owner: Owner | None, trial: Trial) -> str | None:
    if owner is None or owner.key == trial.key:
        return None
    return f"holds the W&B run {run_id!r}, which belongs to trial-{owner.number:04d} of study {owner.study!r}"


def _first_claim(run_id: str, trial: Trial) -> Owner:
    """Whose a run is by what all processes of the study have written, this one now too."""
    path, study = runs_of(trial.folder), trial.folder.parent
    mine = {"run": run_id, "key": trial.key, "study": trial.study, "trial": trial.number}
    with contextlib.suppress(OSError):  # a full disk; the trial's journal tells that
        make_folder(path.parent, below=study)
        with open_file(path, "ab+", below=study) as file:
            file.seek(0)
            if run_id not in (earlier := _claims(read_lines(file))):
                file.write(json.dumps(mine).encode() + b"\n")
                file.flush()
                file.seek(0)
                earlier = _claims(read_lines(file))
            return earlier.get(run_id, Owner.of(trial))
    return Owner.of(trial)


def _claims(lines: Iterable[bytes]) -> dict[str, Owner]:
    """The first claim of each run."""
    found: dict[str, Owner] = {}
    for line in lines:
        with contextlib.suppress(StoredError):  # a line that a killed process has cut off
            claim = from_json(line)
            if has(claim, {"run": is_text, "key": is_text, "study": is_text, "trial": is_whole}):
                found.setdefault(claim["run"], Owner(claim["key"], claim["study"], claim["trial"]))
    return found
