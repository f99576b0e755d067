"""TuneCallback for Keras 3: tunes an existing project, on torch, TensorFlow and JAX.

The callback only translates between ``fit`` and a `TrialSession`; every rule lives in the core. Nothing here imports a
backend.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

try:
    import keras
except ImportError as error:
    if error.name != "keras":  # a backend that is not installed is told by Keras itself
        raise
    raise ModuleNotFoundError(
        "tunehook.integrations.keras needs Keras 3: pip install 'tunehook[keras]', and a backend: torch, tensorflow "
        "or jax",
        name="keras",
    ) from error

from tunehook.adapter import Source, know_trial, put_once
from tunehook.inject import Again, Find, Injection, Slot, check_thread, leave_if_stopped, trace_in_progress
from tunehook.integrations.keras import record
from tunehook.integrations.keras.calls import compile_with_values, watch
from tunehook.integrations.keras.places import flat
from tunehook.integrations.keras.resume import FitCheckpoints
from tunehook.integrations.keras.slots import KerasSlots
from tunehook.session import TrialSession, active, check_alone, sigterm_raised, surround
from tunehook.snapshot import SnapshotPlan
from tunehook.study import Study
from tunehook.system import is_terminal
from tunehook.trial import Budget, InjectionError, TrialError, injecting

if TYPE_CHECKING:
    import optuna


_first_names: dict[str, int] | None = None  # what Keras had counted when the first trial of this process began


class TuneCallback(keras.callbacks.Callback):  # type: ignore[misc] # Keras has no types
    """Tunes the training that it is added to.

    The trial's values go into the calls that make the model, its layers and its optimizer, and into the arguments of
    ``fit``, exactly as if they had been typed in; each epoch is reported; a stopping rule ends the fit in good order;
    the trial is recorded with how it ended: an exception, Ctrl-C or SIGTERM, too.

    Args:
        source: Where the trial comes from. ``None`` (default): the trial that ``study.optimize`` works on, and nothing
            where there is none, so that the script still trains by itself. A `Study`: each fit asks for a trial; where
            a value belongs into a call that came before, the script is run again with it, and ends then. An Optuna
            trial: its parameters, for an objective with ``@th.objective`` above it. Where the trial is known in ``fit``
            only, as in a notebook, that takes arguments of ``fit`` and settings of the optimizer; others are errors.
        metric: Name of the metric to report; with an Optuna trial only, where it is required.
        inject: Whether the parameters of an Optuna trial are injected. False reports and prunes only, for an objective
            that uses ``trial.params`` by itself. Defaults to True.
        snapshots: With an Optuna trial, which snapshots of the model's parameters are taken; see `Study`, which has its
            own. By default they are those of ``True``; ``False`` is for none.

    Raises:
        InjectionError: In ``fit``, before the first step: a value cannot be injected exactly, or nobody uses it.
        TrialError: In ``fit``: the metric is not logged in the first epoch, or nothing is trained.
        SystemExit: In ``fit``: the script was run again, with a trial of the study.
        optuna.TrialPruned: At the end of a fit with an Optuna trial that is pruned.

    Example:
        >>> model.fit(x, y, epochs=10, validation_data=(x_val, y_val), callbacks=[TuneCallback()])
    """

    leads_fit = True  # how a call of fit finds it
    async_safe = True  # it reads nothing after a batch, so batches may be dispatched ahead

    def __init__(
        self,
        source: Study | optuna.Trial | None = None,
        *,
        metric: str | None = None,
        inject: bool = True,
        snapshots: SnapshotPlan | bool | None = None,
    ) -> None:
        super().__init__()
        self.source = Source(source, metric=metric, inject=inject, snapshots=snapshots)
        self._session: TrialSession | None = None
        self._fit: _Fit | None = None

    def run(self, model: Any, fit: Callable[..., Any], call: inspect.BoundArguments) -> Any:
        """Lead one call of ``fit``.

        Args:
            model: The model.
            fit: Keras's own ``fit``.
            call: Its arguments.

        Returns:
            What ``fit`` returns.
        """
        _check_alone(call)
        _check_processes()
        if self.source.knows_late:
            with record.as_new():
                know_trial(self.source, functools.partial(_slots_and_find, model, call))
        if not self.source.asks:
            check_alone()
            leave_if_stopped()
        self._session = session = self.source.claim(self._session)
        if session is None:
            return fit(*call.args, **call.kwargs)
        try:
            with sigterm_raised():
                check_thread()
                with injecting([*session.trial.params]):
                    slots = KerasSlots(model, call, trace_in_progress())
                    slots.confirm()
                    self._fit = _Fit(session, slots, model, call)
                self._fit.begin(self)
                result = fit(*call.args, **call.kwargs)
                self._fit.complete(result)
        except Again:
            raise
        except BaseException as error:
            if self._fit is not None:
                self._fit.refuse(error)
            self.source.fail(session, error)
            raise
        finally:
            if self._fit is not None:
                self._fit.finish()
            self._fit = None
        self.source.end(session)
        return result

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        """Read the values back, after every other callback's ``on_train_begin``, and open the recorders."""
        if self._fit is not None:
            self._fit.check_started()
            self._fit.snapshot(is_start=True)
        elif self._session is not None or self.source.has_trial:
            raise TrialError(
                f"{type(self.model).__name__} has a fit() of its own that does not call keras.Model.fit, so no value "
                "can be injected.\n  Call super().fit(...) in it, with the callbacks, or override train_step instead."
            )

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """In the first epoch: does a schedule throw the injected learning rate away?"""
        if self._fit is not None:
            self._fit.begin_epoch()

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Report the metrics of this epoch."""
        if self._fit is not None:
            self._fit.take_epoch(epoch, logs or {})
            self._fit.snapshot(is_epoch_end=True)
            self._fit.keep(epoch, logs or {})

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        """Take the last snapshot of the parameters."""
        if self._fit is not None:
            self._fit.snapshot(is_end=True)

    def __getstate__(self) -> dict[str, Any]:
        """A copy knows the source, not the fit that is going on."""
        return {**self.__dict__, "_fit": None}


def _slots_and_find(model: Any, call: inspect.BoundArguments) -> tuple[list[Slot], Find]:
    slots = KerasSlots(model, call)
    return slots.slots, slots.find


class _Fit:
    """One fit of a trial: what is injected where, and which metrics were seen.

    Args:
        session: The session of the trial.
        slots: The slots of the user's objects.
        model: The model.
        call: The arguments of ``fit``.
    """

    def __init__(self, session: TrialSession, slots: KerasSlots, model: Any, call: inspect.BoundArguments) -> None:
        self.session, self.slots = session, slots
        self._model, self._call = model, call
        self._injection: Injection | None = None
        self._callbacks: list[Any] = []
        self._epochs = 0
        self._began = time.time()
        self._names: dict[str, None] = {}
        self._batches: _Batches | None = None
        self._checkpoints: FitCheckpoints | None = None

    def begin(self, callback: TuneCallback) -> None:
        """Inject, and let our callback come last, so that it sees what the others did."""
        self._injection = self.session.begin(
            self.slots.slots,
            model=self._model,
            notes=self.slots.notes,
            find=self.slots.find,
            left_out=self.slots.left_out(),
        )
        self.slots.check_read(self._paths)
        given = self._call.arguments["callbacks"]
        self._callbacks = [other for other in flat(given) if other is not callback]
        self._batches = _Batches(self) if self.session.counts_steps else None
        ours = [callback] if self._batches is None else [callback, self._batches]
        if isinstance(given, keras.callbacks.CallbackList):
            given.callbacks = [*self._callbacks, *ours]
        else:
            self._call.arguments["callbacks"] = [*self._callbacks, *ours]
        if self.session.decision.stop:  # a later fit of a trial that was stopped
            self._call.arguments["epochs"] = self._first

    @property
    def _paths(self) -> list[str]:
        """The slots of the trial's values."""
        return [] if self._injection is None else [*self._injection.paths]

    @property
    def _first(self) -> int:
        return int(self._call.arguments.get("initial_epoch", 0))

    def check_started(self) -> None:
        """Check that nothing was set back before the first step, and open the recorders."""
        if self._injection is not None:
            with injecting([*self.session.trial.params]):
                self._injection.read_back("before the first step")
        self.session.ready(loggers=self._callbacks)
        self.session.budget = self._budget()
        self._checkpoints = FitCheckpoints(self.session, self._model, self._call.arguments, self._callbacks)
        self._checkpoints.start()

    def _budget(self) -> Budget:
        """How long this fit trains, and how often it measures."""
        last = int(self._call.arguments.get("epochs", 1))
        epochs = max(last - self._first, 0)
        reports = sum(self._measures(epoch) for epoch in range(self._first, last))
        return Budget(epochs, (reports + 1e-6) / epochs if epochs else 1.0)

    def _measures(self, epoch: int) -> bool:
        """Whether the metric is measured in an epoch: validation may come in some only."""
        every = self._call.arguments.get("validation_freq", 1)
        if not self.session.trial.metric.startswith("val_"):
            return True
        return (epoch + 1) % every == 0 if isinstance(every, int) else epoch + 1 in every

    def begin_epoch(self) -> None:
        """Check the learning rate once, after every other callback began the first epoch."""
        if self._epochs == 0:
            self.slots.check_schedules(self._paths, self._callbacks)
        if self._checkpoints is not None:
            self._checkpoints.begin_epoch()

    def take_epoch(self, epoch: int, logs: Mapping[str, Any]) -> None:
        """Report what was measured."""
        self._epochs += 1
        if self._epochs == 1:
            self.slots.check_stepped(self._paths)
        metrics = {name: float(value) for name, value in logs.items() if _is_number(value)}
        self._names.update(dict.fromkeys(metrics))
        is_measured = self.session.trial.metric in metrics
        if metrics:
            metrics["epoch"] = float(epoch)
        if is_measured:
            self.session.report(self.session.step + 1, metrics)
        else:
            self.session.log(metrics)
            if self._measures(epoch):
                self.session.check_measured(self._names)
        if self.session.decision.stop:
            self._model.stop_training = True

    def keep(self, epoch: int, logs: Mapping[str, Any]) -> None:
        """Keep a checkpoint at the end of an epoch."""
        if self._checkpoints is not None:
            self._checkpoints.end_epoch(epoch, logs)

    def snapshot(self, *, is_start: bool = False, is_epoch_end: bool = False, is_end: bool = False) -> None:
        """Take a snapshot of the parameters where one is due."""
        if self.session.takes_snapshots:
            collect = functools.partial(_parameters, self._model, has_gradients=not is_start)
            self.session.snapshot(self.steps, collect, is_epoch_end=is_epoch_end, is_end=is_end)

    @property
    def steps(self) -> int:
        """Number of steps that were made: of the optimizer, or of the busiest one where a model has several."""
        if self._batches is not None and self._batches.steps is not None:
            return self._batches.steps
        members = [self._model.optimizer, *vars(self._model).values()]
        return max((_steps(one) for one in members if isinstance(one, keras.optimizers.Optimizer)), default=0)

    def refuse(self, error: BaseException) -> None:
        """Leave a model that made no step yet as it was."""
        if isinstance(error, InjectionError | TrialError) and self.slots.steps == 0:
            self.slots.undo()
            self.session.release(self._model)

    def finish(self) -> None:
        """Undo what was for this fit only."""
        if self._checkpoints is not None:
            self._checkpoints.close()
        self.slots.finish()

    def complete(self, history: Any) -> None:
        """The fit ended in good order."""
        if self._checkpoints is not None:
            self._checkpoints.finish(history)
        if self.session.decision.stop:
            return
        if self._epochs == 0:
            raise TrialError(
                "The fit ended without a training step, so there is nothing to tune: "
                f"epochs={self._call.arguments.get('epochs', 1)} and initial_epoch={self._first} leave no epoch.\n"
                "  Give fit at least one epoch to train."
            )
        self.session.check_measured(self._names)
        if self.session.wants_checkpoint:
            self.session.note_checkpoint(_checkpoint(self._callbacks, since=self._began))


