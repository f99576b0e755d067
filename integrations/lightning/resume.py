"""Checkpoints of a Lightning fit that may be interrupted: kept between two epochs, restored by Lightning's own means.

Between two epochs all of the one is done (hooks, schedulers, logged metrics) and nothing of the next one, so a fit that
goes on there draws the same random numbers, and counts the same steps, as one that was never interrupted.

Lightning restores itself: only where it would load the ``ckpt_path`` is ours handed to it. Each of its steps is undone
on all ranks where one of them fails, so that the trial begins again in the same fit.
"""
# ruff: noqa: SLF001 - how a Trainer restores itself, and where one epoch ends, has no public way

from __future__ import annotations

import copy
import pickle
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch

from tunehook.adapter import Patches, Ranks, Resume, parts_of, problem_on
from tunehook.integrations.lightning import host
from tunehook.integrations.lightning.settled import Settings
from tunehook.session import TrialSession
from tunehook.system import (
    generator_states,
    kept_random,
    random_state,
    restore_generators,
    restore_random,
)

_FILE = "lightning.ckpt"
_KEY = "tunehook"
# Callbacks that run a training of their own before the fit, and restore a checkpoint of theirs after it.
_FINDERS = {"LearningRateFinder", "BatchSizeFinder"}


class Fit(Protocol):
    """What a callback knows of a fit, and the trainer does not."""

    ranks: Ranks

    def take_late(self) -> None:
        """Report what the epoch has still to say."""

    def memory(self) -> dict[str, Any]:
        """Plain values to go on with."""

    def remember(self, memory: dict[str, Any]) -> None:
        """Go on with them."""


