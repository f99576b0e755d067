"""TuneCallback for PyTorch Lightning: tunes an existing project, in ``lightning.pytorch`` and ``pytorch_lightning``.

The callback only translates between a Trainer and a `TrialSession`; every rule lives in the core.

One class for two namespaces: ``lightning.pytorch`` and ``pytorch_lightning`` are two class trees. ``TuneCallback``
derives from the ``Callback`` of the one that is loaded, and gets that of the other one as a further base as soon as it
is imported.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import inspect
import math
import sys
from collections.abc import Callable, Collection
from multiprocessing.context import get_spawning_popen
from typing import TYPE_CHECKING, Any

from tunehook.adapter import Source, know_trial, put_once, when_imported
from tunehook.inject import Again, Injection, Told, check_thread, finds_ranks, keep, leave_if_stopped, trace_in_progress
from tunehook.session import TrialSession, check_alone, set_broadcast, surround
from tunehook.snapshot import SnapshotPlan
from tunehook.study import Study
from tunehook.trial import Budget, InjectionError, TrialError, injecting

_NAMESPACES = ("lightning.pytorch", "pytorch_lightning")

# Lightning spends 2 to 3 microseconds a batch on each of them that a callback has, also where it does nothing.
_BATCH_HOOKS = (
    "on_train_batch_start",
    "on_train_batch_end",
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
    "on_validation_batch_start",
    "on_validation_batch_end",
)


def _first_host() -> type:
    """The Callback of the namespace that is loaded, else of the first one that is installed, loaded now."""
    for name in sorted(_NAMESPACES, key=lambda one: one not in sys.modules):
        if name in sys.modules or importlib.util.find_spec(name.partition(".")[0]) is not None:
            host: type = importlib.import_module(name).Callback
            return host
    raise ImportError(
        "tunehook.integrations.lightning needs Lightning: pip install 'tunehook[lightning]' "
        "(or 'tunehook[pytorch-lightning]')"
    )


if TYPE_CHECKING:
    import optuna
    from lightning.pytorch import Callback, LightningModule, Trainer
else:
    Callback = _first_host()

from tunehook.integrations.lightning.calls import Sites, fit_objects, hear_all, hear_loaders  # noqa: E402 - needs Lightning
from tunehook.integrations.lightning.once import said_once  # noqa: E402 - as the others
from tunehook.integrations.lightning.resume import FitCheckpoints  # noqa: E402 - needs torch
from tunehook.integrations.lightning.slots import LightningSlots, confirm, slots_of  # noqa: E402 - needs torch


class TuneCallback(Callback):
    """Tunes the training that it is added to.

    The trial's values go into the calls that make the model, the datamodule or loaders, the trainer and the optimizers,
    exactly as if they had been typed in; each validation is reported; a stopping rule ends the fit in good order; the
    end is recorded with its reason. Under DDP rank 0 asks and decides, and all ranks follow.

    Args:
        source: Where the trial comes from. ``None`` (default): the trial that ``study.optimize`` works on, and nothing
            where there is none, so that the script still trains by itself. A `Study`: each fit asks for a trial; a
            script is run again then, with the trial known. An Optuna trial: its parameters, for people who have an
            Optuna objective, with ``@th.objective`` above it.
        metric: Name of the metric to report; with an Optuna trial only, where it is required.
        inject: Whether the parameters of an Optuna trial are injected. False reports and prunes only, for an objective
            that uses ``trial.params`` by itself. Defaults to True.
        snapshots: With an Optuna trial, which snapshots of the model's parameters are taken; see `Study`, which has its
            own. By default they are those of ``True``; ``False`` is for none.

    Raises:
        InjectionError: In the fit, before the first step: a value cannot be injected exactly, such as one of an object
            that was made before the trial was known. For a constructor argument that nobody reads: after the first
            batch.
        TrialError: In the fit: the metric is not logged in the first epoch, or nothing is trained.
        optuna.TrialPruned: At the end of a fit with an Optuna trial that is pruned.

    Example:
        >>> trainer = Trainer(max_epochs=10, callbacks=[TuneCallback()])
    """

    def __init__(
        self,
        source: Study | optuna.Trial | None = None,
        *,
        metric: str | None = None,
        inject: bool = True,
        snapshots: SnapshotPlan | bool | None = None,
    ) -> None:
        self.source = Source(source, metric=metric, inject=inject, snapshots=snapshots)
        self.sites: Sites | None = None  # of the fit that has been called
        self._session: TrialSession | None = None
        self._fit: _Fit | None = None

    # ------------------------------------------------------------------ life of a fit

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Ask (rank 0), agree (all ranks) and inject."""
        if stage != "fit":
            return
        self._fit = None
        _check_alone(trainer)
        if trainer.is_global_zero and getattr(trainer.strategy.launcher, "_start_method", "") == "fork":
            self.source.take_over(self._session)
        self._session = self._agree_on_trial(trainer)
        if self._session is not None and trainer.world_size > 1 and finds_ranks():
            raise Told(self._session.trial)
        self._skip_batch_hooks(but={"on_train_batch_end"} if self._session is not None else set())
        if self._session is not None:
            session = self._session
            _together(trainer, lambda: self._begin(trainer, pl_module, session))
            fit: Any = self._fit
            fit.checkpoints = FitCheckpoints(trainer, session, fit)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Read back, now that the optimizers exist, and open the recorders."""
        if self._fit is not None:
            _together(trainer, self._fit.check_built)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Read back once more, after a checkpoint was restored and every other callback had its say."""
        if self._fit is not None:
            _together(trainer, self._fit.check_started)
            self._fit.follow()

    def on_train_batch_end(self, trainer: Trainer, *_args: Any, **_kwargs: Any) -> None:
        """After the first batch: was every injected argument used? After each one, where snapshots count steps."""
        if self._fit is None:
            return
        if not self._fit.is_checked:
            self._fit.is_checked = True
            if not self._fit.session.takes_snapshots:
                self._skip_batch_hooks()
            _together(trainer, self._fit.slots.check_used)
        if trainer.is_last_batch or self._fit.session.counts_steps:
            self._fit.take_batch()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remember the metrics, so that those of this validation can be told from older ones."""
        if self._fit is not None and not trainer.sanity_checking:
            self._fit.begin_validation()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Report the metrics of this validation."""
        if self._fit is not None and not trainer.sanity_checking:
            self._fit.take_validation()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take what the module logged in its own ``on_train_epoch_end``, which runs after ours."""
        if self._fit is None:
            return
        self._fit.take_late()
        if self._fit.session.decision.stop:
            raise StopIteration  # the fit loop's own way to end before an epoch begins
        self._fit.begin_epoch()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Report the metrics of this epoch that no validation reported."""
        if self._fit is not None:
            self._fit.epochs += 1
            if self._fit.epochs == 1:
                _together(trainer, self._fit.slots.check_stepped)
            self._fit.take_epoch()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take what was logged last."""
        if self._fit is not None:
            self._fit.take_late()
            self._fit.snapshot(is_end=True)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Tell a fit that trained nothing."""
        if self._fit is None:
            return
        self._fit.complete()
        if self.source.may_prune:
            # TrialPruned is raised from the teardown, so ours comes last. A new list: Lightning iterates over this one.
            host: Any = trainer
            host.callbacks = [*(other for other in host.callbacks if other is not self), self]

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """End the trial, where no `Study.optimize` of this process does."""
        fit = self._fit
        if stage != "fit" or fit is None:
            return
        fit.finish()
        # A learning-rate search is a fit of its own that is torn down but not completed: the trial goes on.
        if fit.is_complete:
            self.source.end(fit.session)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Tell what ended the training."""
        if self._fit is not None:
            self._fit.finish(exception)
        if self._session is not None and not isinstance(exception, Again):
            self.source.fail(self._session, exception)

    def _begin(self, trainer: Trainer, pl_module: LightningModule, session: TrialSession) -> None:
        with injecting([*session.trial.params]):
            self._fit = _Fit(trainer, session, LightningSlots(trainer, pl_module, self.sites))
        self._fit.begin()

    def _skip_batch_hooks(self, *, but: Collection[str] = ()) -> None:
        """Take the hooks that have nothing to do out of Lightning's way; it passes over what is not callable."""
        idle = {TuneCallback, *TuneCallback.__bases__}
        for name in _BATCH_HOOKS:
            owner = next(cls for cls in type(self).__mro__ if name in vars(cls))
            if owner in idle and name not in but:
                vars(self)[name] = None
            else:
                vars(self).pop(name, None)

    # ------------------------------------------------------------------ the trial

    def _agree_on_trial(self, trainer: Trainer) -> TrialSession | None:
        """Rank 0 asks; the others get the trial, or the reason why there is none."""
        if trainer.world_size == 1:
            set_broadcast(None)
            if not self.source.asks:
                check_alone()
            return self.source.claim(self._session)
        set_broadcast(trainer.strategy.broadcast)
        session: TrialSession | None = None
        error: Exception | None = None
        if trainer.is_global_zero:
            try:
                session = self.source.claim(self._session)
            except Exception as raised:  # noqa: BLE001 - told to the other ranks first, then raised
                error = raised
        asked = None if session is None else session.trial
        trial, text = trainer.strategy.broadcast((asked, None if error is None else f"rank 0: {error}"))
        if text is not None:
            raise error or TrialError(text)
        return session if session is not None or trial is None else TrialSession(trial)

    # ------------------------------------------------------------------ pickling

    def __getstate__(self) -> dict[str, Any]:
        is_spawning = get_spawning_popen() is not None
        if is_spawning:  # a strategy starts its processes: this one asks, rank 0 there trains
            self._session = self.source.claim(self._session)
        return {**self.__dict__, "sites": self.sites if is_spawning else None, "_fit": None}