class _Batches(keras.callbacks.Callback):  # type: ignore[misc] # Keras has no types
    """Asks after each batch whether a snapshot is due; beside `TuneCallback`, since Keras makes each hook cost time.

    It counts the steps itself: to read them from an optimizer would wait for its device after each batch.
    """

    def __init__(self, fit: _Fit) -> None:
        super().__init__()
        self._fit = fit
        self._start = self._batches = self._ended = 0
        self.steps: int | None = None

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        """Count from what was trained before."""
        self._start = self.steps = self._fit.steps

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Keras numbers the batches of each epoch from 0."""
        self._ended = self._batches

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Take one where it is due."""
        size = (self.params or {}).get("steps") or batch + 1  # a batch of several steps is numbered beyond the last one
        self._batches = self._ended + min(batch + 1, size)
        self.steps = self._start + self._batches // (
            getattr(self.model.optimizer, "gradient_accumulation_steps", 0) or 1
        )
        self._fit.snapshot()


def _steps(optimizer: Any) -> int:
    return int(keras.ops.convert_to_numpy(optimizer.iterations))


def _parameters(model: Any, *, has_gradients: bool) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """The trainable variables by path, and on torch the gradients of the last batch, which stay until the next one.

    Where a loss is scaled, so are its gradients, by a factor that may have changed since.
    """
    if hasattr(model, "jax_state_sync"):  # JAX keeps the variables elsewhere during an epoch
        model.jax_state_sync()
    values: dict[str, Any] = {}
    for variable in model.trainable_variables:
        name, count = variable.path, 1
        while name in values:  # layers inside a layer may have one name
            count += 1
            name = f"{variable.path}_{count}"
        values[name] = variable.value
    is_scaled = getattr(model.optimizer, "loss_scale_factor", None) is not None or isinstance(
        model.optimizer, keras.optimizers.LossScaleOptimizer
    )
    if not has_gradients or is_scaled or keras.backend.backend() != "torch":
        return values, None
    return values, {name: value.grad for name, value in values.items()}


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError, OverflowError):
        return False
    return True


