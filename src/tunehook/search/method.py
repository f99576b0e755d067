"""What a study searches by: its search method, its stopper and its seed, checked before Optuna is loaded."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from tunehook.search.course import Course
from tunehook.search.pbt import PBT
from tunehook.search.samplers import (
    AUTO,
    PAUSE,
    PAUSING,
    SEARCHES,
    STOPPER_NAMES,
    check_metrics,
    check_name,
    check_space,
    make_sampler,
    make_stopper,
)
from tunehook.space import Space
from tunehook.system import make_visible, reports_of, watched, with_reports
from tunehook.trial import Budget, Decision

if TYPE_CHECKING:
    from optuna import Study
    from optuna import Trial as AskedTrial
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial

log = logging.getLogger("tunehook")


class Method:
    """Who proposes values, and who stops trials.

    Args:
        search: The name of a search method, a population, or an Optuna sampler.
        stopper: The name of a stopper, an Optuna pruner, or ``None``. ``"auto"`` pauses the trials of ``"bayes"``, for
            which that was measured, where one metric ranks them and someone leads the search to its end.
        space: What is searched.
        seed: Seed of the search; ``None`` for another search each time.
        metrics: How many metrics are tuned. Defaults to 1.

    Attributes:
        trials: How many trials are planned; ``None`` where nobody knows.
        is_led: Whether trials are asked for until the search is done, so that those that pause go on.
        population: The population that is trained, ``None`` in other searches.

    Raises:
        TypeError, ValueError: The search or the stopper is none, or a population has a stopper.
        SpaceError: The search cannot search the space.
    """

    def __init__(
        self,
        search: str | PBT | BaseSampler,
        stopper: str | BasePruner | None,
        space: Space,
        *,
        seed: int | None = None,
        metrics: int = 1,
    ) -> None:
        self.population = PBT() if search == "pbt" else search if isinstance(search, PBT) else None
        search = "pbt" if isinstance(search, PBT) else search
        for argument, value, names in (("search", search, SEARCHES), ("stopper", stopper, STOPPER_NAMES)):
            kind, method = ("sampler", "sample_relative") if argument == "search" else ("pruner", "prune")
            if isinstance(value, type) or not (
                (value is None and argument == "stopper") or isinstance(value, str) or hasattr(value, method)
            ):
                raise TypeError(
                    f"{argument} is one of {', '.join(map(repr, names))}, or an instance of an Optuna {kind}; "
                    f"got {value!r}."
                )
            if isinstance(value, str):
                check_name("search method" if argument == "search" else argument, value, names, f"any Optuna {kind}")
        if isinstance(search, str):
            check_space(search, space)
            check_metrics(search, metrics)
        if self.population is not None and stopper not in (None, AUTO):
            raise ValueError(
                "search='pbt' replaces the weak members of its population itself, so it takes no stopper; "
                f"got stopper={stopper!r}.\n  Leave the stopper out."
            )
        self.search: str | BaseSampler = search
        self._stopper, self._space, self._seed, self._metrics = stopper, space, seed, metrics
        self.trials: int | None = None
        self.is_led = False

    @property
    def seed(self) -> int | None:
        """Seed of the search; ``None`` for another search each time."""
        return self._seed

    @property
    def is_grid(self) -> bool:
        """Whether the search is the exact grid."""
        return self.search == "grid"

    @property
    def ends_by_itself(self) -> bool:
        """Whether there is a last trial: of a grid, or where every member of a population is trained."""
        return self.is_grid or self.population is not None

    @property
    def is_named(self) -> bool:
        """Whether the search is one of ours, which do nothing after a trial."""
        return isinstance(self.search, str)

    @property
    def judges(self) -> bool:
        """Whether reports are judged, so that a training has to wait for the answer."""
        return self.pauses if self.is_auto else self._stopper is not None

    @property
    def pauses(self) -> bool:
        """Whether trials are paused and go on later."""
        return self.pausing is not None

    @property
    def pausing(self) -> str | None:
        """The rule by which trials are paused, ``None`` where they are not."""
        if self.is_auto:
            return PAUSE if self.is_led and self.search == "bayes" and self._metrics == 1 else None
        return self._stopper if isinstance(self._stopper, str) and self._stopper in PAUSING else None

    @property
    def is_auto(self) -> bool:
        """Whether the stopper is not the user's choice."""
        return self._stopper == AUTO

    def sampler(self) -> BaseSampler:
        """The sampler, said in one line where there is something that the user did not choose."""
        sampler, note = make_sampler(
            self.search, self._space, seed=self._seed, trials=self.trials, metrics=self._metrics
        )
        if self.search in ("bayes", "grid") or (self.search == "gp" and self._space.has_branches):
            make_visible()
            log.info("%s", note)
        return sampler

    def pruner(self, budget: Budget | None = None) -> BasePruner:
        """The pruner of trials that train so long."""
        return make_stopper(self._stopper, budget or Budget())

    def judge(self, study: Study, running: AskedTrial, course: Course, step: int, say: str) -> Decision:
        """Ask the pruner of a study whether a trial goes on after a report.

        Args:
            study: The study, with a pruner of `pruner`.
            running: The trial.
            course: What it has reported.
            step: Number of the report.
            say: What it measured, for people.
        """
        from tunehook.search.guard import Guarded, looks_at_few

        pruner = study.pruner
        if isinstance(pruner, Guarded) and not pruner.judges(step):
            return Decision()
        if self._metrics > 1:
            stops = pruner.prune(watched(study), course.shown(running) if looks_at_few(pruner) else _whole(running))
        else:
            stops = pruner.prune(study, course.shown(running)) if looks_at_few(pruner) else running.should_prune()
        if not stops:
            return Decision()
        name = self._stopper if isinstance(self._stopper, str) else type(self._stopper).__name__
        return Decision(True, f"{name}: {say} falls behind the other trials")


def _whole(running: AskedTrial) -> FrozenTrial:
    return with_reports(running, reports_of(running))
