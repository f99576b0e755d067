"""Looking at a study."""

from typing import TYPE_CHECKING

from tunehook.system import lazily

if TYPE_CHECKING:
    from tunehook.report.page import write_report as write_report
    from tunehook.report.status import Watch as Watch
    from tunehook.report.status import best_of as best_of
    from tunehook.report.status import ending as ending
    from tunehook.report.status import lines as lines
    from tunehook.report.status import status_of as status_of
    from tunehook.report.status import table as table

__all__ = [
    "Watch", "best_of", "ending", "lines", "status_of", "table", "write_report",
]  # fmt: skip

__getattr__ = lazily(
    __name__,
    {
        "Watch": "status",
        "best_of": "status",
        "ending": "status",
        "lines": "status",
        "status_of": "status",
        "table": "status",
        "write_report": "page",
    },
)
