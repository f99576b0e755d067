"""What a study has found: its trials as plain values, the best one, and where their records lie."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunehook.figures import StudyView
from tunehook.record import Events, Kept, StudyPaths, files_in, models_of, stamp
from tunehook.session import files_of
from tunehook.space import Space
from tunehook.study.looking import columns_of, effective_of, read_snapshots, row_of, versions_of, view_trial
from tunehook.trial import (
    FinishedTrial,
    Mode,
    Standing,
    State,
    StudyError,
    best_of,
    hypervolume,
    number_of,
    pareto_front,
    told_counts,
)

if TYPE_CHECKING:
    import pandas as pd
    from optuna import Study as OptunaStudy
    from optuna.trial import FrozenTrial

    from tunehook.snapshot import Snapshot
    from tunehook.storage import Ledger
    from tunehook.study.plots import Plots

# Seconds by which two machines may take the same moment for another: some storages keep no time zone.
_SKEW = 26 * 3600.0


class Results(ABC):
    """What a study has found. Nothing here writes.

    Attributes:
        name: Name of the study.
        space: What is searched.
        metric: Name of the tuned metric.
        mode: ``"min"`` or ``"max"``.
        others: Further metrics, with their modes.
        paths: The names below the study's folder.
    """

    name: str
    space: Space
    metric: str
    mode: Mode
    others: dict[str, Mode]
    paths: StudyPaths

    @property
    @abstractmethod
    def _ledger(self) -> Ledger:
        """The storage."""

    @property
    def optuna(self) -> OptunaStudy:
        """The Optuna study below, with your own values: for Optuna's plots, tables and attributes.

        Values that are enqueued or added are your own too. It asks for no trials; `ask` and `optimize` do.
        """
        from tunehook.storage import OwnStudy

        ledger = self._ledger
        return OwnStudy(ledger.study, ledger.kept, self.space, [self.metric, *self.others])

    @property
    def raw_trials(self) -> list[FrozenTrial]:
        """All trials as the storage has them and samplers see them, with raw values; not copied, for reading only."""
        return self._ledger.trials()

    @property
    def trials(self) -> list[FinishedTrial]:
        """All trials in the order of their numbers, running ones too."""
        return [self._as_finished(frozen) for frozen in self._ledger.begun()]

    @property
    def best(self) -> FinishedTrial:
        """The complete trial with the best value, of equal values the one that began first.

        Raises:
            StudyError: No trial is complete, or the study has several metrics.
        """
        standing = self.standing()
        if self.others:
            raise StudyError(
                f"Study '{self.name}' has {1 + len(self.others)} metrics, so no single trial is the best one.\n"
                "  Use study.best_trials: those that no other one beats, each with its values and params."
            )
        if standing.best is None:
            counts = told_counts(standing.counts)
            raise StudyError(f"Study '{self.name}' has no complete trial yet ({counts}), so there is no best one.")
        return standing.best

    def top(self, number: int = 5) -> list[FinishedTrial]:
        """The best complete trials, the best first; of equal values the one that began first.

        Args:
            number: How many at most. Defaults to 5.

        Raises:
            StudyError: The study has several metrics, of which none is the best; see `best_trials`.
        """
        if self.others:
            _ = self.best  # says so
        complete = [trial for trial in self.trials if trial.outcome.state == "complete" and trial.value is not None]
        return sorted(complete, key=lambda one: one.value or 0.0, reverse=self.mode == "max")[:number]

    def trial(self, number: int) -> FinishedTrial:
        """One trial.

        Raises:
            StudyError: There is none of this number.
        """
        try:
            return self._as_finished(self._ledger.numbered(number))
        except IndexError as error:
            counts = ", ".join(f"{many} {state}" for state, many in self.counts().items()) or "none"
            raise StudyError(f"Study '{self.name}' has no trial {number!r}; it has {counts}.") from error

    def standing(self) -> Standing:
        """The number of trials by state, and the best one; of equal values the trial that began first.

        Whoever shows a best trial takes it from here. It is called after each trial, so with thousands of them nothing
        is read from a trial but its state and value.
        """
        ledger = self._ledger
        ends = [(frozen, ledger.outcome_of(frozen)) for frozen in ledger.begun()]
        complete = [one for one in ends if one[1].state == "complete"]
        counts = dict(Counter(outcome.state for _, outcome in ends))
        running = tuple(self._as_finished(frozen) for frozen, outcome in ends if outcome.state == "running")
        if self.others:
            modes = [self.mode, *self.others.values()]
            front = pareto_front(complete, modes, values=lambda one: one[1].values)
            return Standing(counts, None, tuple(self._as_finished(frozen) for frozen, _ in front), running)
        best = best_of(complete, self.mode, value=lambda one: one[1].value)
        return Standing(counts, None if best is None else self._as_finished(best[0]), running=running)

    @property
    def best_trials(self) -> list[FinishedTrial]:
        """The Pareto front: the complete trials that no other one beats in all metrics, in the order of their numbers.

        With one metric it is the best trial alone.
        """
        standing = self.standing()
        return [*standing.front] if self.others else [standing.best] if standing.best is not None else []

    def hypervolume(self, reference: Mapping[str, float]) -> float:
        """How much the front covers: the volume between it and a reference point, in the units of the metrics.

        Args:
            reference: For each metric the value that is just not good enough.

        Raises:
            ValueError: It has other metrics.
        """
        metrics = {self.metric: self.mode, **self.others}
        if reference.keys() != metrics.keys():
            raise ValueError(
                f"The reference point has a value for each of {', '.join(metrics)}; got {dict(reference)!r}."
            )
        points = [one.values for one in self.best_trials]
        return hypervolume(points, [reference[name] for name in metrics], [*metrics.values()])

    def schedule(self, number: int | None = None) -> list[FinishedTrial]:
        """The intervals of population-based training from which a trial has come, the first one first, itself last.

        Args:
            number: The trial. Defaults to None, the `best` one.

        Raises:
            StudyError: The study trains no population, or has one of these trials no more.
        """
        found = self.trial(self.best.number if number is None else number)
        chain = [found]
        while (lineage := chain[0].lineage) is not None and lineage.parent is not None:
            chain.insert(0, self.trial(lineage.parent))
        if found.lineage is None:
            raise StudyError(f"Study '{self.name}' trains no population, so its values stay: use study.best.params.")
        return chain

    @property
    def best_params(self) -> dict[str, Any]:
        """The values of the `best` trial."""
        return dict(self.best.params)

    @property
    def best_value(self) -> float:
        """The objective of the `best` trial."""
        return self.best.value  # type: ignore[return-value] # complete trials have one

    @property
    def ended(self) -> list[FinishedTrial]:
        """The trials that have ended, in the order of their ends."""
        ended = [frozen for frozen in self._ledger.begun() if frozen.datetime_complete is not None]
        return [
            self._as_finished(frozen) for frozen in sorted(ended, key=lambda one: (one.datetime_complete, one.number))
        ]

    @property
    def key(self) -> str:
        """Tells this study from others of its name on every machine; empty before the first trial."""
        first = next(iter(self._ledger.begun()), None)
        return "" if first is None else self._ledger.as_trial(first).key.rpartition("-")[2]

    def importance(self) -> dict[str, float]:
        """The share of each hyperparameter in what tells the best trials from the others, the largest first.

        It is Optuna's PED-ANOVA. Nothing where fewer than 20 trials are complete.
        """
        from tunehook.study.importance import find_importance

        return find_importance(self._ledger.trials(), self.mode, self.space)

    def effective(self, number: int) -> dict[str, Any]:
        """What was in force in a trial, by slot path, from its journal; nothing where that lies on another machine."""
        return effective_of(self._events(number))

    def versions(self, number: int) -> dict[str, str]:
        """The versions of Python and packages that a trial trained with, from its journal; nothing without one."""
        return versions_of(self._events(number))

    def look(self, *, deep: bool = True, only: Collection[int] | None = None) -> StudyView:
        """One picture of the study, from its storage and the journals that can be read here.

        Args:
            deep: Whether the journals are read: for all metrics, machines and epochs. Defaults to True.
            only: Numbers of the trials to look at. Defaults to None, all of them.
        """
        ledger = self._ledger
        begun = [frozen for frozen in ledger.begun() if only is None or frozen.number in only]
        trials = [
            view_trial(ledger, frozen, Events.of_trial(ledger.as_trial(frozen)) if deep else Events())
            for frozen in begun
        ]
        standing = self.standing()
        return StudyView(
            self.name, self.metric, self.mode, self.space, trials,
            None if standing.best is None else standing.best.number,
            importance=self.importance() if deep and only is None else {}, wanted=ledger.notes.wanted,
            others=self.others, front=[one.number for one in standing.front],
        )  # fmt: skip

    def snapshots_of(self, number: int) -> list[Snapshot]:
        """The snapshots of a trial's parameters, from its journal; none where that lies on another machine."""
        return read_snapshots(self._events(number))

    def _events(self, number: int) -> Events:
        return Events.of_trial(self._ledger.as_trial(self._ledger.numbered(number)))

    def checkpoint(self, number: int) -> Path | None:
        """Where the training of a trial has kept its model, if a recorder asked for it and nobody has changed it since.

        The place is the training's to choose, and may be anywhere; so it holds nothing but what was written since the
        trial began, and no links.

        Raises:
            OSError: It is gone, or was changed, such as by a later trial, or is nothing that the trial has written.
        """
        trial = self._ledger.as_trial(self._ledger.numbered(number))
        kept = Events.of_trial(trial).last(Kept)
        if kept is None:
            return None
        path = kept.path
        if stamp(path) != kept.stamp:
            raise OSError(f"{path} was changed after {trial.name}: give each trial a file of its own")
        first = self._ledger.numbered(min(number, number_of(trial.key))).datetime_start
        if first is not None and any(file.lstat().st_mtime < first.timestamp() - _SKEW for file in files_in(path)):
            raise OSError(f"{path} is older than {trial.name}, so that one has not written it")
        return path

    def records(self, number: int) -> list[str]:
        """Where a trial is kept: its journal, its model, then what each recorder named (a path or an address)."""
        trial = self._ledger.as_trial(self._ledger.numbered(number))
        models = files_of(models_of(trial.folder), below=self.paths.folder)
        return [str(self.paths.journal(number)), *map(str, models), *Events.of_trial(trial).records]

    @property
    def finished(self) -> int:
        """How many trials told the search something: complete, pruned, paused and infeasible ones."""
        return self._ledger.finished

    def counts(self) -> dict[State, int]:
        """Number of trials by state."""
        return self.standing().counts

    def rows(self) -> tuple[list[str], list[dict[str, Any]]]:
        """The trials as rows with all that is known of them, and the columns; as `dataframe` has them."""
        rows = [row_of(trial) for trial in self.look().trials]
        return columns_of(rows, self.space.names), rows

    def dataframe(self) -> pd.DataFrame:
        """The trials as a table.

        Its columns are ``number``, ``state``, ``value``, ``reason``, ``step`` (of the value), ``began``, ``ended``,
        ``seconds``, ``epochs``, ``machine``, ``attempt``, ``is_given`` (whether its values were enqueued),
        ``params.<name>`` for each name, and ``metrics.<name>``, the last value of each metric that is in the journals.

        With several metrics there is ``values.<name>`` for each, and ``value`` is the first one. A trial of a
        population has its ``member``, ``generation``, ``interval`` (epochs) and ``parent`` (a number) besides.

        Raises:
            ImportError: pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise ImportError("study.dataframe() needs pandas: pip install 'tunehook[report]'") from error
        columns, rows = self.rows()
        table = pd.DataFrame(rows, columns=columns)
        for name in ("began", "ended"):
            table[name] = pd.to_datetime(table[name], utc=True)
        return table

    @property
    def plot(self) -> Plots:
        """The figures of the report, for notebooks: ``study.plot.history()``; it needs Plotly."""
        from tunehook.study.plots import Plots

        return Plots(self)

    def _repr_html_(self) -> str:
        from tunehook.study.plots import study_html

        return study_html(self)

    def _as_finished(self, frozen: FrozenTrial) -> FinishedTrial:
        outcome = self._ledger.outcome_of(frozen)
        params, lineage = self.space.decode(frozen.params), self._ledger.lineage_of(frozen)
        return FinishedTrial(frozen.number, params, outcome.value, outcome, lineage)
