"""The journal of a trial: one line for each event, which is the truth, and the files below a study's folder."""

from tunehook.record.checks import (
    END,
    PROCESS,
    Is,
    has,
    is_flag,
    is_number,
    is_snapshot,
    is_text,
    is_texts,
    is_values,
    is_whole,
    is_wholes,
    maybe,
    one_of,
)
from tunehook.record.journal import (
    Journal,
    events_of,
    host,
    outline,
    plain,
    read_earlier,
    read_journal,
    read_trial,
    stamp,
)
from tunehook.record.paths import (
    ROOT,
    LinkError,
    StudyPaths,
    check_place,
    checkpoints_of,
    copy,
    files_in,
    journal_of,
    make_folder,
    open_file,
    output_of,
    plans_of,
    remove,
    runs_of,
)
from tunehook.record.recorder import (
    CanStop,
    KeepsModel,
    OneForAllAttempts,
    Recorder,
    ShowsSnapshots,
    ShowsStudy,
    WritesBeside,
    check_recorder,
)
from tunehook.record.recorders import BEGINNING, Place, Recorders, StudyRecorders, next_place

__all__ = [
    "BEGINNING", "CanStop", "END", "Is", "Journal", "KeepsModel", "LinkError", "OneForAllAttempts", "PROCESS",
    "Place", "ROOT", "Recorder", "Recorders", "ShowsSnapshots", "ShowsStudy", "StudyPaths", "StudyRecorders",
    "WritesBeside", "check_place", "check_recorder", "checkpoints_of", "copy", "events_of", "files_in", "has",
    "host", "is_flag", "is_number", "is_snapshot", "is_text", "is_texts", "is_values", "is_whole", "is_wholes",
    "journal_of", "make_folder", "maybe", "next_place", "one_of", "open_file", "outline", "output_of", "plain",
    "plans_of", "read_earlier", "read_journal", "read_trial", "remove", "runs_of", "stamp",
]  # fmt: skip
