"""TuneCallback for PyTorch Lightning: tunes an existing project, in ``lightning.pytorch`` and ``pytorch_lightning``.

The callback only says when: what is done then is in `LightningFit`, and every rule in the core.

One class for two namespaces: ``lightning.pytorch`` and ``pytorch_lightning`` are two class trees. ``TuneCallback``
derives from the ``Callback`` of the one that is loaded, and gets that of the other one as a further base as soon as it
is imported.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Collection
from multiprocessing.context import get_spawning_popen
from typing import TYPE_CHECKING, Any

from tunehook.adapter import Source, claim_session, know_trial, put_once, together, when_imported
from tunehook.inject import Again, Told, check_thread, do_ahead, finds_ranks, keep, leave_if_stopped, trace_in_progress
from tunehook.integrations.lightning.namespaces import NAMESPACES, first_callback, lines_said_once
from tunehook.session import TrialSession, check_ranks, surround, wanted
from tunehook.snapshot import SnapshotPlan
from tunehook.study import Study
from tunehook.trial import TrialError, injecting

# Lightning spends 3 to 6 microseconds a batch on each of them that a callback has, also where it does nothing: on all,
# 2 to 3 % of a step of a millisecond.
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


if TYPE_CHECKING:
    import optuna
    from lightning.pytorch import Callback, LightningModule, Trainer
else:
    Callback = first_callback()

from tunehook.integrations.lightning import host  # noqa: E402 - needs torch
from tunehook.integrations.lightning.calls import Sites, fit_objects, hear_all, hear_loaders  # noqa: E402 - needs Lightning
from tunehook.integrations.lightning.constructors import ROOTS, constructor_keys  # noqa: E402 - needs torch
from tunehook.integrations.lightning.fit import LightningFit, TrainerRanks  # noqa: E402 - as the others
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
        self._fit: LightningFit | None = None

    # ------------------------------------------------------------------ life of a fit

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Ask (rank 0), agree (all ranks) and inject."""
        if stage != "fit":
            return
        self._fit = None
        _check_alone(trainer)
        if trainer.is_global_zero and host.forks(trainer):
            self.source.take_over(self._session)
        self._session = session = claim_session(self.source, self._session, TrainerRanks(trainer))
        if session is not None and trainer.world_size > 1 and finds_ranks():
            raise Told(session.trial)
        self._skip_batch_hooks(but={"on_train_batch_end"} if session is not None else set())
        if session is not None:
            together(TrainerRanks(trainer), lambda: self._begin(trainer, pl_module, session))
            fit: Any = self._fit
            fit.checkpoints = FitCheckpoints(trainer, session, fit)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Read back, now that the optimizers exist, and open the recorders."""
        if self._fit is not None:
            together(self._fit.ranks, self._fit.check_built)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Read back once more, after a checkpoint was restored and every other callback had its say."""
        if self._fit is not None:
            together(self._fit.ranks, self._fit.check_started)
            self._fit.core.follow()

    def on_train_batch_end(self, trainer: Trainer, *_args: Any, **_kwargs: Any) -> None:
        """After the first batch: was every injected argument used? After each one, where snapshots count steps."""
        fit = self._fit
        if fit is not None:
            is_first = not fit.is_checked
            fit.take_batch()
            if is_first and not fit.session.takes_snapshots:
                self._skip_batch_hooks()

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
            self._fit.core.end_epoch()
            self._fit.take_epoch()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take what was logged last."""
        if self._fit is not None:
            self._fit.take_late()
            self._fit.core.snapshot(is_end=True)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Tell a fit that trained nothing."""
        if self._fit is None:
            return
        self._fit.core.complete()
        if self.source.may_prune:
            # TrialPruned is raised from the teardown, so ours comes last. A new list: Lightning iterates over this one.
            ours: Any = trainer
            ours.callbacks = [*(other for other in ours.callbacks if other is not self), self]

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """End the trial, where no `Study.optimize` of this process does."""
        fit = self._fit
        if stage != "fit" or fit is None:
            return
        fit.finish()
        # A learning-rate search is a fit of its own that is torn down but not completed: the trial goes on.
        if fit.core.is_complete:
            self.source.end(fit.session)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Tell what ended the training."""
        if self._fit is not None:
            self._fit.finish(exception)
        if self._session is not None and not isinstance(exception, Again):
            self.source.fail(self._session, exception)

    def _begin(self, trainer: Trainer, pl_module: LightningModule, session: TrialSession) -> None:
        with injecting([*session.trial.params]):
            self._fit = LightningFit(trainer, session, LightningSlots(trainer, pl_module, self.sites))
        self._fit.core.begin()

    def _skip_batch_hooks(self, *, but: Collection[str] = ()) -> None:
        """Take the hooks that have nothing to do out of Lightning's way; it passes over what is not callable."""
        idle = {TuneCallback, *TuneCallback.__bases__}
        for name in _BATCH_HOOKS:
            owner = next(cls for cls in type(self).__mro__ if name in vars(cls))
            if owner in idle and name not in but:
                vars(self)[name] = None
            else:
                vars(self).pop(name, None)

    # ------------------------------------------------------------------ pickling

    def __getstate__(self) -> dict[str, Any]:
        is_spawning = get_spawning_popen() is not None
        if is_spawning:  # a strategy starts its processes: this one asks, rank 0 there trains
            self._session = self.source.claim(self._session)
        return {**self.__dict__, "sites": self.sites if is_spawning else None, "_fit": None}


def _join(namespace: str) -> None:
    """Serve a namespace: be one of its callbacks, for which its Trainers look, and hear of what it makes."""
    base = sys.modules[namespace].Callback
    if base not in TuneCallback.__bases__:
        TuneCallback.__bases__ += (base,)
    put_once(sys.modules[namespace].Trainer, "fit", _fit_of_a_trial)
    host.around_loader_hooks(namespace, _hear_loaders)
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
        check_ranks(self.num_devices * self.num_nodes)  # they are started below
        if wanted() is not None:  # called for the model: nothing is trained, logged or saved
            self.loggers, self.callbacks = [], [ours]
        if ours.source.has_trial or trace_in_progress() is not None:  # ranks above 0 trace without a session
            ours.sites = confirm(self, module, *given)
        try:
            return fit(self, *args, **kwargs)
        finally:
            ours.sites = None

    return begin


def _hear_loaders() -> None:
    if trace_in_progress() is not None:
        hear_loaders()


def _hearing() -> Callable[[], None]:
    """Hear of what a training function makes, and again when it is called once more."""
    hear_all()
    return hear_all


def _prepare() -> None:
    """Do what the first training of a process does, once for those that are forked from this one."""
    host.load_ahead()
    hear_all()
    for role in ROOTS:
        constructor_keys(role)


keep(_hearing)
do_ahead(_prepare)
surround(lines_said_once)
for _namespace in NAMESPACES:
    when_imported(_namespace, functools.partial(_join, _namespace))


def _check_alone(trainer: Any) -> None:
    if sum(isinstance(other, TuneCallback) for other in trainer.callbacks) > 1:
        raise TrialError("The Trainer has more than one TuneCallback; one fit is one trial.\n  Keep one of them.")