class _Fit:
    """One fit of a trial: what is injected where, and which metrics were seen.

    Args:
        trainer: The Trainer.
        session: The session of the trial; one that only follows, on ranks above 0.
        slots: The slots of the user's objects.
    """

    def __init__(self, trainer: Trainer, session: TrialSession, slots: LightningSlots) -> None:
        self.session, self.slots = session, slots
        self.epochs = 0
        self.is_checked = False
        self.is_complete = False
        self.checkpoints: FitCheckpoints | None = None
        self._trainer = trainer
        self._injection: Injection | None = None
        self._epoch = 0
        self._before_epoch: dict[str, Any] = {}
        self._before_validation: dict[str, Any] = {}
        self._taken: set[str] = set()
        self._names: dict[str, None] = {}
        self._has_validated = False
        self._measured_by_validation = False
        self._has_started = False

    def begin(self) -> None:
        """Inject; optimizers and schedulers get their values as they are made."""
        self._injection = self.session.begin(
            self.slots.slots, model=self._trainer.lightning_module, notes=self.slots.notes, find=self.slots.find,
            left_out=self.slots.left_out(),
        )  # fmt: skip
        self.slots.open(self._injection)

    def check_built(self) -> None:
        """Check what was made, and open the recorders."""
        with injecting([*self.session.trial.params]):
            self.slots.close()
            self.slots.check_made(self._injection)
            self._read_back("while the model was set up")
        self.session.ready(loggers=self._trainer.loggers)

    def check_started(self) -> None:
        """Check that nothing was set back before the first step."""
        self._has_started = True
        with injecting([*self.session.trial.params]):
            self.slots.check_loaders()
            self.slots.count_steps()
            if self.checkpoints is None or not self.checkpoints.is_restored:  # else by what had been injected before
                self.slots.check_restored(self.session.trial.params.values())
            self._read_back("before the first step")
        self.session.budget = _budget(self._trainer)
        if self.session.decision.stop:  # a later fit of a trial that was stopped
            self._stop()
        if self.checkpoints is not None:
            self.checkpoints.start()
        self.snapshot(is_start=True)  # here, since all ranks hear of a pattern that fits no parameter

    def memory(self) -> dict[str, Any]:
        """What a later attempt has to know to go on."""
        return {"has_validated": self._has_validated, "measured_by_validation": self._measured_by_validation}

    def remember(self, memory: dict[str, Any]) -> None:
        """Go on with what an earlier attempt knew."""
        self._has_validated = memory["has_validated"]
        self._measured_by_validation = memory["measured_by_validation"]

    def _read_back(self, when: str) -> None:
        if self._injection is not None:
            self._injection.read_back(when)

    def begin_epoch(self) -> None:
        """Take the metrics that exist now as those of before."""
        self._epoch = self._trainer.current_epoch  # late metrics are taken when the next epoch has begun
        self._before_epoch = dict(self._trainer.callback_metrics)
        self._taken = set()

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
        if self.epochs == 0:
            return
        self.take_epoch()
        is_due = self._has_validated or not self._trainer.enable_validation
        if is_due:
            self.session.check_measured(self._names)

    def _fresh(self, before: dict[str, Any]) -> dict[str, Any]:
        """The metrics that were computed since; ``callback_metrics`` keeps old ones, whose objects stay the same."""
        metrics = self._trainer.callback_metrics
        self._names.update(dict.fromkeys(metrics))
        return {name: value for name, value in metrics.items() if before.get(name) is not value}

    def _take(self, fresh: dict[str, Any], *, may_measure: bool) -> None:
        self._taken.update(fresh)
        measured = may_measure and self.session.trial.metric in fresh
        if fresh:
            fresh.update(epoch=self._epoch, global_step=self._trainer.global_step)
        _together(self._trainer, functools.partial(self._hand_over, fresh, measured=measured))
        self.follow()

    def follow(self) -> None:
        """Let all ranks do what rank 0 was answered."""
        if self._trainer.world_size > 1:
            self.session.follow(*self._trainer.strategy.broadcast((self.session.step, self.session.decision)))
        if self.session.decision.stop:
            self._stop()

    def _hand_over(self, metrics: dict[str, Any], *, measured: bool) -> None:
        if not self._trainer.is_global_zero:
            return
        if measured:
            self.session.report(self.session.step + 1, metrics)
        else:
            self.session.log(metrics)

    def snapshot(self, *, is_start: bool = False, is_epoch_end: bool = False, is_end: bool = False) -> None:
        """Take a snapshot of the parameters where one is due; on rank 0 only, with no word to the others."""
        collect = functools.partial(_parameters, self._trainer, has_gradients=not is_start)
        self.session.snapshot(self._trainer.global_step, collect, is_epoch_end=is_epoch_end, is_end=is_end)

    def take_batch(self) -> None:
        """Take a snapshot after a batch. The last one of an epoch, for Lightning drops the gradients to validate."""
        trainer = self._trainer
        is_last = trainer.is_last_batch
        is_end = trainer.global_step == trainer.max_steps or (
            is_last and trainer.current_epoch + 1 == trainer.max_epochs
        )
        self.snapshot(is_epoch_end=is_last, is_end=is_end)

    def complete(self) -> None:
        """The fit ended in good order."""
        if not self._has_started:
            raise TrialError(
                "The fit ended without a training step, so there is nothing to tune: the trainer's limit "
                f"(max_epochs={self._trainer.max_epochs}, max_steps={self._trainer.max_steps}) was reached before, "
                "or there were no batches.\n  Make a new Trainer for each trial, inside the training function."
            )
        self.is_complete = True
        if self.session.wants_checkpoint and self._trainer.is_global_zero:
            self.session.note_checkpoint(_checkpoint(self._trainer, self.session.trial.metric))

    def finish(self, exception: BaseException | None = None) -> None:
        """Undo everything that was for this fit only; may be called more than once."""
        if self.checkpoints is not None:
            if isinstance(exception, KeyboardInterrupt | SystemExit):  # Lightning's own SIGTERM is one too
                self.checkpoints.save_last()
            self.checkpoints.close()
        self.slots.finish()

    def _stop(self) -> None:
        """End the fit in good order; Lightning would go on to ``min_epochs`` and ``min_steps`` first."""
        self._trainer.fit_loop.min_epochs = None
        self._trainer.fit_loop.epoch_loop.min_steps = None
        self._trainer.should_stop = True


