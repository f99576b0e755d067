"""Where a study is kept: Optuna's storages, opened by several processes at once, failing with a way out."""

from typing import TYPE_CHECKING

from tunehook.storage.attributes import (
    AGAIN,
    ATTEMPT,
    BRACKET,
    FEASIBLE,
    KEY,
    LEADER,
    LINEAGE,
    OUTCOME,
    OWNER,
    PAUSE,
    PLAN,
    RUNGS,
    stored_again,
    stored_attempt,
    stored_bracket,
    stored_claim,
    stored_key,
    stored_leader,
    stored_lineage,
    stored_outcome,
    stored_owner,
    stored_pause,
    stored_plan,
    stored_rungs,
)
from tunehook.storage.liveness import holder_of
from tunehook.storage.messages import check_shared, from_environment, how_to_rebuild
from tunehook.system import lazily

if TYPE_CHECKING:
    from tunehook.storage.folder import describe_folder as describe_folder
    from tunehook.storage.heartbeat import GRACE as GRACE
    from tunehook.storage.ledger import Ledger as Ledger
    from tunehook.storage.opening import find_study as find_study
    from tunehook.storage.opening import names_in as names_in
    from tunehook.storage.opening import open_study as open_study
    from tunehook.storage.own import OwnStudy as OwnStudy
    from tunehook.storage.own import own_distribution as own_distribution
    from tunehook.storage.reader import ReadOnlyStorage as ReadOnlyStorage
    from tunehook.storage.retrying import PatientStorage as PatientStorage
    from tunehook.storage.states import is_counted as is_counted
    from tunehook.storage.states import is_running as is_running
    from tunehook.storage.states import is_waiting as is_waiting
    from tunehook.storage.states import outcome_of as outcome_of
    from tunehook.storage.waiting import Waiting as Waiting
    from tunehook.storage.waiting import keep_left_out as keep_left_out
    from tunehook.storage.waiting import read_waiting as read_waiting

__all__ = [
    "AGAIN", "ATTEMPT", "BRACKET", "FEASIBLE", "GRACE", "KEY", "LEADER", "LINEAGE", "OUTCOME", "OWNER", "PAUSE",
    "PLAN", "RUNGS", "Ledger", "OwnStudy", "PatientStorage", "ReadOnlyStorage", "Waiting", "check_shared",
    "describe_folder", "find_study", "from_environment", "holder_of", "how_to_rebuild", "is_counted", "is_running",
    "is_waiting", "keep_left_out", "names_in", "open_study", "outcome_of", "own_distribution", "read_waiting",
    "stored_again", "stored_attempt", "stored_bracket", "stored_claim", "stored_key", "stored_leader",
    "stored_lineage", "stored_outcome", "stored_owner", "stored_pause", "stored_plan", "stored_rungs",
]  # fmt: skip

__getattr__ = lazily(
    __name__,
    {
        "GRACE": "heartbeat",
        "Ledger": "ledger",
        "describe_folder": "folder",
        "is_counted": "states",
        "is_running": "states",
        "is_waiting": "states",
        "outcome_of": "states",
        "Waiting": "waiting",
        "keep_left_out": "waiting",
        "read_waiting": "waiting",
        "find_study": "opening",
        "names_in": "opening",
        "open_study": "opening",
        "OwnStudy": "own",
        "own_distribution": "own",
        "PatientStorage": "retrying",
        "ReadOnlyStorage": "reader",
    },
)