def _checkpoint(callbacks: Iterable[Any], *, since: float) -> Path | None:
    """The newest file that a ``ModelCheckpoint`` has written since; its name may have places for epoch and metrics."""
    found: list[tuple[int, Path]] = []
    for callback in callbacks:
        if isinstance(callback, keras.callbacks.ModelCheckpoint):
            path = Path(str(callback.filepath))
            pattern = ".*".join(map(re.escape, re.split(r"\{.*?\}", path.name)))
            files = path.parent.iterdir() if path.parent.is_dir() else []
            found += [(file.stat().st_mtime_ns, file) for file in files if re.fullmatch(pattern, file.name)]
    # File systems keep times some milliseconds less exactly than the clock.
    return max((one for one in found if one[0] >= (since - 0.02) * 1e9), default=(0, None))[1]


def _is_ours(callback: Any) -> bool:
    return getattr(callback, "leads_fit", False) is True  # a class from before a reload of this module too


def _check_alone(call: inspect.BoundArguments) -> None:
    if sum(_is_ours(other) for other in flat(call.arguments["callbacks"])) > 1:
        raise TrialError("fit has more than one TuneCallback; one fit is one trial.\n  Keep one of them.")


def _check_processes() -> None:
    """Each process of a training would ask for a trial of its own."""
    if keras.backend.backend() == "jax":
        processes = sys.modules["jax"].process_count()
    else:
        cluster = json.loads(os.environ.get("TF_CONFIG") or "{}").get("cluster", {})
        processes = len(cluster.get("worker", [])) + len(cluster.get("chief", []))
    if processes > 1:
        raise TrialError(
            f"This training runs in {processes} processes, and TuneCallback for Keras leads one: each would train with "
            "other values.\n"
            "  Train each trial in one process, on all devices of its machine."
        )