class FitCheckpoints:
    """Keeps checkpoints of one fit, and lets it go on from that of an earlier attempt, on all ranks.

    A callback makes one in ``setup`` when the values are injected; calls `start` in ``on_train_start``, and `close`
    whenever the fit ends.

    Args:
        trainer: The Trainer.
        session: The session of the trial; one that only follows, on ranks above 0.
        fit: What the callback knows of the fit.
    """

    def __init__(self, trainer: Any, session: TrialSession, fit: Fit) -> None:
        self._trainer, self._session, self._fit, self._ranks = trainer, session, fit, fit.ranks
        self._extra: dict[str, Any] = {}
        self._before: dict[str, Any] = {}
        self._patches = Patches()
        self._processed = 0  # epochs before the last checkpoint
        self._has_begun = False
        self._settings: Settings | None = None  # of what was made with the trial's values, before it made a step
        self.is_restored = False
        self._resume = Resume(session, fit.ranks, self._why_not())
        if self._resume.is_exact:
            self._patches.put(trainer._checkpoint_connector, "resume_start", self._resume_start)

    def _why_not(self) -> str:
        """Why the fit could not go on exactly, an empty text where it can."""
        trainer = self._trainer
        kinds = {cls.__name__ for callback in trainer.callbacks for cls in type(callback).__mro__}
        if kinds & _FINDERS:
            return f"a {min(kinds & _FINDERS)} trains before the fit"
        if trainer.fast_dev_run:
            return "fast_dev_run keeps none"
        return host.why_in_parts(trainer.strategy)

    # ------------------------------------------------------------------ going on

    def _resume_start(self, checkpoint_path: Any = None, *rest: Any, **options: Any) -> None:
        """In place of Lightning's own loading of a checkpoint, once: model, callbacks and loops are restored by it."""
        connector = self._trainer._checkpoint_connector
        self._patches.undo()
        connector.resume_start(checkpoint_path, *rest, **options)
        if checkpoint_path:
            self._resume.drop(f"the fit begins from a checkpoint of yours, {checkpoint_path}")
            return
        folder = self._resume.find()
        if folder is None:
            return
        loaded: dict[str, Any] = {}
        problem = problem_on(self._ranks, lambda: loaded.update(_load(folder / _FILE)))
        extra = loaded.get(_KEY, {})
        if not problem and extra["made_by"] != _versions(self._trainer):
            problem = f"it was made by {extra['made_by']}"
        if not problem and len(extra["ranks"]) != self._trainer.world_size:
            problem = f"it was made on {len(extra['ranks'])} ranks"
        if problem:
            self._resume.start_over(problem)
            return
        self._extra = loaded.pop(_KEY)
        self._keep_dirpaths(loaded["callbacks"])
        self._before = {"random": random_state(), **copy.deepcopy(self._model_states())}
        connector._loaded_checkpoint = loaded
        for name in ("restore_model", "restore_datamodule", "restore_callbacks", "restore_training_state"):
            self._patches.put(connector, name, self._restoring(name, getattr(connector, name)))

    def _restoring(self, name: str, restore: Callable[[], None]) -> Callable[[], None]:
        """A step of Lightning's restoring that is undone where it fails, on all ranks."""
        connector = self._trainer._checkpoint_connector

        def step() -> None:
            if not connector._loaded_checkpoint:
                return
            is_last = name == "restore_training_state"
            if is_last:
                self._before |= {"random": random_state(), **copy.deepcopy(self._optimizer_states())}
                self._patches.undo()  # what is restored later in this fit is the user's
            problem = problem_on(self._ranks, self._keep_settings) if is_last else ""
            problem = problem or problem_on(self._ranks, restore)
            if problem:
                self._undo(is_made=is_last)
                self._resume.start_over(problem)
            elif is_last:
                self.is_restored, self._before = True, {}
                self._mark_finished()
                # The sanity check was made by the first attempt, and would run into what was restored.
                self._trainer.fit_loop.epoch_loop.val_loop._restarting = True

        return step

    def _keep_settings(self) -> None:
        """Let the optimizers keep what they were made with, where the checkpoint is of other values."""
        self._settings = Settings.of(self._trainer)
        if self._resume.is_parents:
            loaded = self._trainer._checkpoint_connector._loaded_checkpoint
            self._settings.put_into(loaded, made_with=self._extra["settings"])

    def _undo(self, *, is_made: bool) -> None:
        """Take back what was restored before a step failed."""
        trainer, before, self._before = self._trainer, self._before, {}
        self._patches.undo()
        trainer._checkpoint_connector._loaded_checkpoint = {}
        with kept_random():
            trainer.lightning_module.load_state_dict(before["model"], strict=False)
            for callback, state in zip(trainer.callbacks, before["callbacks"], strict=True):
                if state:
                    callback.load_state_dict(state)
            if trainer.datamodule is not None and before["datamodule"]:
                trainer.datamodule.load_state_dict(before["datamodule"])
            trainer.fit_loop.load_state_dict(before["loops"])
            if is_made:
                if before["precision"]:
                    trainer.precision_plugin.load_state_dict(before["precision"])
                for one, state in zip(trainer.optimizers, before["optimizers"], strict=True):
                    one.load_state_dict(state)
                for config, state in zip(trainer.lr_scheduler_configs, before["schedulers"], strict=True):
                    config.scheduler.load_state_dict(state)
        restore_random(before["random"])
        self._mark_finished()

    def _model_states(self) -> dict[str, Any]:
        trainer = self._trainer
        return {
            "model": trainer.lightning_module.state_dict(),
            "callbacks": [callback.state_dict() for callback in trainer.callbacks],
            "datamodule": None if trainer.datamodule is None else trainer.datamodule.state_dict(),
            "loops": trainer.fit_loop.state_dict(),
        }

    def _optimizer_states(self) -> dict[str, Any]:
        return {
            "optimizers": [one.state_dict() for one in self._trainer.optimizers],
            "schedulers": [config.scheduler.state_dict() for config in self._trainer.lr_scheduler_configs],
            "precision": self._trainer.precision_plugin.state_dict(),  # of half precision, the scale of the loss
        }

    def _mark_finished(self) -> None:
        """Let the loops take what was restored for epochs of their own, which have ended: nothing is to be repeated."""
        for loop in _loops(self._trainer.fit_loop):
            loop._restarting = loop._loaded_from_state_dict = loop._resuming_from_checkpoint = False

    def _keep_dirpaths(self, states: dict[str, Any]) -> None:
        """Let a ``ModelCheckpoint`` go on with what it kept, also where it keeps its files in another folder now."""
        for callback in self._trainer.callbacks:
            state = states.get(callback.state_key)
            if isinstance(state, dict) and "dirpath" in state and hasattr(callback, "dirpath"):
                state["dirpath"] = callback.dirpath

    def start(self) -> None:
        """Go on, or begin; from here on a checkpoint is kept between epochs."""
        trainer = self._trainer
        is_exact = trainer.strategy.root_device.type != "cuda" or not any(map(_has_dropout, trainer.model.modules()))
        why = "" if is_exact else "cuDNN keeps the random numbers of dropout between recurrent layers to itself"
        if not self._resume.begin(why):
            return
        loop = trainer.fit_loop
        if self.is_restored:
            loop._last_train_dl_reload_epoch = self._extra["reloaded"]
            metrics = _moved(self._extra["metrics"], trainer.strategy.root_device)
            trainer._logger_connector._callback_metrics.update(metrics)
            self._fit.remember(self._extra["memory"])
            trainer.should_stop = self._extra["should_stop"]
            self._set_up_validation()
        self._settings = self._settings or Settings.of(trainer)
        self._resume.open(is_restored=self.is_restored)
        self._processed = loop.epoch_progress.current.processed
        self._patches.put(loop, "on_advance_start", self._between)

    def _set_up_validation(self) -> None:
        """What the sanity check did in the first attempt, whose loaders may have generators of their own."""
        trainer, loop = self._trainer, self._trainer.fit_loop.epoch_loop.val_loop
        loop._restarting = False
        if trainer.enable_validation and loop._combined_loader is None:
            trainer.validating = True
            loop.setup_data()
            trainer.training = True

    # ------------------------------------------------------------------ keeping

    def _between(self) -> None:
        """Between two epochs: keep a checkpoint where one is due."""
        loop = self._trainer.fit_loop
        if self._has_begun and self._resume.ends_interval(loop.epoch_progress.current.processed):
            self._fit.take_late()
            if not self._session.decision.stop:
                self._write(self._resume.set_aside)
            raise StopIteration  # the fit loop's own way to end before an epoch begins
        if self._has_begun:
            self._save()
            if self._session.decision.stop:  # it pauses here, or was stopped by what the epoch had still to say
                raise StopIteration  # the fit loop's own way to end before an epoch begins
        elif self.is_restored:
            mine = self._extra["ranks"][self._trainer.global_rank]
            restore_generators(self._owners(), mine["generators"])
            restore_random(mine["random"])
        self._has_begun = True
        notice = self._resume.notice
        if notice.is_given:
            self.save_last()
            notice.pass_on()
        notice.begin_epoch()
        type(loop).on_advance_start(loop)

    def _save(self) -> None:
        if self._resume.is_kept:
            self._fit.take_late()
            if self._ranks.agree(self._resume.is_due(self._size()) and self._is_exact()):
                with self._resume.measured():
                    self._write()

    def _is_exact(self) -> bool:
        """With loaders that are made again every n epochs, only where they are: the next ones follow from that."""
        trainer = self._trainer
        reloads = not trainer.reload_dataloaders_every_n_epochs or trainer.fit_loop._should_reload_train_dl
        return bool(reloads) and not self._session.decision.stop

    def save_last(self) -> None:
        """Keep one more where a signal ends the fit between two epochs, whatever it costs."""
        loop = self._trainer.fit_loop
        done = loop.epoch_progress.current
        if (
            self._resume.is_kept
            and self._ranks.count == 1
            and done.ready == done.started == done.processed == done.completed > self._processed
            and not self._trainer.should_stop
            and done.processed != loop.max_epochs
            and self._trainer.global_step != loop.max_steps
        ):
            self._fit.take_late()
            if self._is_exact():
                self._write()

    def _write(self, keep: Callable[[Callable[[Path], None]], None] | None = None) -> None:
        """All ranks say where their generators are; rank 0 writes.

        Args:
            keep: Keeps what is written, as `Resume.keep` does, which is the default.
        """
        trainer = self._trainer
        state: dict[str, Any] = {}
        mine = {"random": random_state(), "generators": generator_states(self._owners())}
        with kept_random():
            problem = problem_on(self._ranks, lambda: state.update(host.dumped(trainer)))
            ranks = self._ranks.gather(mine)
            if problem:
                self._resume.drop(f"it could not be saved: {problem}")
                return
            extra = {
                "ranks": ranks,
                "made_by": _versions(trainer),
                "metrics": _moved(trainer.callback_metrics, "cpu"),  # where it is read, there may be no such device
                "reloaded": trainer.fit_loop._last_train_dl_reload_epoch,
                "memory": self._fit.memory(),
                "should_stop": trainer.should_stop,  # before `min_epochs` it goes on all the same
                "settings": self._settings,
            }
            (keep or self._resume.keep)(lambda folder: _save(state, extra, folder / _FILE))
        self._processed = trainer.fit_loop.epoch_progress.current.processed

    def _size(self) -> int:
        """Bytes of the weights and of what the optimizers keep."""
        tensors: list[Any] = list(self._trainer.lightning_module.state_dict().values())
        for optimizer in self._trainer.optimizers:
            tensors += [one for state in optimizer.state.values() for one in state.values()]
        return sum(one.numel() * one.element_size() for one in tensors if isinstance(one, torch.Tensor))

    def _owners(self) -> list[object]:
        """What may hold generators of the training's own: loaders, datasets, samplers, the modules and callbacks."""
        trainer = self._trainer
        owners: list[object] = [trainer.lightning_module, trainer.datamodule, *trainer.callbacks]
        for loop in (trainer.fit_loop, trainer.fit_loop.epoch_loop.val_loop):
            combined = loop._combined_loader
            for loader in [] if combined is None else combined.flattened:
                owners += parts_of(loader)
        return owners

    def close(self) -> None:
        """Leave Lightning's objects as they were; may be called more than once."""
        self._resume.close()
        self._patches.undo()