def _join(namespace: str) -> None:
    """Serve a namespace: be one of its callbacks, for which its Trainers look, and hear of what it makes."""
    host = sys.modules[namespace].Callback
    if host not in TuneCallback.__bases__:
        TuneCallback.__bases__ += (host,)
    put_once(sys.modules[namespace].Trainer, "fit", _fit_of_a_trial)
    if trace_in_progress() is not None:  # a training function has imported it
        hear_all()


def _fit_of_a_trial(fit: Any) -> Any:
    """A ``Trainer.fit`` that begins once the values are where they belong, and not where the trial was stopped."""
    signature = inspect.signature(fit)

    def begin(self: Any, *args: Any, **kwargs: Any) -> Any:
        ours = next((one for one in self.callbacks if isinstance(one, TuneCallback)), None)
        module, *given = fit_objects(signature, (self, *args), kwargs)
        if ours is None or module is None:
            return fit(self, *args, **kwargs)
        know_trial(ours.source, lambda: slots_of(self, module, *given)[1:])
        leave_if_stopped()
        check_thread()
        if ours.source.has_trial:
            ours.sites = confirm(self, module, *given)
        try:
            return fit(self, *args, **kwargs)
        finally:
            ours.sites = None
            if trace_in_progress() is not None:
                hear_loaders()

    return begin


