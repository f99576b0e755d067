"""Ends that a study was told and that the journals of its trials lack, looked up where the study is not open."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tunehook.record import StudyPaths
from tunehook.storage import from_environment, stored_attempt, stored_key, stored_outcome
from tunehook.trial import Outcome, StudyError, Trial, key_of

if TYPE_CHECKING:
    from optuna import Study as OptunaStudy


class Told:
    """Looks up how trials ended in their studies; nothing is written.

    Args:
        storage: The storage URL of studies that are not in the file in their folder. Defaults to None:
            ``TUNEHOOK_STORAGE``.
    """

    def __init__(self, storage: str | None = None) -> None:
        self._url = storage or from_environment()
        self._studies: dict[Path, OptunaStudy | StudyError | None] = {}  # an error, so that it is not tried again

    def outcome(self, trial: Trial) -> Outcome | None:
        """How a trial ended, ``None`` where its study was not told, or where nothing is known of the study.

        Raises:
            StudyError: Its study knows, and cannot be asked.
        """
        folder = trial.folder.parent
        try:
            if folder not in self._studies:
                self._studies[folder] = self._find(trial.study, StudyPaths(folder))
            study = self._studies[folder]
            if isinstance(study, StudyError):
                raise study.with_traceback(None)
            return None if study is None else self._look_up(study, trial)
        except StudyError as error:
            self._studies[folder] = error
            raise

    @staticmethod
    def _look_up(study: OptunaStudy, trial: Trial) -> Outcome | None:
        for frozen in study.get_trials(deepcopy=False)[trial.number : trial.number + 1]:
            key = stored_key(frozen) or key_of(trial.study, frozen.number, frozen.datetime_start)
            if (key, stored_attempt(frozen) or 0) == (trial.key, trial.attempt):
                return stored_outcome(frozen)
        return None

    def _find(self, name: str, paths: StudyPaths) -> OptunaStudy | None:
        from tunehook.storage import describe_folder, find_study

        described = describe_folder(paths)
        if described is None or described.name != name:  # someone's own Optuna study, or an earlier version's
            try:
                return find_study(name, storage=self._url, folder=paths.folder)[0]
            except StudyError:
                return None
        if described.storage == "memory":
            return None
        if described.storage == "elsewhere" and self._url is None:
            raise StudyError(
                f"the journal has no end, and the storage of study '{name}', which may know it, was not given: "
                "tunehook sync --storage URL"
            )
        is_file = described.storage == "file"
        return find_study(name, storage=self._url, folder=paths.folder, is_file=is_file)[0]
