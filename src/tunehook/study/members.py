"""The members of a population: which interval is asked for next, and whose checkpoints are kept.

An interval is enqueued with its place in the population, and then asked for, by this process or another one. Of two
that have one place, because two processes looked at the same moment, the one with the lower number is trained.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from optuna.samplers import RandomSampler
from optuna.trial import TrialState

from tunehook.search import PBT, Member, Next, Replay, explore, next_interval
from tunehook.session import Checkpoints
from tunehook.space import SpaceError
from tunehook.storage import LINEAGE, Ledger, stored_lineage
from tunehook.trial import INTERVAL_ENDS, Outcome, StudyError, StudyFinished, StudyFull, Trial

if TYPE_CHECKING:
    from optuna import Trial as AskedTrial
    from optuna.trial import FrozenTrial


class Members:
    """Asks for the intervals of a population.

    Args:
        ledger: The storage.
        config: The population.
        seed: Seed of the search; ``None`` for another search each time.
    """

    def __init__(self, ledger: Ledger, config: PBT, *, seed: int | None) -> None:
        self._ledger, self._config = ledger, config
        self._seed = random.SystemRandom().getrandbits(32) if seed is None else seed

    def prepare(self) -> None:
        """Enqueue the next interval, unless one waits.

        Raises:
            StudyFull: The running ones have to end before.
            StudyFinished: Every member has trained to its end.
        """
        if self._ledger.has_waiting:
            return
        following = self._next()
        if following == "wait":
            raise StudyFull(f"The next generation of study '{self._ledger.name}' begins when this one has ended.")
        if following == "end":
            raise StudyFinished(f"Every member of the population of study '{self._ledger.name}' is trained to its end.")
        self._enqueue(following, self._values(following))

    def enqueue(self, raw: Mapping[str, Any]) -> None:
        """Let a member of the first generation begin with these raw values.

        Raises:
            SpaceError: All of them have theirs.
        """
        following = self._next()
        if isinstance(following, str) or following.generation:
            raise SpaceError(
                f"The {self._config.population} members of the population of study '{self._ledger.name}' have their "
                "first values: enqueue before they begin."
            )
        self._enqueue(following, raw)

    def is_double(self, asked: AskedTrial) -> bool:
        """Whether a trial has a place that another one has, or none; it ends here then."""
        mine = stored_lineage(asked)
        if mine is None:  # another process has taken the one that waited
            self._ledger.end(asked, Outcome("interrupted", "it has no place in the population"))
            return True
        places = (one for one in self._made() if one.state != "void")
        first = next(one for one in places if (one.member, one.generation) == (mine["member"], mine["generation"]))
        if first.number == asked.number:
            return False
        self._ledger.end(asked, Outcome("interrupted", f"trial {first.number} trains this interval"))
        return True

    def forget(self, trial: Trial) -> None:
        """Remove the checkpoints from which no member goes on any more, now that a trial has ended."""
        lineage = trial.lineage
        if lineage is None or lineage.generation == 0:
            return
        following = self._next()
        if following == "end" or (following != "wait" and following.generation > lineage.generation):
            for frozen in self._ledger.trials():
                stored = stored_lineage(frozen)
                if stored is not None and stored["generation"] == lineage.generation - 1:
                    Checkpoints(self._ledger.as_trial(frozen)).discard()

    def _next(self) -> Any:
        return next_interval(self._config, self._ledger.mode, self._made(), seed=self._seed)

    def _made(self) -> list[Member]:
        """The trials of the population.

        Raises:
            StudyError: They are those of another one.
        """
        made = [(one, stored) for one in self._ledger.trials() if (stored := stored_lineage(one)) is not None]
        members = 1 + max((stored["member"] for _, stored in made), default=-1)
        interval = made[0][1]["interval"] if made else self._config.interval
        if members > self._config.population or interval != self._config.interval:
            raise StudyError(
                f"Study '{self._ledger.name}' trains a population with at least {members} members and intervals of "
                f"{interval} epochs, and was given {self._config!r}.\n"
                "  Give it the population that it was begun with, or the new one another name."
            )
        return [self._member(*one) for one in made]

    def _member(self, frozen: FrozenTrial, stored: Mapping[str, Any]) -> Member:
        place = frozen.number, stored["member"], stored["generation"]
        if not frozen.state.is_finished():
            return Member(*place, state="open")
        if frozen.state == TrialState.FAIL:
            return Member(*place, state="void")
        outcome = self._ledger.outcome_of(frozen)
        is_complete = outcome.state == "complete"
        return Member(
            *place, self._ledger.space.decode(frozen.params), value=outcome.value if is_complete else None,
            goes_on=is_complete and outcome.reason.startswith(INTERVAL_ENDS),
        )  # fmt: skip

    def _values(self, following: Next) -> dict[str, Any]:
        """The raw values of an interval; none in the first generation, which are drawn when it is asked for."""
        parent, space = following.parent, self._ledger.space
        if isinstance(self._config, Replay):
            return space.encode(self._config.schedule[following.generation])
        if parent is None:
            return {}
        if not following.is_copy:
            return space.encode(parent.params)
        seed = f"{self._seed}/{following.generation}/{following.member}/{following.voids}"
        frozen = self._ledger.numbered(parent.number)
        drawn = RandomSampler(seed=random.Random(seed).getrandbits(32))  # noqa: S311 - a search, no secret

        def fresh() -> dict[str, Any]:
            return {
                name: drawn.sample_independent(self._ledger.study, frozen, name, one)
                for name, one in self._ledger.distributions.items()
            }

        return explore(space, space.encode(parent.params), fresh, self._config, seed=seed)

    def _enqueue(self, following: Next, raw: Mapping[str, Any]) -> None:
        parent = following.parent
        place = {
            "member": following.member, "generation": following.generation, "interval": self._config.interval,
            "parent": None if parent is None else parent.number,
        }  # fmt: skip
        self._ledger.enqueue(raw, {LINEAGE: place})
