"""Statistics of the parameters of a model, taken while it trains."""

from typing import TYPE_CHECKING

from tunehook.snapshot.plan import Arrays, SnapshotPlan, Taker, plan_of
from tunehook.snapshot.schedule import Schedule
from tunehook.snapshot.values import PatternError, Snapshot, TensorStats
from tunehook.system import lazily

if TYPE_CHECKING:
    from tunehook.snapshot.take import Snapshots as Snapshots

__all__ = [
    "Arrays", "PatternError", "Schedule", "Snapshot", "SnapshotPlan", "Snapshots", "Taker", "TensorStats", "plan_of",
]  # fmt: skip

__getattr__ = lazily(
    __name__,
    {
        "Snapshots": "take",
    },
)
