"""Training once more what a study has found, in a study of its own beside it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar

from tunehook.search import Replay
from tunehook.space import Fixed, Space
from tunehook.study.results import Results
from tunehook.trial import StudyError

_T = TypeVar("_T")
# Makes a study that is as another one in all but its name, its space and its search.
Beside: TypeAlias = Callable[[str, Space, str | Replay], Any]


def retrain(study: Results, beside: Beside, train: Callable[[], _T], number: int | None) -> _T:
    """See `Study.retrain`."""
    chosen = study.best if number is None else study.trial(number)
    if chosen.lineage is not None:
        raise StudyError(
            f"The values of {study.name!r} changed while trial {chosen.number} trained, so they are no single set.\n"
            "  Train its schedule once more: study.replay_schedule(train)."
        )
    space = Space({name: Fixed(value) for name, value in chosen.params.items()})
    again, returned = beside(f"retrain-{chosen.number}", space, "random"), list[_T]()

    def kept() -> _T:
        returned.append(train())
        return returned[-1]

    again.optimize(kept, trials=again.finished + 1, progress=False)
    if not returned:  # such as where memory ran out, which ends a trial and not a study
        outcome = again.trials[-1].outcome
        raise StudyError(f"The training with the values of trial {chosen.number} is {outcome.state}: {outcome.reason}")
    return returned[-1]


def replay_schedule(study: Results, beside: Beside, train: Callable[[], object], number: int | None) -> Any:
    """See `Study.replay_schedule`."""
    chain = study.schedule(number)
    lineage, last = chain[0].lineage, chain[-1].number
    replay = Replay(interval=1 if lineage is None else lineage.interval, schedule=[one.params for one in chain])
    again = beside(f"replay-{last}", study.space, replay)
    again.optimize(train, progress=False)
    return again