def install() -> None:
    """Let ``keras.Model.fit`` hand over to a `TuneCallback` among its callbacks; a second call does nothing.

    A value that Keras takes as an argument of ``fit`` must be there before ``fit`` begins; and Keras tells its
    callbacks nothing of exceptions. Without our callback ``fit`` is as it was.
    """
    watch()
    holder = next(cls for cls in keras.Model.__mro__ if "fit" in vars(cls))  # the trainer of the backend
    put_once(holder, "fit", _tuned_fit)
    put_once(next(cls for cls in keras.Model.__mro__ if "compile" in vars(cls)), "compile", compile_with_values)
    global _first_names
    if active() is not None:  # the training function imports this module
        _first_names = record.names()
    surround(_same_names)
    surround(_watched)
    surround(_plain_bars)


def _tuned_fit(fit: Any) -> Any:
    signature = inspect.signature(fit)

    def lead(*args: Any, **kwargs: Any) -> Any:
        given = kwargs.get("callbacks", args[6] if len(args) > 6 else None)
        ours = next((one for one in flat(given) if _is_ours(one)), None)
        if ours is None:
            return fit(*args, **kwargs)
        call = signature.bind(*args, **kwargs)
        return ours.run(call.arguments["self"], fit, call)

    return lead


@contextlib.contextmanager
def _plain_bars() -> Iterator[None]:
    """Let Keras write its progress bar without colours and backspaces where no terminal shows it, as into a file.

    Keras writes them wherever it writes. The bar is the user's wish, and stays.
    """
    printer: Any = getattr(sys.modules[keras.utils.Progbar.__module__], "io_utils", None)
    original = getattr(printer, "print_msg", None)
    if original is None or "ipykernel" in sys.modules:  # a notebook shows them
        yield
        return

    def print_msg(message: object, line_break: bool = True) -> None:
        text = str(message)
        original(text if is_terminal(sys.stdout) else re.sub(r"\x1b\[[0-9;]*m|\x08", "", text), line_break)

    printer.print_msg = print_msg
    try:
        yield
    finally:
        printer.print_msg = original


@contextlib.contextmanager
def _watched() -> Iterator[None]:
    """Hear of what the trial constructs, also of classes that were given a constructor since, as dataclasses are."""
    watch()
    yield


@contextlib.contextmanager
def _same_names() -> Iterator[None]:
    """Let each trial name its layers as the first one of this process did: ``dense``, not ``dense_7``."""
    global _first_names
    now = record.names()
    if _first_names is None or any(now.get(name, 0) < count for name, count in _first_names.items()):
        _first_names = now  # the session was cleared since
    record.restore_names(_first_names)
    yield


install()
