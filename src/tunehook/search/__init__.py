"""Names of search methods and stoppers, made into those of Optuna."""

from typing import TYPE_CHECKING

from tunehook.search.course import Course
from tunehook.search.method import Method
from tunehook.search.pbt import PBT, Member, Next, Replay, explore, next_interval
from tunehook.search.rungs import Climb, foremost, goes_on, left_behind, rungs_by, rungs_of
from tunehook.search.samplers import SEARCHES, STOPPERS, check_name, check_space, make_sampler, make_stopper, startup
from tunehook.system import lazily

if TYPE_CHECKING:
    from tunehook.search.bayes import GaussianProcessSampler as GaussianProcessSampler
    from tunehook.search.bayes import known_values as known_values
    from tunehook.search.grid import GridSampler as GridSampler
    from tunehook.search.guard import Guarded as Guarded

__all__ = [
    "Climb", "Course", "GaussianProcessSampler", "GridSampler", "Guarded", "Member", "Method", "Next", "PBT",
    "Replay", "SEARCHES", "STOPPERS", "check_name", "check_space", "explore", "foremost", "goes_on", "known_values",
    "left_behind", "make_sampler", "make_stopper", "next_interval", "rungs_by", "rungs_of", "startup",
]  # fmt: skip

__getattr__ = lazily(
    __name__,
    {
        "GaussianProcessSampler": "bayes",
        "GridSampler": "grid",
        "Guarded": "guard",
        "known_values": "bayes",
    },
)
