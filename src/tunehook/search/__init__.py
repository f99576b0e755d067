"""Names of search methods and stoppers, made into those of Optuna."""

from typing import TYPE_CHECKING

from tunehook.search.course import Course
from tunehook.search.method import Method
from tunehook.search.samplers import SEARCHES, STOPPERS, check_name, check_space, make_sampler, make_stopper, startup
from tunehook.system import lazily

if TYPE_CHECKING:
    from tunehook.search.bayes import GaussianProcessSampler as GaussianProcessSampler
    from tunehook.search.bayes import known_values as known_values
    from tunehook.search.grid import GridSampler as GridSampler
    from tunehook.search.guard import Guarded as Guarded

__all__ = [
    "Course", "GaussianProcessSampler", "GridSampler", "Guarded", "Method", "SEARCHES", "STOPPERS", "check_name",
    "check_space", "known_values", "make_sampler", "make_stopper", "startup",
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