def _hearing() -> Callable[[], None]:
    """Hear of what a training function makes, and again when it is called once more."""
    hear_all()
    return hear_all


keep(_hearing)
surround(said_once)
for _namespace in _NAMESPACES:  # ``lightning.pytorch`` and ``pytorch_lightning`` are two trees of classes
    when_imported(_namespace, functools.partial(_join, _namespace))


def _together(trainer: Trainer, action: Callable[[], None]) -> None:
    """Do something on all ranks; where it fails on one, it fails on all, with that one's message."""
    error: Exception | None = None
    try:
        action()
    except Exception as raised:
        if trainer.world_size == 1:
            raise
        error = raised
    if trainer.world_size > 1:
        texts = _gather(None if error is None else str(error), trainer.world_size)
        if error is not None:
            raise error
        for rank, text in enumerate(texts):
            if text is not None:
                raise InjectionError(f"rank {rank}: {text}")


def _parameters(trainer: Trainer, *, has_gradients: bool) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """The parameters by name, and the gradients of the last optimizer step as they are: clipped, and not scaled."""
    named = dict(trainer.lightning_module.named_parameters(remove_duplicate=False))
    scaler = getattr(trainer.precision_plugin, "scaler", None)
    if scaler is not None:
        # A fused optimizer unscales within its step and leaves them scaled; of a step that is not made yet, all are.
        has_gradients = has_gradients and not any(
            getattr(one, "_step_supports_amp_scaling", False) for one in trainer.optimizers
        )
    if not has_gradients or trainer.fit_loop.epoch_loop._should_accumulate():  # noqa: SLF001 - no public way
        return named, None
    return named, {name: parameter.grad for name, parameter in named.items()}


