"""Beginning a study with what is known: values to try first, and trials of other studies, whose values are known."""

from __future__ import annotations

import dataclasses
import logging
import math
import time
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tunehook.record import Journal
from tunehook.search import Method
from tunehook.space import SpaceError, fitting
from tunehook.study.results import Results
from tunehook.system import given_values, make_visible, shown
from tunehook.trial import Outcome, StudyError, key_of

if TYPE_CHECKING:
    from tunehook.study.ask_tell import AskTell

log = logging.getLogger("tunehook")


@dataclass(frozen=True)
class KnownTrial:
    """Values whose result is known from elsewhere, such as another study or a run of Weights & Biases.

    Attributes:
        params: Values by name.
        value: The objective.
        source: Where it is from, for people: ``"trial 3 of study 'digits'"``. What is from one place is added once.
        others: The values of further metrics by their names, which a study of several metrics needs. Defaults to none.
    """

    params: Mapping[str, Any]
    value: float
    source: str
    others: Mapping[str, float] = field(default_factory=dict)


class WarmStart(Results):
    """What a study is begun with."""

    _method: Method

    @property
    @abstractmethod
    def _asks(self) -> AskTell:
        """Who asks and tells."""

    def enqueue(self, params: Mapping[str, Any]) -> None:
        """Let these values be asked for before the search proposes others, such as some that are known to be good.

        Args:
            params: Values by the names of the space; the search chooses those that are left out.

        Raises:
            SpaceError: A name is not in the space or of a branch that is not chosen, a value is outside of its
                distribution, the condition of the space does not hold, or a grid gets too few.
        """
        raw = self.space.encode(params)
        missing = self.space.missing(raw)
        if self._method.is_grid and missing:
            raise SpaceError(f"A trial that is enqueued in a grid gives every value, missing: {', '.join(missing)}.")
        if not missing and not self.space.allows(raw):
            raise SpaceError(f"The condition of the space does not hold for {shown(dict(params))}.")
        self._put_first(raw)

    def _put_first(self, raw: Mapping[str, Any]) -> None:
        (self._asks.members or self._ledger).enqueue(raw)

    def enqueue_defaults(self, train: Callable[[], object]) -> dict[str, Any]:
        """Let the first trial have the script's own values, to see what the search gains over them.

        The training function is called once, up to where its first fit would make its first step, to read the values;
        a function without a fit runs to its end, since it may read values with ``th.value`` anywhere. What the space
        does not have is said, and the search chooses it. A study that has trials is left as it is.

        Args:
            train: Your training, as for `optimize`; of one process, without other ranks.

        Returns:
            The values that were enqueued; none where the study has trials already.

        Raises:
            InjectionError: A name of the space means nothing in the training.
            SpaceError: The values are none of a grid.
            StudyError: The training has several ranks, of which one would end before the others.
        """
        from tunehook.launch import is_one_of_several
        from tunehook.session import several_ranks
        from tunehook.study.defaults import own_values

        if self._ledger.trials():
            return {}
        if is_one_of_several():
            raise several_ranks(self.name)
        kept, left_out = fitting(self.space, own_values(self, train))
        for name, why in left_out.items():
            make_visible()
            log.info("Study '%s': the script's own value of '%s' is not tried first: %s", self.name, name, why)
        self.enqueue(kept)
        return kept

    def enqueue_trials(self, other: Results | Iterable[KnownTrial], *, trials: int = 5) -> int:
        """Let the best values of another study be trained here before the search proposes others.

        Its metric may be another one. Values that the space does not take are left out and said; the search chooses
        them. What this study has enqueued already is not enqueued again, so a script may be started again.

        Args:
            other: The other study, such as ``Study.open("old")``; or trials that are known from elsewhere.
            trials: How many of its best complete trials. Defaults to 5.

        Returns:
            How many were enqueued.
        """
        mode = other.mode if isinstance(other, Results) else self.mode
        known = sorted(_known(other), key=lambda one: one.value, reverse=mode == "max")[:trials]
        trained = (one for one in self._ledger.trials() if self._ledger.outcome_of(one).state != "known")
        there = [dict(given_values(frozen) or {}) for frozen in trained]
        told = _Told()
        for one in known:
            kept, left_out = fitting(self.space, one.params)
            told.note(left_out)
            raw = self.space.encode(kept)
            missing = self.space.missing(raw)
            if not raw or (self._method.is_grid and missing) or (not missing and not self.space.allows(raw)):
                told.unfit["it is none of this space"] += 1
            elif raw in there:
                told.unfit["its values were enqueued before"] += 1
            else:
                try:
                    self._put_first(raw)
                except SpaceError as error:  # all members of a population have their first values
                    told.unfit[str(error)] += 1
                    continue
                there.append(raw)
                told.taken += 1
        told.say(self.name, "enqueued", len(known))
        return told.taken

    def add_trials(
        self, other: Results | Iterable[KnownTrial], *, fill: Mapping[str, Any] | None = None, as_own: bool = False
    ) -> int:
        """Let the search learn from the complete trials of another study, without training them.

        They are trials of this study from now on, with the state ``known`` and where they are from as the reason. They
        are not among the trials that `optimize` counts, and never the `best`, unless ``as_own``. A name that the space
        does not have is left out; a trial with a value outside of the space, or without one that it needs, too. One
        line says so. What was added from the same place before is not added again.

        Args:
            other: The other study, such as ``Study.open("old")``; or trials that are known from elsewhere.
            fill: What names had there that the other study did not search. Defaults to none.
            as_own: Count them as complete trials of this study. Defaults to False.

        Returns:
            How many were added.

        Raises:
            StudyError: The other study lacks a metric of this one, has another mode or another first metric, or another
                process asks for trials all the time.
        """
        if isinstance(other, Results) and (
            (other.metric, other.mode) != (self.metric, self.mode) or not self.others.items() <= other.others.items()
        ):
            raise StudyError(
                f"Study '{other.name}' has the metric {_metrics(other)}, and '{self.name}' has {_metrics(self)}, so "
                "its values say nothing here.\n"
                "  Train its best trials here: study.enqueue_trials(other)."
            )
        known, told = _known(other), _Told()
        there = {self._ledger.outcome_of(frozen).reason for frozen in self._ledger.begun()}
        for one in known:
            if one.source in there:
                told.unfit["it was added before"] += 1
            elif (raw := self._whole(one, fill or {}, told)) is not None:
                outcome = Outcome("complete" if as_own else "known", one.source, float(one.value))
                if self.others:
                    values = (one.value, *(one.others[name] for name in self.others))
                    outcome = dataclasses.replace(outcome, values=tuple(map(float, values)))
                self._add(raw, outcome)
                there.add(one.source)
                told.taken += 1
        told.say(self.name, "added", len(known))
        return told.taken

    def _whole(self, one: KnownTrial, fill: Mapping[str, Any], told: _Told) -> dict[str, Any] | None:
        """The raw values of a trial where they are a whole configuration, ``None`` where not."""
        kept, left_out = fitting(self.space, {**fill, **one.params})
        told.note({name: why for name, why in left_out.items() if name not in fill or name in one.params})
        raw = self.space.encode(kept)
        if outside := sorted(left_out.keys() & set(self.space.names) & one.params.keys()):
            told.unfit[f"{', '.join(outside)} has a value outside of the space"] += 1
        elif missing := self.space.missing(raw):
            told.unfit[f"it has no {', '.join(missing)}: give fill={{{missing[0]!r}: ...}}"] += 1
        elif not self.space.allows(raw):
            told.unfit["the condition of the space does not hold"] += 1
        elif lacking := [name for name in self.others if name not in one.others]:
            told.unfit[f"it has no value of the metric {lacking[0]!r}"] += 1
        elif all(math.isfinite(value) for value in (one.value, *(one.others[name] for name in self.others))):
            return raw
        else:
            told.unfit["its value is no number"] += 1
        return None

    def _add(self, raw: Mapping[str, Any], outcome: Outcome) -> None:
        from tunehook.storage import KEY

        ledger, now = self._ledger, time.time()
        with ledger.holding():
            for _ in range(100):
                number = len(ledger.trials())
                named = {KEY: key_of(ledger.study_id, number, None)}
                if ledger.put_in(number, outcome, began=now, ended=now, raw=raw, is_given=True, named=named):
                    break
            else:
                raise StudyError(f"Other processes ask for trials of study '{self.name}' all the time: end them first.")
        trial = ledger.as_trial(ledger.numbered(number))
        journal = Journal(trial.folder)
        journal.begin(trial, is_given=True)
        journal.end(outcome)


