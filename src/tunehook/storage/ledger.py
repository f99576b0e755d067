"""What a study asks of its storage, which is opened here only.

Nothing is opened before it is first needed. Database connections do not survive a fork: a process makes its own ledger.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import TYPE_CHECKING, Any

from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState, create_trial

from tunehook.record import StudyPaths
from tunehook.search import GridSampler, Method
from tunehook.space import Space, SpaceError
from tunehook.storage.attributes import (
    FEASIBLE,
    OUTCOME,
    OWNER,
    stored_attempt,
    stored_key,
    stored_lineage,
    stored_pause,
)
from tunehook.storage.folder import holding
from tunehook.storage.messages import from_environment
from tunehook.storage.notes import Notes
from tunehook.storage.opening import described, open_study
from tunehook.storage.states import ending, is_counted, is_running, is_waiting, outcome_of
from tunehook.storage.waiting import keep_waiting
from tunehook.system import (
    attributes_of,
    first_line,
    kept_random,
    running_trial,
    study_id,
    suggest,
    trial_id,
)
from tunehook.trial import Lineage, Mode, Objective, Outcome, Trial, key_of

if TYPE_CHECKING:
    from optuna import Study as OptunaStudy
    from optuna import Trial as AskedTrial
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

    from tunehook.storage.heartbeat import Pulse
    from tunehook.storage.retrying import PatientStorage


log = logging.getLogger("tunehook")


class Ledger:
    """What a study asks of its storage.

    Args:
        name: Name of the study.
        space: What is searched.
        metric: Name of the tuned metric.
        mode: ``"min"`` or ``"max"``.
        objective: The value that counts.
        paths: The names below the study's folder.
        given: The storage, or the URL of one; ``None`` for that of the environment, or else the SQLite file.
        method: Who proposes values and stops trials.
        found: The study where it is open already, and its storage.
        others: Further metrics, with their modes.
        limits: The lowest and the highest value of metrics.
    """

    def __init__(
        self,
        name: str,
        space: Space,
        *,
        metric: str,
        mode: Mode,
        objective: Objective,
        paths: StudyPaths,
        given: str | BaseStorage | None,
        method: Method,
        found: tuple[OptunaStudy, PatientStorage] | None = None,
        others: Mapping[str, Mode] | None = None,
        limits: Mapping[str, tuple[float | None, float | None]] | None = None,
    ) -> None:
        self.name, self.space, self.metric, self.mode, self.objective = name, space, metric, mode, objective
        self.others, self._limits = dict(others or {}), dict(limits or {})
        self.paths, self._given, self._method = paths, given, method
        self._open: tuple[OptunaStudy, PatientStorage] | None = found
        self._study_id = ""
        self._asked: dict[int, AskedTrial] = {}  # those that run here
        self._ends: dict[int, tuple[FrozenTrial, Outcome]] = {}  # of trials that have ended, as they were read
        self._is_known: dict[int, bool] = {}  # by the numbers of trials, whether their values are of the space
        self.distributions = space.distributions()

    # ------------------------------------------------------------------ the storage

    @property
    def study(self) -> OptunaStudy:
        """The Optuna study below."""
        return self._opened()[0]

    @property
    def kept(self) -> PatientStorage:
        """The storage, with patience."""
        return self._opened()[1]

    @property
    def study_id(self) -> str:
        """Tells the study from others of its name; empty where it was opened to look at it."""
        self._opened()
        return self._study_id

    @property
    def notes(self) -> Notes:
        """What is kept of the study as a whole."""
        is_shared = self._given is not None or from_environment() is not None
        return Notes(self.study, self.space, self._method, is_shared=is_shared)

    @property
    def pulse(self) -> Pulse | None:
        """The signs of life of the trials; ``None`` where no other machine sees the storage."""
        return self.kept.pulse

    def _opened(self) -> tuple[OptunaStudy, PatientStorage]:
        if self._open is None:
            study, kept, self._study_id = open_study(
                self.name,
                # No copy of the environment's is kept: it is the one that is given now.
                from_environment() if self._given is None else self._given,
                paths=self.paths,
                sampler=self._method.sampler(),
                pruner=self._method.pruner(),
                mine=described(self.metric, self.mode, self.others) | {"objective": self.objective},
                space=self.space,
                known_id=self._study_id,
            )
            self._open = study, kept
            begun = next((frozen.distributions for frozen in self.trials() if frozen.distributions), {})
            # An older version sampled wide numbers in another way, and Optuna takes one kind in a study only.
            self.distributions |= {
                name: begun[name] for name, d in self.distributions.items() if type(d) is not type(begun.get(name, d))
            }
        return self._open

    @property
    def is_there(self) -> bool:
        """Whether the file of the study is still where it was opened."""
        return self._open is None or self.kept.is_there

    def renew(self) -> None:
        """Open the study again whose file was removed, and write what is known of it.

        The removed file is open here still, so it can be read.

        Raises:
            StudyError: It cannot be made again.
        """
        removed = self._opened()
        trials, attributes, rest = self.trials(), self.study.user_attrs, self.kept.rest
        self._open = None
        try:
            self.kept.rest = rest
            with self.holding():
                for name in attributes.keys() - self.study.user_attrs.keys():
                    self.study.set_user_attr(name, attributes[name])
                for frozen in trials[len(self.trials()) :]:
                    self.kept.put_in(study_id(self.study), frozen)
                for frozen in filter(is_waiting, trials):
                    keep_waiting(self.paths, self.study_id, frozen)
            self._asked = {number: running_trial(self.study, self.numbered(number)) for number in self._asked}
            if self.pulse is not None:
                for asked in self._asked.values():
                    self.pulse.add(trial_id(asked))
        except BaseException:  # the next call finds it removed again, and tries once more
            self._open = removed
            raise

    def renew_sampler(self) -> None:
        """Take the sampler that the method chooses now."""
        if self._open is not None:
            self.study.sampler = self._method.sampler()

    @contextlib.contextmanager
    def resting(self, rest: Callable[[float], bool]) -> Iterator[None]:
        """Pass the time in which the storage is away otherwise than by sleep."""
        kept = self.kept
        before, kept.rest = kept.rest, rest
        try:
            yield
        finally:
            self.kept.rest = before  # of the storage that is open by then

    # ------------------------------------------------------------------ trials, read

    def trials(self) -> list[FrozenTrial]:
        """All trials as Optuna has them, not copied: for reading only."""
        return self.study.get_trials(deepcopy=False)

    def numbered(self, number: int) -> FrozenTrial:
        """The trial of a number; it stands elsewhere in the list where one before it cannot be read.

        Raises:
            IndexError: There is none.
        """
        trials = self.trials()
        there = trials[number : number + 1] if number >= 0 else []
        found = next((one for one in (*there, *trials) if one.number == number), None)
        if found is None:
            raise IndexError(f"There is no trial {number}.")
        return found

    def running(self) -> list[FrozenTrial]:
        """Those that run, wherever that is."""
        return [frozen for frozen in self.trials() if is_running(frozen)]

    def begun(self) -> list[FrozenTrial]:
        """Without those that have no values: enqueued, being sampled by another process, refused by a grid."""
        return [frozen for frozen in self.trials() if self.has_values(frozen) and not is_waiting(frozen)]

    @property
    def finished(self) -> int:
        """How many trials told the search something: complete, pruned, paused and infeasible ones."""
        return sum(map(self.has_ended, self.trials()))

    def has_ended(self, frozen: FrozenTrial) -> bool:
        """Whether a trial counts as one that was wanted."""
        return is_counted(frozen) and self.has_values(frozen)

    @property
    def has_waiting(self) -> bool:
        """Whether there are values to ask again."""
        return any(is_waiting(frozen) for frozen in self.trials())

    def has_values(self, frozen: FrozenTrial) -> bool:
        """Whether a trial has a value for each name that is searched and exists in it, in its distribution."""
        return self._is_complete(frozen) and self._is_of_space(frozen)

    def _is_complete(self, frozen: FrozenTrial) -> bool:
        try:
            return self._is_known.get(frozen.number, False) or self.space.is_complete(frozen.params)
        except SpaceError:  # a choice has none of its options, which is told where its values are looked at
            return True

    def _is_of_space(self, frozen: FrozenTrial) -> bool:
        """Whether the values of a trial are of the space, looked at once: it is asked of all trials at each turn."""
        if (number := frozen.number) not in self._is_known:
            try:
                self.space.decode(frozen.params)
                self._is_known[number] = True
            except (SpaceError, TypeError, ValueError, OverflowError) as error:
                self._is_known[number] = False
                log.warning("Trial %d of study '%s' is left out: %s", number, self.name, first_line(error))
        return self._is_known[number]

    def as_trial(self, asked: AskedTrial | FrozenTrial, params: dict[str, Any] | None = None) -> Trial:
        """A trial as a plain value; its values are those of the storage unless they are given."""
        return Trial(
            study=self.name,
            number=asked.number,
            params=self.space.decode(asked.params) if params is None else params,
            folder=self.paths.trial(asked.number),
            metric=self.metric,
            mode=self.mode,
            attempt=stored_attempt(asked) or 0,
            key=self.key_of(asked),
            study_id=self.study_id,
            pauses=stored_pause(asked)["count"],
            lineage=self.lineage_of(asked),
            others=self.others,
            limits=self._limits,
        )

    def lineage_of(self, asked: AskedTrial | FrozenTrial) -> Lineage | None:
        """The place of a trial in its population, ``None`` in other searches."""
        stored = stored_lineage(asked)
        if stored is None:
            return None
        parent, key = stored["parent"], ""
        with contextlib.suppress(IndexError):  # its row cannot be read
            key = "" if parent is None else self.key_of(self.numbered(parent))
        return Lineage(**stored, key=key, names=tuple(map(self.space.name_of, self.space.searched)))

    def outcome_of(self, frozen: FrozenTrial) -> Outcome:
        """How a trial ended, or that it runs; that of one which has ended is checked once, for there may be many."""
        if not frozen.state.is_finished():
            return outcome_of(frozen)
        known = self._ends.get(frozen.number)
        if known is None or (known[0] is not frozen and known[1].state == "paused"):  # it may have gone on meanwhile
            known = self._ends[frozen.number] = frozen, outcome_of(frozen)
        return known[1]

    def is_paused(self, frozen: FrozenTrial) -> bool:
        """Whether a trial waits to go on."""
        return frozen.state.is_finished() and self.outcome_of(frozen).state == "paused"

    def key_of(self, asked: AskedTrial | FrozenTrial) -> str:
        """The key that a trial shares with its later attempts."""
        return stored_key(asked) or key_of(self.name, asked.number, asked.datetime_start)

    # ------------------------------------------------------------------ trials, written

    def ask(self) -> AskedTrial:
        """The next trial."""
        asked = self.study.ask()
        self.space.walk(lambda name: suggest(asked, name, self.distributions[name]))
        return asked

    def asked(self, number: int) -> AskedTrial:
        """A trial that runs; another process may have asked for it."""
        if number not in self._asked:
            self._asked[number] = running_trial(self.study, self.numbered(number))
        return self._asked[number]

    def take(self, asked: AskedTrial) -> None:
        """Remember a trial that runs here."""
        self._asked[asked.number] = asked

    def let_go(self, number: int) -> None:
        """Forget a trial that ran here."""
        self._asked.pop(number, None)

    def begun_last(self) -> FrozenTrial | None:
        """The trial that this thread began last where it runs, and was not taken by anyone; ``None`` for none."""
        frozen = None if self._open is None else self.kept.begun()
        return None if frozen is None or frozen.number in self._asked or not is_running(frozen) else frozen

    def enqueue(self, raw: Mapping[str, Any], named: Mapping[str, Any] | None = None) -> None:
        """Let these raw values be asked next; with attempt and key where they are asked again."""
        frozen = self.kept.enqueue(study_id(self.study), raw, named or {})
        keep_waiting(self.paths, self.study_id, frozen)

    def note(self, trial: AskedTrial | FrozenTrial, name: str, value: Any) -> None:
        """Keep an attribute of a trial."""
        self.kept.set_trial_user_attr(trial_id(trial), name, value)

    def end(self, trial: AskedTrial | FrozenTrial, outcome: Outcome) -> None:
        """Write how a trial ended, past the sampler.

        Raises:
            UpdateFinishedTrialError: Its end was told already.
        """
        self.note(trial, OUTCOME, dataclasses.asdict(outcome))
        self.set_state(trial, *ending(outcome, several=bool(self.others)))

    def tell(self, asked: AskedTrial, outcome: Outcome) -> None:
        """Write how a trial ended, and let the sampler know.

        Raises:
            UpdateFinishedTrialError: Its end was told already.
        """
        self.note(asked, OUTCOME, dataclasses.asdict(outcome))
        state, values = ending(outcome, several=bool(self.others))
        with kept_random():
            self.study.tell(asked, values if state == TrialState.COMPLETE else None, state=state)

    def set_state(
        self, trial: AskedTrial | FrozenTrial, state: TrialState, values: Sequence[float] | None = None
    ) -> None:
        """Write the state of a trial."""
        self.kept.set_trial_state_values(trial_id(trial), state, values)

    def go_on(self, paused: FrozenTrial) -> AskedTrial | None:
        """Let a paused trial run here; ``None`` where another process was faster."""
        try:
            if not self.kept.set_trial_state_values(trial_id(paused), TrialState.RUNNING):
                return None
        except UpdateFinishedTrialError:  # it has even ended
            return None
        asked = self._asked[paused.number] = running_trial(self.study, paused)
        return asked

    def give_back(self, asked: AskedTrial) -> None:
        """Let a trial wait for whoever asks next; it keeps its number and its values."""
        self.let_go(asked.number)
        self.note(asked, OWNER, None)
        self.set_state(asked, TrialState.WAITING)

    # ------------------------------------------------------------------ trials, put in

    def runs_here(self, number: int) -> bool:
        """Whether a trial runs in this process."""
        return number in self._asked

    def put_in(
        self, number: int, outcome: Outcome | None, *, began: float, ended: float = 0.0, raw: Mapping[str, Any] | None,
        is_given: bool, series: Mapping[int, float] | None = None, named: Mapping[str, Any],
    ) -> bool:  # fmt: skip
        """Put in a trial that is known from elsewhere, in one piece; whether it got its number.

        The storage gives the number. Where it is another trial's by now, nothing is put in.

        Args:
            number: Its number, the next one of the storage.
            outcome: How it ended, ``None`` where that is not known.
            began: When it was asked for, in seconds since 1970.
            ended: When it ended.
            raw: Its raw values, ``None`` where none are known.
            is_given: Whether it was enqueued.
            series: The tuned metric by step.
            named: Further attributes.
        """
        if len(self.trials()) != number:  # another process has asked for a trial
            return False
        known = raw or {}
        state, values = (TrialState.RUNNING, None) if outcome is None else ending(outcome, several=bool(self.others))
        is_infeasible = outcome is not None and outcome.state == "infeasible"
        template = create_trial(
            state=state, values=values, params=dict(known),
            distributions={name: self.distributions[name] for name in known},
            intermediate_values=dict(series or {}),
            user_attrs={**named, **({} if outcome is None else {OUTCOME: dataclasses.asdict(outcome)})},
            system_attrs=attributes_of(given=known if is_given else None, broken=FEASIBLE if is_infeasible else None),
        )  # fmt: skip
        template.datetime_start = datetime.fromtimestamp(began)
        template.datetime_complete = datetime.fromtimestamp(ended or began) if state.is_finished() else None
        made = self.kept.get_trial(self.kept.put_in(study_id(self.study), template))
        if made.number != number and not made.state.is_finished():  # at this very moment
            self.end(made, Outcome("interrupted", f"it is trial {number}, whose number another one has"))
        return made.number == number

    def begin_again(self, waiting: FrozenTrial, raw: Mapping[str, Any]) -> None:
        """Let a trial run that waits in a storage that is older than its journal."""
        self.set_state(waiting, TrialState.RUNNING)
        if self.pulse is not None:
            self.pulse.remove(trial_id(waiting))
        for name, value in raw.items():
            distribution = self.distributions[name]
            self.kept.set_trial_param(trial_id(waiting), name, distribution.to_internal_repr(value), distribution)

    def note_report(self, trial: FrozenTrial, step: int, value: float) -> None:
        """Keep what a trial had reported."""
        self.kept.set_trial_intermediate_value(trial_id(trial), step, value)

    @property
    def handed_out(self) -> int | None:
        """How many combinations of a grid were handed out; ``None`` for another search."""
        sampler = self.study.sampler
        return self.space.grid_size() - sampler.remaining(self.study) if isinstance(sampler, GridSampler) else None

    def holding(self) -> AbstractContextManager[object]:
        """Hold the study's folder, so that one process at a time brings the study up to date."""
        return holding(self.paths)