def _gather(text: str | None, ranks: int) -> list[str | None]:
    """What each rank says, by rank."""
    from torch import distributed

    if not (distributed.is_available() and distributed.is_initialized()):
        return [text]
    texts: list[str | None] = [None] * ranks
    distributed.all_gather_object(texts, text)
    return texts


def _checkpoint(trainer: Any, metric: str) -> str | None:
    """The best checkpoint that the fit has written, else the last; of several, by the tuned metric."""
    callbacks = sorted(trainer.checkpoint_callbacks, key=lambda one: getattr(one, "monitor", None) != metric)
    paths = [getattr(one, name, "") for one in callbacks for name in ("best_model_path", "last_model_path")]
    return next((path for path in paths if path), None)


def _check_alone(trainer: Any) -> None:
    if sum(isinstance(other, TuneCallback) for other in trainer.callbacks) > 1:
        raise TrialError("The Trainer has more than one TuneCallback; one fit is one trial.\n  Keep one of them.")


def _budget(trainer: Trainer) -> Budget:
    """How long this fit trains, and how often it validates."""
    batches = float(trainer.num_training_batches)
    epochs = float(trainer.max_epochs) if trainer.max_epochs is not None and trainer.max_epochs > 0 else math.inf
    if trainer.max_steps > 0 and math.isfinite(batches) and batches > 0:
        epochs = min(epochs, math.ceil(trainer.max_steps * trainer.accumulate_grad_batches / batches))
    return Budget(None if math.isinf(epochs) else int(epochs), _validations_per_epoch(trainer, batches))


def _validations_per_epoch(trainer: Trainer, batches: float) -> float:
    every = float(trainer.val_check_batch or math.inf)
    if not trainer.enable_validation or not math.isfinite(every) or not math.isfinite(batches):
        return 1.0
    if trainer.check_val_every_n_epoch is None:  # validation counts batches over the epochs
        return batches / every
    return max(1, batches // every) / trainer.check_val_every_n_epoch