class _Told:
    """What one line says of trials that were taken over."""

    def __init__(self) -> None:
        self.taken = 0
        self.names: Counter[str] = Counter()  # left out, by why
        self.unfit: Counter[str] = Counter()  # trials, by why

    def note(self, left_out: Mapping[str, str]) -> None:
        """Note which values of a trial were left out."""
        self.names.update(f"'{name}', {why}" for name, why in left_out.items())

    def say(self, study: str, done: str, count: int) -> None:
        """Say it."""
        make_visible()
        lines = [f"  left out of {many}: {why}" for why, many in self.names.items()]
        lines += [f"  {many} not {done}, since {why}" for why, many in self.unfit.items()]
        log.info("Study '%s': %d of %d known trials were %s.%s", study, self.taken, count, done,
                 "".join(f"\n{line}" for line in lines))  # fmt: skip


def _known(other: Results | Iterable[KnownTrial]) -> Sequence[KnownTrial]:
    """The complete trials of a study, and those that are known from elsewhere."""
    if not isinstance(other, Results):
        return list(other)
    return [
        KnownTrial(
            one.params,
            one.value,
            f"trial {one.number} of study '{other.name}' ({other.key})",
            dict(zip(other.others, one.values[1:], strict=False)),
        )
        for one in other.trials
        if one.outcome.state == "complete" and one.value is not None
    ]


def _metrics(study: Results) -> str:
    return " and ".join(f"{name!r} ({mode})" for name, mode in {study.metric: study.mode, **study.others}.items())
