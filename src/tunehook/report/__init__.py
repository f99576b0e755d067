"""Looking at a study."""

from typing import TYPE_CHECKING

from tunehook.system import lazily

if TYPE_CHECKING:
    from tunehook.report.bars import sparkline as sparkline
    from tunehook.report.dashboard import serve as serve
    from tunehook.report.page import write_figures as write_figures
    from tunehook.report.page import write_report as write_report
    from tunehook.report.status import Watch as Watch
    from tunehook.report.status import best_of as best_of
    from tunehook.report.status import ending as ending
    from tunehook.report.status import front_of as front_of
    from tunehook.report.status import lines as lines
    from tunehook.report.status import status_of as status_of
    from tunehook.report.status import table as table
    from tunehook.report.trials import chosen_trials as chosen_trials
    from tunehook.report.trials import studies_in as studies_in
    from tunehook.report.trials import trial_lines as trial_lines
    from tunehook.report.trials import trial_of as trial_of
    from tunehook.report.trials import trials_table as trials_table
    from tunehook.report.trials import why_failed as why_failed

__all__ = [
    "Watch", "best_of", "chosen_trials", "ending", "front_of", "lines", "serve", "sparkline", "status_of", "studies_in",
    "table", "trial_lines", "trial_of", "trials_table", "why_failed", "write_figures", "write_report",
]  # fmt: skip

__getattr__ = lazily(
    __name__,
    {
        "Watch": "status",
        "best_of": "status",
        "chosen_trials": "trials",
        "ending": "status",
        "front_of": "status",
        "lines": "status",
        "serve": "dashboard",
        "sparkline": "bars",
        "status_of": "status",
        "studies_in": "trials",
        "table": "status",
        "trial_lines": "trials",
        "trial_of": "trials",
        "trials_table": "trials",
        "why_failed": "trials",
        "write_figures": "page",
        "write_report": "page",
    },
)
