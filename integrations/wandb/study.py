"""The run of a whole study: the table of its trials, the best so far, what matters, and what the best trial was.

It is written in bursts by the writer's thread: begun or resumed, brought up to date from the study, and finished. So
none is open for long, a process that is killed leaves none behind, and any process of the study can write the next one.

The run of a study is not kept open: an open run is lost where its process is killed. A burst costs 10 ms offline and
about 0.1 s online, in the thread. Offline a run cannot be resumed, so each burst writes a new folder with everything
and removes the one before, unless that was uploaded by then.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from wandb import Settings

from tunehook.integrations.wandb.line import CALL, LONGEST, WRONG, Line, reason_of
from tunehook.integrations.wandb.owners import OWNERS
from tunehook.integrations.wandb.run import make_settings
from tunehook.integrations.wandb.sdk import was_cut_off
from tunehook.integrations.wandb.service import end_service, leave_service, restart_service, use_service
from tunehook.integrations.wandb.shown import PATIENCE, changing, read_shown, replaceable
from tunehook.integrations.wandb.view import Model, View, fill, log_model, look_at
from tunehook.record import LinkError, check_place, copy, files_in, make_folder, open_file, remove
from tunehook.study import Study

# A burst is followed by a pause of so many times what it took, so that a study of short trials hardly feels them.
REST = 50.0
# Machines that share a storage, and not the study's folder, take turns that last so many seconds.
TURN = 300.0

_log = logging.getLogger("tunehook")


class StudyRun:
    """The run of one study in this process.

    Args:
        options: The arguments of ``wandb.init``.
        line: The way to W&B.
        find_mode: Finds the mode of the run.
        init_timeout: Seconds until a run that cannot begin online is given up for now.
        finish_timeout: Seconds that the upload of a burst may take.
        started: Is called in the writer's thread when the SDK has its service.
    """

    def __init__(
        self,
        options: Mapping[str, Any],
        line: Line,
        find_mode: Callable[[], Any],
        *,
        init_timeout: float,
        finish_timeout: float,
        started: Callable[[], None],
    ) -> None:
        self._options, self._line, self._find_mode, self._started = options, line, find_mode, started
        self._init_timeout, self._finish_timeout = init_timeout, finish_timeout
        self._study: Study | None = None  # whose latest end is not shown
        self._due = 0.0
        self._was_told = False
        self._best: int | None = None
        self._model: Model | None = None  # the best trial's
        self._was_missing_told = False
        self._service: object = None  # of the latest burst
        self._folder: str | None = None  # of the latest burst, where it is offline; W&B numbers those of one second

    def update(self, study: Study, *, is_last: bool) -> None:
        """Show the study, at its end or when a burst is due."""
        self._study = study
        if self._mode() != "disabled" and (is_last or time.monotonic() >= self._due):
            self.flush(is_last=is_last)

    def keep_best(self, study: Study) -> None:
        """Copy the checkpoint of a trial that is the best now, before a later trial can write over it."""
        best = study.standing().best
        if best is None or best.number == self._best or self._mode() == "disabled":
            return
        self._best = best.number
        before, self._model = self._model, None  # no other trial's model is logged as the best any more
        if before is not None:
            remove(before.path.parent, below=study.paths.folder)
        with contextlib.suppress(OSError), open_file(study.paths.shown, "rb", below=study.paths.folder) as file:
            kept = read_shown(file).get(self._key, {})
            if kept.get("model") == best.number and kept.get("run", "").endswith(study.key):
                return
        try:
            kept_at = _copy(study, best.number)
        except OSError as error:
            self._tell_missing(best.number, error)
            return
        if kept_at is None:
            self._tell_missing(best.number, "its training wrote none")
            return
        self._model = Model(best, kept_at)

    def _tell_missing(self, number: int, why: object) -> None:
        if not self._was_missing_told:
            self._was_missing_told = True
            _log.warning(
                "W&B gets no checkpoint of the best trial, %d (%s). In Lightning, add "
                "ModelCheckpoint(monitor=..., mode=...) to the callbacks of the Trainer; in Keras, "
                "ModelCheckpoint('trial.keras', save_best_only=True) to those of fit.",
                number,
                reason_of(why),
            )

    @property
    def _key(self) -> str:
        return f"wandb:{self._options['entity'] or ''}/{self._options['project']}"

    def flush(self, *, is_last: bool = True) -> None:
        """Hand what is not shown to the writer; offline it is waited for, since it takes milliseconds."""
        study, mode = self._study, self._mode()
        if study is None or mode == "disabled":
            return
        began = time.monotonic()
        view = look_at(study)
        key = self._key
        if not view.ended or not study.claim(key, seconds=TURN):
            return
        self._study, self._due = None, math.inf
        took = time.monotonic() - began

        def write() -> None:
            began, is_shown = time.monotonic(), False
            try:
                is_shown = self._write(study.paths.shown, key, view, mode, is_last=is_last)
            except LinkError as error:
                self._lose(view, error)
            finally:
                self._due = time.monotonic() + REST * (took + time.monotonic() - began)
                if not is_shown:
                    self._study = self._study or study

        self._line.writer.put(write, limit=2 * (self._init_timeout + self._finish_timeout) + PATIENCE + CALL)
        if is_last:
            if mode != "online":
                self._line.writer.drain(min(self._finish_timeout, LONGEST))
            study.claim(key, seconds=0)

    def _mode(self) -> Any:
        mode = self._find_mode()
        return "offline" if mode == "online" and self._line.is_down else mode

    # ------------------------------------------------------------------ in the writer's thread

    def _write(self, path: Path, key: str, view: View, mode: Any, *, is_last: bool) -> bool:
        """Write a burst, unless another process has; returns whether all is shown."""
        with changing(path) as shown:
            kept = shown.get(key, {})
            first = kept.get("trials", 0) if kept.get("run") == view.run_id else 0
            model = self._model
            if model is None or view.best is None or model.trial.number != view.best.number:
                model = None  # another trial has become the best between the two looks
            is_new = model is not None and not (first and kept.get("model") == model.trial.number)
            if first >= len(view.ended) and not is_new:
                return True
            before = replaceable(kept, view.run_id, has_model=model is not None) if first and mode != "online" else None
            if before is not None:
                first = kept["from"]
            elif first and mode != "online" and not is_last:
                return False  # it would be one more folder each time
            elif not is_new:
                model = None  # it is there
            is_whole = self._try(view, mode, first, model, is_last=is_last)
            if is_whole:
                there = kept.get("model") if first and model is None else model and model.trial.number
                shown[key] = {"run": view.run_id, "trials": len(view.ended), "model": there,
                              "folder": self._folder, "from": first}  # fmt: skip
                if before is not None and str(before) != self._folder:
                    remove(before, below=before.parent)
            return is_whole

    def _try(self, view: View, mode: Any, first: int, model: Model | None, *, is_last: bool) -> bool:
        """Write a burst; once more with a new service where it was gone, and offline at the end where the server is."""
        try:
            return self._burst(view, mode, first, model)
        except WRONG as error:
            return self._lose(view, error)
        except Exception as error:  # noqa: BLE001 - whatever the SDK raises is no business of the training
            if not restart_service(self._service):
                if mode != "online":
                    return self._lose(view, error)
                self._line.tell_down(error)
                if not is_last:
                    return False
                end_service(self)  # it still holds the id of the run
                mode = "offline"
        try:
            return self._burst(view, mode, first, model)
        except Exception as error:  # noqa: BLE001 - as above
            return self._lose(view, error)

    def _burst(self, view: View, mode: Any, first: int, model: Model | None) -> bool:
        """Begin or resume the run, write and finish it; returns whether W&B has it all."""
        settings = make_settings(
            x_disable_viewer=True, init_timeout=self._init_timeout, finish_timeout=self._finish_timeout
        )
        self._service = use_service(self)
        self._started()
        try:
            return self._write_run(view, mode, first, model, settings)
        finally:
            leave_service(self)

    def _write_run(self, view: View, mode: Any, first: int, model: Model | None, settings: Settings) -> bool:
        run = OWNERS.begin(view.run_id, **self._options, resume="allow", mode=mode, settings=settings)
        OWNERS.hold(run)
        try:
            problem = fill(run, view, run.starting_step if mode == "online" else first)
            if model is not None:
                log_model(run, view, model)
        finally:
            OWNERS.let_go(run)
            run.finish(exit_code=0)
            self._folder = None if mode == "online" else str(Path(run.dir).parent.absolute())
        if problem is not None:
            self._lose(view, problem)
        if not was_cut_off(run):
            return True
        self._line.tell_down(f"the run of study {view.name} was not uploaded in {self._finish_timeout:g} s")
        return False

    def _lose(self, view: View, why: object) -> bool:
        """Tell once that something is missing."""
        if not self._was_told:
            self._was_told = True
            _log.warning(
                "The W&B run of study %s is not up to date (%s); the study has everything.", view.name, reason_of(why)
            )
        return False


def _copy(study: Study, number: int) -> Path | None:
    """Copy the checkpoint of a trial into its folder, unless it is there; ``None`` where there is none.

    Raises:
        OSError: It was changed, or cannot be copied.
    """
    root, folder = study.paths.folder, study.paths.checkpoint(number)
    if not check_place(folder, below=root).is_dir():
        path = study.checkpoint(number)
        if path is None:
            return None
        part = folder.with_name(f"{folder.name}.{os.getpid()}")  # until it is whole
        remove(part, below=root)
        make_folder(part, below=root)
        copy(path, part / path.name)
        part.rename(folder)
    files_in(folder)
    return next(folder.iterdir())
