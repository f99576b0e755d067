"""Statistics of the parameters of a model, taken while it trains."""

from typing import TYPE_CHECKING

from tunehook.snapshot.plan import Arrays, SnapshotPlan, Taker, plan_of
from tunehook.snapshot.schedule import Schedule
from tunehook.snapshot.values import BINS, PatternError, Snapshot, TensorStats, layer_of
from tunehook.system import lazily

if TYPE_CHECKING:
    from tunehook.snapshot.take import Snapshots as Snapshots

__all__ = [
    "Arrays", "BINS", "PatternError", "Schedule", "Snapshot", "SnapshotPlan", "Snapshots", "Taker", "TensorStats",
    "layer_of", "plan_of",
]  # fmt: skip

__getattr__ = lazily(
    __name__,
    {
        "Snapshots": "take",
    },
)
