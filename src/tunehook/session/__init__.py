"""The life of one trial: what adapters call, checkpoints to go on from, and the trial in progress."""

from tunehook.session.checkpoints import Checkpoints, Found, check_ours
from tunehook.session.in_progress import (
    activate,
    active,
    broadcast,
    check_alone,
    check_idle,
    check_not_importing,
    check_ranks,
    following,
    importing,
    is_following,
    left_to_parent,
    set_broadcast,
    several_ranks,
    sigterm_raised,
    surround,
)
from tunehook.session.intervals import ends_interval, set_aside
from tunehook.session.isolation import apart, begin_again
from tunehook.session.keeper import Judge
from tunehook.session.kept import Held, Kept, KeptModels, Loaded, files_of, prune, step_of, wanted, wanting
from tunehook.session.launched import adopt, hand_over, settle
from tunehook.session.models import Part, check_parts
from tunehook.session.reads import check_reads
from tunehook.session.session import TrialSession

__all__ = [
    "Checkpoints", "Found", "Held", "Judge", "Kept", "KeptModels", "Loaded", "Part", "TrialSession", "activate",
    "active", "adopt", "apart", "begin_again", "broadcast", "check_alone", "check_idle", "check_not_importing",
    "check_ours", "check_parts", "check_ranks", "check_reads", "ends_interval", "files_of", "following", "hand_over",
    "importing", "is_following", "left_to_parent", "prune", "set_aside", "set_broadcast", "settle", "several_ranks",
    "sigterm_raised", "step_of", "surround", "wanted", "wanting",
]  # fmt: skip
