"""One fit of a trial in Lightning: what is checked when, which metrics are new, and what a Trainer answers."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import distributed

from tunehook.adapter import FitCore, hand_back, together
from tunehook.integrations.lightning import host, models
from tunehook.integrations.lightning.resume import FitCheckpoints
from tunehook.integrations.lightning.slots import LightningSlots
from tunehook.session import Held, Kept, Part, TrialSession
from tunehook.snapshot import Arrays
from tunehook.trial import Budget, injecting


class TrainerRanks:
    """The ranks of a Trainer.

    Args:
        trainer: The Trainer.
    """

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer

    @property
    def count(self) -> int:
        """How many they are."""
        return int(self._trainer.world_size)

    @property
    def number(self) -> int:
        """Which one this is."""
        return int(self._trainer.global_rank)

    def agree(self, value: Any) -> Any:
        """What rank 0 says."""
        if self.count == 1:
            return value
        host.end_group_at_exit()
        return self._trainer.strategy.broadcast(value)

    def gather(self, value: Any) -> list[Any]:
        """What each rank says, by rank."""
        if self.count == 1 or not (distributed.is_available() and distributed.is_initialized()):
            return [value]
        values: list[Any] = [None] * self.count
        distributed.all_gather_object(values, value)
        return values


class TrainerHost:
    """What a Trainer answers of its fit.

    Args:
        trainer: The Trainer.
    """

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer

    @property
    def model(self) -> object:
        """The LightningModule."""
        module: object = self._trainer.lightning_module
        return module

    @property
    def steps(self) -> int:
        """Number of optimizer steps that were made."""
        return int(self._trainer.global_step)

    def budget(self, metric: str) -> Budget:
        """How long this fit trains, and how often it validates."""
        trainer = self._trainer
        batches = float(trainer.num_training_batches)
        epochs = float(trainer.max_epochs) if trainer.max_epochs is not None and trainer.max_epochs > 0 else math.inf
        if trainer.max_steps > 0 and math.isfinite(batches) and batches > 0:
            epochs = min(epochs, math.ceil(trainer.max_steps * trainer.accumulate_grad_batches / batches))
        return Budget(None if math.isinf(epochs) else int(epochs), _validations_per_epoch(trainer, batches))

    def parameters(self, *, has_gradients: bool) -> Arrays:
        """The parameters, and the gradients of the last optimizer step as they are: clipped, and not scaled."""
        trainer = self._trainer
        named = dict(trainer.lightning_module.named_parameters(remove_duplicate=False))
        if getattr(trainer.precision_plugin, "scaler", None) is not None:
            # A fused optimizer unscales within its step and leaves them scaled; of a step that is not made, all are.
            has_gradients = has_gradients and not any(map(host.unscales_itself, trainer.optimizers))
        if not has_gradients or host.accumulates(trainer):
            return named, None
        return named, {name: parameter.grad for name, parameter in named.items()}

    def parts(self) -> Iterator[Part]:
        """Its parameters, and its modules with the buffers that they save, each with a checksum of its numbers.

        A buffer alone does not stay the same tensor: a device has its own, and some layers put a new one in its place.
        """
        module = self._trainer.lightning_module
        for name, one in module.named_parameters():
            with contextlib.suppress(Exception):  # one that has no numbers yet, as in a lazy layer
                yield name, one, _checksum(one)
        for name, one in module.named_modules():
            with contextlib.suppress(Exception):
                sums = {key: _checksum(buffer) for key, buffer in host.saved_buffers(one).items()}
                if sums:
                    yield f"{name}.{next(iter(sums))}".lstrip("."), one, sums

    def kept_model(self, metric: str) -> str | None:
        """The best checkpoint that the fit has written, else the last; of several, by the tuned metric."""
        ordered = sorted(self._trainer.checkpoint_callbacks, key=lambda one: getattr(one, "monitor", None) != metric)
        paths = [getattr(one, name, "") for one in ordered for name in ("best_model_path", "last_model_path")]
        return next((path for path in paths if path), None)

    def hold_model(self) -> Held:
        """The model as Lightning would save it now."""
        return models.hold(self._trainer)

    def load_model(self, kept: Kept) -> None:
        """Put kept weights into the LightningModule."""
        models.load(self._trainer, kept)

    def why_untrained(self) -> str:
        """A limit, most often that of a Trainer of an earlier trial."""
        return (
            f"the trainer's limit (max_epochs={self._trainer.max_epochs}, max_steps={self._trainer.max_steps}) was "
            "reached before, there were no batches, or something set should_stop before the first epoch.\n"
            "  Make a new Trainer for each trial, inside the training function."
        )

    def stop(self) -> None:
        """End the fit in good order; Lightning would go on to ``min_epochs`` and ``min_steps`` first."""
        self._trainer.fit_loop.min_epochs = None
        self._trainer.fit_loop.epoch_loop.min_steps = None
        self._trainer.should_stop = True


def _checksum(tensor: Any) -> int:
    """A sum of its numbers' bits, which no change of the numbers leaves as it was, as one sum of weights may be."""
    kinds = {1: torch.int8, 2: torch.int16, 4: torch.int32}
    return int(tensor.detach().view(kinds.get(tensor.element_size(), torch.int64)).sum().item())


