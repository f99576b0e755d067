"""A storage that waits for a server that is away, and knows who has created each trial.

A call may be made twice: where a connection breaks, nobody knows whether the call was carried out. So a trial is
created with a name of its own, by which the second call finds it, together with the process that has it.
"""

from __future__ import annotations

import contextlib
import copy
import logging
import os
import random
import threading
import time
import uuid
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from optuna.distributions import BaseDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage, InMemoryStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from tunehook.record import host
from tunehook.storage.attributes import OWNER, TOKEN
from tunehook.storage.database import PATIENCE, is_away, is_failure, is_locked
from tunehook.storage.heartbeat import ALIVE, Pulse
from tunehook.storage.memory import Memory
from tunehook.storage.messages import as_study_error, cause_of, way_out
from tunehook.storage.reader import file_of
from tunehook.storage.rows import NOT_FOUND
from tunehook.storage.states import as_seen, as_stored
from tunehook.system import attributes_of, first_line, hidden, this_process, trial_id, uncached
from tunehook.trial import StorageAway, StorageError, StudyError

if TYPE_CHECKING:
    from tunehook.system import FrozenStudy

log = logging.getLogger("tunehook")


_T = TypeVar("_T")


class PatientStorage(BaseStorage):
    """An Optuna storage, called with patience, whose errors are `StorageError`.

    A call that fails since the server does not answer is made again. Whether the lost one had been carried out is not
    known, so each call has to be one that may be carried out twice: reading and setting are; a trial is created with a
    name of its own, by which it is found; the end of a trial counts where it is the end that was to be told.

    Args:
        storage: The storage.
        study: Name of the study, for messages.
        place: The storage's URL or file, for messages.
        again: Opens the storage once more where its file was replaced, as by ``tunehook rebuild``, so that no trial is
            shown that was kept of the old one. Defaults to None: it is for who writes to make that good.

    Attributes:
        patience: Seconds that a call waits.
        rest: Passes so many seconds between two tries, and answers whether to wait on; sleeps unless it is replaced.
        pulse: The signs of life of the trials; ``None`` where no other process can see the storage.
        is_in_memory: Whether it ends with this process.
    """

    def __init__(
        self, storage: BaseStorage, *, study: str, place: object, again: Callable[[], BaseStorage] | None = None
    ) -> None:
        self._backend, self._name, self._place = storage, study, getattr(place, "url", place)
        self._has_given_up, self._again = False, again
        self.patience = 0.0
        self.rest: Callable[[float], bool] = _sleep
        inner = uncached(storage)
        self._file = file_of(inner)
        self.is_in_memory = isinstance(storage, InMemoryStorage) or self._file == ""
        self.pulse = None if self.is_in_memory else Pulse(storage, is_file=self._file is not None)
        self._here = threading.local()  # of each thread: the trial that it began last, whether it judges a report
        self._memory = Memory()
        self._seen: dict[int, tuple[FrozenTrial, FrozenTrial]] = {}  # waiting trials, and how they are seen
        self._stat = _stat(self._file)

    @property
    def is_there(self) -> bool:
        """Whether the file that was opened is still where it was; True for what is no file."""
        found = _stat(self._file)
        return self._stat is None or (found is not None and os.path.samestat(found, self._stat))

    # ------------------------------------------------------------------ trials

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        """Create a trial with a name of its own; one that runs names this process, too."""
        if template_trial is None:
            template_trial = create_trial(state=TrialState.RUNNING, user_attrs=self._names())
            template_trial.datetime_start = datetime.now()  # as Optuna does
        created = self._create(study_id, template_trial)
        if template_trial.state == TrialState.RUNNING:
            self._note_begun(created)
        return created

    def put_in(self, study_id: int, frozen: FrozenTrial) -> int:
        """Create a trial that is known from elsewhere; another process has it, where it runs.

        It is that process which gives signs of life then, and where processes do, its silence counts from now on.
        """
        if frozen.state == TrialState.RUNNING and self.pulse is not None and self.pulse.gives_signs:
            frozen = copy.copy(frozen)
            frozen.user_attrs = {ALIVE: "put in", **frozen.user_attrs}
        return self._create(study_id, as_stored(frozen))

    def enqueue(self, study_id: int, raw: Mapping[str, Any], named: Mapping[str, Any]) -> FrozenTrial:
        """Create a trial that waits for whoever asks next, as `Study.enqueue_trial` does; what it is then."""
        given = attributes_of(given=raw, broken=None)
        waiting = create_trial(state=TrialState.WAITING, system_attrs=given, user_attrs=dict(named))
        return self.get_trial(self._create(study_id, waiting))

    def _create(self, study_id: int, template: FrozenTrial) -> int:
        token = uuid.uuid4().hex
        template = copy.copy(template)
        template.user_attrs = {**template.user_attrs, TOKEN: token}

        def again() -> int:
            for trial in self._backend.get_all_trials(study_id, deepcopy=False):
                if trial.user_attrs.get(TOKEN) == token:
                    return trial_id(trial)
            return self._backend.create_new_trial(study_id, template)

        return self._call(lambda: self._backend.create_new_trial(study_id, template), again)

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        """Keep the state of a trial; one that has the state already, after a lost call, was set by that call."""

        def again() -> bool:
            try:
                return self._backend.set_trial_state_values(trial_id, state, values)
            except UpdateFinishedTrialError:
                found = self._backend.get_trial(trial_id)
                if found.state == state and found.values == (None if values is None else list(values)):
                    return True
                raise

        done = self._call(lambda: self._backend.set_trial_state_values(trial_id, state, values), again)
        self._memory.forget(trial_id)
        if state != TrialState.RUNNING:
            if self.pulse is not None:
                self.pulse.remove(trial_id)
        elif done:  # it waited, and runs in this process from now on
            for name, value in self._names(taken=True).items():
                self.set_trial_user_attr(trial_id, name, value)
            self._note_begun(trial_id)
        return done

    def _names(self, **more: bool) -> dict[str, Any]:
        """The attributes that say whose a trial is, and the first sign of life where others are to come."""
        owner = {OWNER: {"host": host(), **this_process(), **more}}
        return {**owner, ALIVE: "begun"} if self.pulse is not None and self.pulse.gives_signs else owner

    def _note_begun(self, trial_id: int) -> None:
        self._here.trial = trial_id
        self._memory.forget(trial_id)
        if self.pulse is not None:
            self.pulse.add(trial_id)

    def begun(self) -> FrozenTrial | None:
        """The trial that this thread began last, as it is now; ``None`` where it began none."""
        trial_id = getattr(self._here, "trial", None)
        return None if trial_id is None else self.get_trial(trial_id)

    def set_trial_param(
        self, trial_id: int, param_name: str, param_value_internal: float, distribution: BaseDistribution
    ) -> None:
        """As the storage does."""
        self._call(lambda: self._backend.set_trial_param(trial_id, param_name, param_value_internal, distribution))

    def set_trial_intermediate_value(self, trial_id: int, step: int, intermediate_value: float) -> None:
        """As the storage does."""
        self._call(lambda: self._backend.set_trial_intermediate_value(trial_id, step, intermediate_value))

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        """As the storage does."""
        self._call(lambda: self._backend.set_trial_user_attr(trial_id, key, value))

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """As the storage does."""
        self._call(lambda: self._backend.set_trial_system_attr(trial_id, key, value))
        self._memory.note(trial_id, key, value)

    def get_trial_system_attrs(self, trial_id: int) -> dict[str, Any]:
        """As the storage does, and from memory where a report is judged: storages read the whole trial for it."""
        if not getattr(self._here, "judges", False):
            return self._call(lambda: self._backend.get_trial_system_attrs(trial_id))
        return self._memory.attributes(trial_id, lambda: self.get_trial(trial_id).system_attrs)

    @contextlib.contextmanager
    def remembering(self) -> Iterator[None]:
        """Judge a report inside: what this thread reads of other trials may be a little old; see `Memory`."""
        self._here.judges = True
        try:
            yield
        finally:
            self._here.judges = False

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """As the storage does."""
        return as_seen(self._read(lambda: self._backend.get_trial(trial_id)))

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """As the storage does, but for paused trials, which wait there and are pruned here."""

        def read(among: Container[TrialState] | None = None) -> list[FrozenTrial]:
            found = self._read(lambda: self._backend.get_all_trials(study_id, deepcopy=deepcopy, states=among))
            return [*map(as_seen if deepcopy else self._as_seen, found)]

        if not deepcopy and getattr(self._here, "judges", False):
            found = self._memory.trials(read)
        else:
            found = read(None if states is None or TrialState.PRUNED in states else states)
        return found if states is None else [trial for trial in found if trial.state in states]

    def _as_seen(self, frozen: FrozenTrial) -> FrozenTrial:
        """A trial of the storage as it is seen, the same object while that one is the same."""
        if frozen.state != TrialState.WAITING:
            return frozen
        known = self._seen.get(key := trial_id(frozen))
        if known is None or known[0] is not frozen:
            known = self._seen[key] = frozen, as_seen(frozen)
        return known[1]

    def get_trial_id_from_study_id_trial_number(self, study_id: int, trial_number: int) -> int:
        """As the storage does."""
        return self._call(lambda: self._backend.get_trial_id_from_study_id_trial_number(study_id, trial_number))

    def get_best_trial(self, study_id: int) -> FrozenTrial:
        """As the storage does."""
        return self._call(lambda: self._backend.get_best_trial(study_id))

    # ------------------------------------------------------------------ studies

    def create_new_study(self, directions: Sequence[StudyDirection], study_name: str | None = None) -> int:
        """As the storage does; the second time, a study of this name is there."""
        return self._call(lambda: self._backend.create_new_study(directions, study_name))

    def delete_study(self, study_id: int) -> None:
        """As the storage does."""
        self._call(lambda: self._backend.delete_study(study_id))

    def set_study_user_attr(self, study_id: int, key: str, value: Any) -> None:
        """As the storage does."""
        self._call(lambda: self._backend.set_study_user_attr(study_id, key, value))

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        """As the storage does."""
        self._call(lambda: self._backend.set_study_system_attr(study_id, key, value))

    def get_study_id_from_name(self, study_name: str) -> int:
        """As the storage does."""
        return self._call(lambda: self._backend.get_study_id_from_name(study_name))

    def get_study_name_from_id(self, study_id: int) -> str:
        """As the storage does."""
        return self._call(lambda: self._backend.get_study_name_from_id(study_id))

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        """As the storage does."""
        return self._call(lambda: self._backend.get_study_directions(study_id))

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        """As the storage does."""
        return self._read(lambda: self._backend.get_study_user_attrs(study_id))

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        """As the storage does."""
        return self._read(lambda: self._backend.get_study_system_attrs(study_id))

    def get_all_studies(self) -> list[FrozenStudy]:
        """As the storage does."""
        return self._call(self._backend.get_all_studies)

    def remove_session(self) -> None:
        """As the storage does."""
        self._backend.remove_session()

    # ------------------------------------------------------------------ patience

    def _read(self, call: Callable[[], _T]) -> _T:
        """Make a call that reads, of a storage in which anything may stand."""
        try:
            if self._again is not None and not self.is_there:
                self._backend, self._stat = self._again(), _stat(self._file)
            return self._call(call)
        except (StudyError, KeyError, MemoryError):  # there is no such study or trial, or nothing was read
            raise
        except Exception as error:  # noqa: BLE001 - whatever Optuna stumbles upon
            said = f"{type(error).__name__}: {first_line(error)}"
            told = as_study_error(error, StorageError, f"The storage {self._place} of study '{self._name}' holds what "
                                  f"nobody can read: {said}.\n  What was measured is in the journals; give the study "
                                  "another storage: Study(..., storage=...).", url=self._place)  # fmt: skip
        raise told

    def _call(self, call: Callable[[], _T], again: Callable[[], _T] | None = None) -> _T:
        """Make a call until the storage answers.

        Args:
            call: The call.
            again: The call where it may have been carried out already. Defaults to the same.
        """
        began: float | None = None
        pause = 0.1
        while True:
            try:
                answer = call()
            except Exception as error:
                if self.patience and isinstance(error, KeyError) and NOT_FOUND in str(error):
                    raise self._gone() from error
                if not is_failure(error):
                    raise  # an answer: there is no such trial, it has ended
                failure, told = error, self._judged(error, began)
            else:
                self._has_given_up = False
                if began is not None:
                    log.warning("The storage of study '%s' is back after %.0f s.", self._name, time.monotonic() - began)
                return answer
            if told is None:
                began = time.monotonic() if began is None else began
                if not self.rest(pause * random.SystemRandom().uniform(0.5, 1.5)):
                    told = self._judged(failure, began, is_over=True)
            if told is not None:
                raise told
            pause, call = min(2 * pause, 5.0), again or call

    def _gone(self) -> StorageError:
        """The error for a study that somebody has deleted in a server, or whose tables, while it is used."""
        place = hidden(str(self._place), url=self._place)
        return StorageError(
            f"The study '{self._name}' was deleted from its storage {place} while it is used.\n"
            "  Start the script again: it rebuilds the study from the journals of its trials."
        )

    def _judged(self, error: Exception, began: float | None, *, is_over: bool = False) -> StudyError | None:
        """The error to raise, ``None`` where the call is made again."""
        said = hidden(cause_of(error), url=self._place)
        if not is_away(error):
            advice = way_out(said, self._name, self._place)
            return as_study_error(error, StorageError, f"The storage {self._place} of study '{self._name}' cannot be "
                                  f"used: {said}.\n  {advice}", url=self._place)  # fmt: skip
        # Once it was waited for in vain, the next calls, such as those that end the trial, fail at once.
        patience = 0.0 if self._has_given_up or is_over else self.patience
        if is_locked(error) and not is_over:  # the place is right, also where the study is not open yet
            patience = patience or (0.0 if self._has_given_up else PATIENCE)
        waited = 0.0 if began is None else time.monotonic() - began
        if waited >= patience:
            self._has_given_up = True
            since = f" for {waited:.0f} s" if waited else ""
            return as_study_error(error, StorageAway, f"The storage {self._place} of study '{self._name}' does not "
                                  f"answer{since}: {said}.\n  When it is back, start the script again: the study "
                                  "goes on where it was, and what was measured is in the journals.",
                                  url=self._place)  # fmt: skip
        if began is None:
            place = hidden(str(self._place), url=self._place)
            log.warning("The storage %s of study '%s' does not answer (%s); waiting up to %.0f s for it.",
                        place, self._name, said, patience)  # fmt: skip
        return None


def _stat(file: str | None) -> os.stat_result | None:
    try:
        return Path(file).stat() if file else None
    except OSError:
        return None


def _sleep(seconds: float) -> bool:
    time.sleep(seconds)
    return True
