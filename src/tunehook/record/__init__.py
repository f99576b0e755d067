"""The journal of a trial: one line for each event, which is the truth, and the files below a study's folder."""

from tunehook.record.checks import (
    END,
    PROCESS,
    Is,
    has,
    is_flag,
    is_number,
    is_path,
    is_snapshot,
    is_text,
    is_texts,
    is_values,
    is_whole,
    is_wholes,
    maybe,
    one_of,
)
from tunehook.record.events import (
    BEGINNING,
    Begin,
    Config,
    Ended,
    Event,
    Events,
    InSync,
    Kept,
    Place,
    Process,
    Report,
    Rows,
    RunNote,
    Stopped,
    Taken,
    Task,
    join,
    next_place,
    read_attempts,
    read_events,
    read_processes,
)
from tunehook.record.journal import (
    Journal,
    host,
    plain,
    read_journal,
    stamp,
)
from tunehook.record.outline import LEFT_OUT, names_of_secrets, outlines
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
from tunehook.record.recorders import Recorders, StudyRecorders

__all__ = [
    "BEGINNING", "Begin", "CanStop", "Config", "END", "Ended", "Event", "Events", "InSync", "Is", "Journal",
    "KeepsModel", "Kept", "LEFT_OUT", "LinkError", "OneForAllAttempts", "PROCESS", "Place", "Process", "ROOT",
    "Recorder", "Recorders", "Report", "Rows", "RunNote", "ShowsSnapshots", "ShowsStudy", "Stopped", "StudyPaths",
    "StudyRecorders", "Taken", "Task", "WritesBeside", "check_place", "check_recorder", "checkpoints_of", "copy",
    "files_in", "has", "host", "is_flag", "is_number", "is_path", "is_snapshot", "is_text", "is_texts",
    "is_values", "is_whole", "is_wholes", "join", "journal_of", "make_folder", "maybe", "names_of_secrets",
    "next_place", "one_of", "open_file", "outlines", "output_of", "plain", "plans_of", "read_attempts",
    "read_events", "read_journal", "read_processes", "remove", "runs_of", "stamp",
]  # fmt: skip