def _moved(metrics: Mapping[str, Any], device: Any) -> dict[str, Any]:
    return {name: one.to(device) if isinstance(one, torch.Tensor) else one for name, one in metrics.items()}


def _has_dropout(module: Any) -> bool:
    return isinstance(module, torch.nn.RNNBase) and module.dropout > 0 and module.num_layers > 1


def _save(state: dict[str, Any], extra: dict[str, Any], file: Path) -> None:
    """Write a checkpoint: what is ours as bytes, so that torch can read the rest without running code."""
    torch.save({**state, _KEY: pickle.dumps(extra)}, file)


def _load(file: Path) -> dict[str, Any]:
    """What a checkpoint holds, read without running code where torch can; the journal has the digest of the file."""
    try:
        loaded: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:  # an object of the training's own
        loaded = torch.load(file, map_location="cpu", weights_only=False)
    loaded[_KEY] = pickle.loads(loaded[_KEY])  # noqa: S301 - our own file
    return loaded


def _versions(trainer: Any) -> str:
    name = next(cls.__module__.partition(".")[0] for cls in type(trainer).__mro__ if cls.__name__ == "Trainer")
    return f"{name} {sys.modules[name].__version__} and torch {torch.__version__}"


def _loops(loop: Any) -> Iterator[Any]:
    yield loop
    for inner in list(vars(loop).values()):
        if hasattr(inner, "_restarting"):
            yield from _loops(inner)