def _validations_per_epoch(trainer: Any, batches: float) -> float:
    every = float(trainer.val_check_batch or math.inf)
    if not trainer.enable_validation or not math.isfinite(every) or not math.isfinite(batches):
        return 1.0
    if trainer.check_val_every_n_epoch is None:  # validation counts batches over the epochs
        return batches / every
    return max(1.0, batches // every) / int(trainer.check_val_every_n_epoch)


class LightningFit:
    """One fit of a trial. The hooks of the callback call the methods, in the order in which they stand here.

    Args:
        trainer: The Trainer.
        session: The session of the trial; one that only follows, on ranks above 0.
        slots: The slots of the user's objects.
    """

    def __init__(self, trainer: Any, session: TrialSession, slots: LightningSlots) -> None:
        self.session = session
        self.ranks = TrainerRanks(trainer)
        self._host = TrainerHost(trainer)
        self.core = FitCore(session, slots, self._host, self.ranks)
        self.checkpoints: FitCheckpoints | None = None
        self._slots, self._trainer = slots, trainer
        self.is_checked = False
        self._epoch = 0
        self._before_epoch: dict[str, Any] = {}
        self._before_validation: dict[str, Any] = {}
        self._taken: set[str] = set()
        self._has_validated = False
        self._measured_by_validation = False

    def check_built(self) -> None:
        """Check what was made, and open the recorders."""
        with injecting([*self.session.trial.params]):
            self._slots.close()
            self._slots.check_made(self.core.injection)
        self.core.read_back("while the model was set up")
        self.core.check_live()
        hand_back(self._host)
        self.session.ready(loggers=self._trainer.loggers)

    def check_started(self) -> None:
        """Check that nothing was set back before the first step."""
        with injecting([*self.session.trial.params]):
            self._slots.check_loaders()
            self._slots.count_steps()
            if self.checkpoints is None or not self.checkpoints.is_restored:  # else by what had been injected before
                self._slots.check_restored(self.session.trial.params.values())
        self.core.read_back("before the first step")
        self.core.start()
        if self.checkpoints is not None:
            self.checkpoints.start()
        self.core.snapshot(is_start=True)  # here, since all ranks hear of a pattern that fits no parameter

    def begin_epoch(self) -> None:
        """Take the metrics that exist now as those of before."""
        self._epoch = self._trainer.current_epoch  # late metrics are taken when the next epoch has begun
        self._before_epoch = dict(self._trainer.callback_metrics)
        self._taken = set()

    def take_batch(self) -> None:
        """Check the first batch, and take a snapshot after one where a study wants it.

        After the last one of an epoch in any case, for Lightning drops the gradients to validate.
        """
        if not self.is_checked:
            self.is_checked = True
            together(self.ranks, self._slots.check_used)
        trainer, is_last = self._trainer, self._trainer.is_last_batch
        if is_last or self.session.counts_steps:
            is_end = trainer.global_step == trainer.max_steps or (
                is_last and trainer.current_epoch + 1 == trainer.max_epochs
            )
            self.core.snapshot(is_epoch_end=is_last, is_end=is_end)

    def begin_validation(self) -> None:
        """Take the metrics that exist now as none of this validation's."""
        self._before_validation = dict(self._trainer.callback_metrics)

    def take_validation(self) -> None:
        """Report the metrics of this validation; a metric that a validation measures is reported there only."""
        self._has_validated = True
        fresh = self._fresh(self._before_validation)
        self._measured_by_validation |= self.session.trial.metric in fresh
        self._take(fresh, may_measure=True)

    def take_epoch(self) -> None:
        """Report the metrics of this epoch that were not taken yet, in order of our hooks: validation, end, late."""
        fresh = self._fresh(self._before_epoch)
        fresh = {name: value for name, value in fresh.items() if name not in self._taken}
        self._take(fresh, may_measure=not self._measured_by_validation)

    def take_late(self) -> None:
        """Take what was logged after our end of the epoch; by now the tuned metric must have been measured."""
        if self.core.epochs == 0:
            return
        self.take_epoch()
        if self._has_validated or not self._trainer.enable_validation:
            self.core.check_measured()

    def _fresh(self, before: dict[str, Any]) -> dict[str, Any]:
        """The metrics that were computed since; ``callback_metrics`` keeps old ones, whose objects stay the same."""
        metrics = self._trainer.callback_metrics
        self.core.see(metrics)
        return {name: value for name, value in metrics.items() if before.get(name) is not value}

    def _take(self, fresh: dict[str, Any], *, may_measure: bool) -> None:
        self._taken.update(fresh)
        self.core.take(fresh, may_measure=may_measure, epoch=self._epoch, global_step=self._trainer.global_step)

    def finish(self, exception: BaseException | None = None) -> None:
        """Undo everything that was for this fit only; may be called more than once."""
        try:
            # Lightning's own SIGTERM is a SystemExit too.
            if self.checkpoints is not None and isinstance(exception, KeyboardInterrupt | SystemExit):
                self.checkpoints.save_last()
        finally:
            if self.checkpoints is not None:
                self.checkpoints.close()
            self._slots.finish()

    # ------------------------------------------------------------------ for a later attempt

    def memory(self) -> dict[str, Any]:
        """What a later attempt has to know to go on."""
        return {"has_validated": self._has_validated, "measured_by_validation": self._measured_by_validation}

    def remember(self, memory: dict[str, Any]) -> None:
        """Go on with what an earlier attempt knew."""
        self._has_validated = memory["has_validated"]
        self._measured_by_validation = memory["measured_by_validation"]
