"""The figures of a study in a notebook, and how it is shown there."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Protocol

from tunehook.figures import (
    contour,
    curves,
    drawn,
    fronts,
    history,
    importance,
    lineage,
    parallel,
    slices,
    timeline,
    weights,
)
from tunehook.system import html_table, short
from tunehook.trial import FinishedTrial, Mode, Standing, StudyError, told_counts

if TYPE_CHECKING:
    from plotly.graph_objects import Figure as Drawn

    from tunehook.figures import Figure, StudyView
    from tunehook.snapshot import Snapshot
    from tunehook.space import Space


class Seen(Protocol):
    """What figures ask of a study."""

    name: str
    metric: str
    others: dict[str, Mode]
    space: Space

    @property
    def trials(self) -> list[FinishedTrial]:
        """All trials."""

    def standing(self) -> Standing:
        """The number of trials by state, and the best one."""

    def look(self, *, deep: bool = True, only: Collection[int] | None = None) -> StudyView:
        """One picture of the study."""

    def snapshots_of(self, number: int) -> list[Snapshot]:
        """The snapshots of a trial."""


class Plots:
    """The figures of a study, each a Plotly figure, as they are in its report.

    Each call makes them again, from the storage and the journals. They need ``pip install 'tunehook[report]'``.

    Args:
        study: The study, which is only looked at.

    Example:
        >>> study.plot.history().show()  # doctest: +SKIP
    """

    def __init__(self, study: Seen) -> None:
        self._study = study

    def history(self) -> Drawn:
        """The value of each trial, and the best so far."""
        return self._drawn(history(self._study.look(deep=False)), "a trial with a value")

    def curves(self, metric: str | None = None) -> Drawn:
        """The learning curves of all trials, by how they ended.

        Args:
            metric: The metric. Defaults to None, the tuned one.

        Raises:
            StudyError: No trial has reported it; the message names those that were reported.
        """
        view = self._study.look()
        known = dict.fromkeys(name for trial in view.trials for name in trial.curves)
        needs = f"a trial that has reported {metric or view.metric}; there are: {', '.join(known) or 'none'}"
        return self._drawn(curves(view, metric=metric), needs)

    def parallel(self) -> Drawn:
        """Each trial as a line through its values, colored by what they gave."""
        return self._drawn(parallel(self._study.look()), "three trials with a value")

    def importance(self) -> Drawn:
        """The share of each hyperparameter in what tells the best trials from the others."""
        return self._drawn(importance(self._study.look()), "20 complete trials of different values")

    def slice(self, name: str) -> Drawn:
        """The value of the trials over one hyperparameter.

        Args:
            name: Its name.
        """
        self._check(name)
        found = {figure.title: figure for figure in slices(self._study.look(deep=False))}
        return self._drawn(found.get(name), "three trials with a value")

    def contour(self, first: str | None = None, second: str | None = None) -> Drawn:
        """The value over two hyperparameters.

        Args:
            first: The one across. Defaults to None, the most important one.
            second: The one upwards. Defaults to None, the most important one of the others.
        """
        for name in (first, second):
            if name is not None:
                self._check(name)
        found = contour(self._study.look(), first, second)
        return self._drawn(found, "three trials with a value and two hyperparameters")

    def front(self) -> list[Drawn]:
        """With several metrics, the first one over each of the others, with the trials that no other one beats.

        Raises:
            StudyError: The study has one metric, or no trial has all of them.
        """
        found = fronts(self._study.look(deep=False))
        return [drawn(one) for one in found] or [self._drawn(None, "several metrics, and a trial that has them")]

    def lineage(self) -> Drawn:
        """The intervals of a population, with a line from each to those that go on with it."""
        return self._drawn(lineage(self._study.look(deep=False)), "a population, and an interval that has a value")

    def timeline(self) -> Drawn:
        """When each trial ran, and where."""
        return self._drawn(timeline(self._study.look()), "a trial that has begun")

    def weights(self, trial: int) -> list[Drawn]:
        """The norms of a trial's layers and of their gradients, and the ratios of update to weight, over the steps.

        Args:
            trial: Its number.
        """
        found = weights(trial, self._study.snapshots_of(trial))
        return [drawn(one) for one in found]

    def _check(self, name: str) -> None:
        if name not in self._study.space.searched:
            raise StudyError(f"There is no searched {name!r} in the space; there are: "
                             f"{', '.join(self._study.space.searched)}.")  # fmt: skip

    def _drawn(self, figure: Figure | None, needs: str) -> Drawn:
        if figure is None:
            raise StudyError(f"There is nothing to draw in study '{self._study.name}' yet: the figure needs {needs}.")
        return drawn(figure)


def study_html(study: Seen) -> str:
    """A study in a notebook: its trials by state, and the best one."""
    standing = study.standing()
    rows = [("trials", told_counts(standing.counts))]
    rows += [(f"trial {one.number} on the front", ", ".join(f"{name} {short(value)}" for name, value in zip(
             [study.metric, *study.others], one.values, strict=False))) for one in standing.front]  # fmt: skip
    if standing.best is not None:
        rows += [(f"best {study.metric}", f"{short(standing.best.value)}, trial {standing.best.number}"),
                 *((name, repr(value)) for name, value in standing.best.params.items())]  # fmt: skip
    return html_table(f"study {study.name}", rows)
