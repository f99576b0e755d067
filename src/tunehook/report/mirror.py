"""A study as optuna-dashboard reads it: an Optuna storage in memory, filled with the user's own values.

In the study's storage a `Normal` is a probability, an option is its text in Python, and an outcome is an attribute of
ours. Here each value is what the user calls it, and nothing of it is written anywhere.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Container, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from tunehook.figures import StudyView, TrialView
from tunehook.space import Choice, Distribution
from tunehook.storage import ReadOnlyStorage, own_distribution
from tunehook.study import Study
from tunehook.system import first_line, frozen_study, metric_names, printable, shown
from tunehook.trial import State, StudyError, direction_of, told_counts

if TYPE_CHECKING:
    from tunehook.system import FrozenStudy

log = logging.getLogger("tunehook")

_FRESH = 1.0  # seconds for which a look serves all that the page asks for
_READING = 0.3  # seconds of a look that may go into journals, of which there may be thousands
_LONGEST = 200  # characters of a name
_NOTED = 200  # trials with a note: optuna-dashboard goes through all notes for each trial
_STATES: dict[State, TrialState] = {
    "running": TrialState.RUNNING, "complete": TrialState.COMPLETE, "known": TrialState.COMPLETE,
    "pruned": TrialState.PRUNED, "paused": TrialState.PRUNED,
}  # fmt: skip
_KEY = 0  # of the study
# Of CommonMark, and of the mathematics and the HTML that the dashboard's notes may hold.
_MARKS = str.maketrans(
    {mark: f"\\{mark}" for mark in "\\`*_{}[]()#+-.!|~$:@"} | {"<": "&lt;", ">": "&gt;", "&": "&amp;"}
)


class Mirror(ReadOnlyStorage):
    """An Optuna storage with one study, as it is now.

    Args:
        study: The study, which is only looked at.
    """

    def __init__(self, study: Study) -> None:
        self._study = study
        self._lock = threading.Lock()
        self._view, self._at = study.look(deep=False), time.monotonic()
        self._records: dict[int, list[str]] = {}
        self._distributions = {name: axis(one) for name, one in study.space.searched.items()}
        self._made = self._make()

    def get_study_id_from_name(self, study_name: str) -> int:
        """The id of the study.

        Raises:
            KeyError: It is another one's name.
        """
        if study_name != label(self._view.name):
            raise KeyError(study_name)
        return _KEY

    def get_study_name_from_id(self, study_id: int) -> str:
        """The name of the study."""
        return self._checked(study_id).study_name

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        """Whether less or more is better, for each metric."""
        return list(self._checked(study_id).directions)

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        """What is shown of the study."""
        return self._checked(study_id).user_attrs

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        """The names of the metrics, and the notes."""
        return self._checked(study_id).system_attrs

    def get_all_studies(self) -> list[FrozenStudy]:
        """The study alone."""
        view = self._look()
        modes = [view.mode, *view.others.values()]
        directions = [StudyDirection[direction_of(mode).upper()] for mode in modes]
        names = metric_names([label(name) for name in (view.metric, *view.others)])
        return [frozen_study(label(view.name), directions, {"space": label(repr(view.space), most=1000)},
                             {**names, **self._notes(view)}, _KEY)]  # fmt: skip

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """A trial by its number, which is its id here.

        Raises:
            KeyError: There is none.
        """
        try:
            return self.get_all_trials(_KEY)[trial_id]
        except IndexError:
            raise KeyError(trial_id) from None

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """The trials, each at the place of its number."""
        self._look()
        return [one for one in self._made if states is None or one.state in states]

    def _checked(self, study_id: int) -> FrozenStudy:
        if study_id != _KEY:
            raise KeyError(study_id)
        return self.get_all_studies()[0]

    def _look(self) -> StudyView:
        """The study now; as it was, where its storage is away."""
        with self._lock:
            if time.monotonic() - self._at > _FRESH:
                try:
                    self._view = self._study.look(deep=False)
                except StudyError as error:
                    log.warning("The dashboard shows study '%s' as it was: %s", self._view.name, first_line(error))
                else:
                    self._made = self._make()
                self._read()
                self._at = time.monotonic()
            return self._view

    def _make(self) -> list[FrozenTrial]:
        """The trials; one that waits stands where none has the number yet, so that the places stay."""
        found = {trial.number: trial for trial in self._view.trials}
        return [
            self._frozen(found[number]) if number in found
            else FrozenTrial(number, TrialState.WAITING, None, None, None, {}, {}, {}, {}, {}, number)
            for number in range(max(found, default=-1) + 1)
        ]  # fmt: skip

    def _frozen(self, trial: TrialView) -> FrozenTrial:
        view = self._view
        values = [*trial.values.values()] if view.others else [trial.outcome.value]
        known = [float(one) for one in values if one is not None and math.isfinite(one)]
        is_whole = len(known) == 1 + len(view.others)
        state = _STATES.get(trial.state, TrialState.FAIL)
        if state == TrialState.COMPLETE and not is_whole:
            state = TrialState.FAIL
        params = {name: value for name, value in view.searched[trial.number].items() if name in self._distributions}
        curve = trial.curves.get(view.metric)
        return FrozenTrial(
            trial.number, state, None, _moment(trial.began), _moment(trial.ended),
            {label(name): shown_as(view.space.searched[name], value) for name, value in params.items()},
            {label(name): self._distributions[name] for name in params},
            {name: label(value) if isinstance(value, str) else value for name, value in self._told(trial).items()}, {},
            {} if curve is None else dict(zip(curve.steps, curve.values, strict=True)), trial.number,
            values=known if is_whole and state in (TrialState.COMPLETE, TrialState.PRUNED) else None,
        )  # fmt: skip

    def _told(self, trial: TrialView) -> Mapping[str, Any]:
        """What stands beside the values of a trial; what it has not is left out."""
        lineage = {} if trial.lineage is None else trial.lineage.describe()
        places = self._places(trial)
        found = {
            "outcome": trial.state, "reason": trial.outcome.reason, "step": trial.outcome.step, **lineage,
            "enqueued": trial.is_given or None, "attempt": trial.attempt or None, "journal": places[0],
            "run": ", ".join(places[1:]),
        }  # fmt: skip
        return {name: value for name, value in found.items() if value is not None and value != ""}

    def _places(self, trial: TrialView) -> list[str]:
        """Where the record of a trial lies: its journal, and what is known of others by now."""
        return self._records.get(trial.number) or [str(self._study.paths.journal(trial.number))]

    def _read(self) -> None:
        """Read in some journals where the records lie, the newest first; those of ended trials do not change."""
        until = time.monotonic() + _READING
        for trial in reversed(self._view.trials):
            if trial.number in self._records and trial.ended is not None:
                continue
            if time.monotonic() > until:
                return
            try:
                self._records[trial.number] = self._study.records(trial.number)
            except (StudyError, IndexError, OSError):
                return

    def _notes(self, view: StudyView) -> dict[str, Any]:
        """The notes, as optuna-dashboard keeps them in a study."""
        found = dict(_note("", self._about(view)))
        top = {view.best, *view.front}
        ranked = sorted(view.trials, key=lambda one: (one.number in top, one.number), reverse=True)
        for trial in ranked[:_NOTED]:
            found |= _note(f"{trial.number}:", self._about_trial(view, trial))
        return found

    def _about(self, view: StudyView) -> str:
        counts: dict[State, int] = {}
        for one in view.trials:
            counts[one.state] = counts.get(one.state, 0) + 1
        others = "".join(f", {name} ({mode})" for name, mode in view.others.items())
        return "\n".join([
            _line("metric", f"{view.metric} ({view.mode}){others}"), _line("trials", told_counts(counts)),
            _line("folder", str(self._study.paths.folder)), _line("report", f"tunehook report {view.name}"),
            "", "This is a view: what is changed here is not kept.",
        ])  # fmt: skip

    def _about_trial(self, view: StudyView, trial: TrialView) -> str:
        journal, *others = self._places(trial)
        return "\n".join([
            _line("outcome", trial.state), *([_line("reason", trial.outcome.reason)] if trial.outcome.reason else []),
            _line("journal", journal), *(_line("run", place) for place in others),
            _line("report", f"tunehook report {view.name} --trial {trial.number}"),
        ])  # fmt: skip


def axis(one: Distribution) -> BaseDistribution:
    """The distribution of the values that the user knows."""
    return CategoricalDistribution(_options(one)) if isinstance(one, Choice) else own_distribution(one)


def shown_as(one: Distribution, value: Any) -> Any:
    """A value as the dashboard shows it: a number, or the name of an option."""
    return _options(one)[one.index(value)] if isinstance(one, Choice) else value


def label(text: str, *, most: int = _LONGEST) -> str:
    """A text of one line without what figures take for markup."""
    told = printable(text).replace("<", "\u2039").replace(">", "\u203a")  # single quotation marks
    return told if len(told) <= most else f"{told[: most - 1]}…"


def _options(one: Choice) -> list[str]:
    """The names of the options in their order, all of them different."""
    names = [label(option if isinstance(option, str) else shown(option)) for option in one.options]
    if len(set(names)) < len(names):
        names = [f"{at}: {label(shown(option))}" for at, option in enumerate(one.options)]
    return names


def _line(name: str, text: str) -> str:
    """A line of a list, whose text is no markup, whatever it says."""
    return f"- **{name}**: {printable(text)[:1000].translate(_MARKS)}"


def _note(whose: str, text: str) -> dict[str, Any]:
    return {f"dashboard:{whose}note_ver": 1, f"dashboard:{whose}note_str:0": text}


def _moment(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds)
