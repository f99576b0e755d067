"""One fit of a trial in Keras: what is checked when, and what a model answers."""

from __future__ import annotations

import inspect
import re
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import keras

from tunehook.adapter import FitCore, hand_back
from tunehook.integrations.keras import host, models
from tunehook.integrations.keras.kept import KeptCallbacks, begin_seeds
from tunehook.integrations.keras.places import flat
from tunehook.integrations.keras.resume import FitCheckpoints, seed_generators, value_of
from tunehook.integrations.keras.slots import KerasSlots
from tunehook.session import Held, Kept, Part, TrialSession, wanted
from tunehook.snapshot import Arrays
from tunehook.trial import Budget, InjectionError, TrialError


class ModelHost:
    """What a model answers of its fit.

    Args:
        model: The model.
        call: The arguments of ``fit``.
    """

    def __init__(self, model: Any, call: inspect.BoundArguments) -> None:
        self.model = model
        self.batches: Batches | None = None  # where they are counted
        self._arguments = call.arguments
        self._before = self._kept()  # by the files and not by a clock, which may step

    @property
    def first(self) -> int:
        """The epoch to begin with."""
        return int(self._arguments.get("initial_epoch", 0))

    @property
    def steps(self) -> int:
        """Number of steps that were made: of the optimizer, or of the busiest one where a model has several."""
        if self.batches is not None and self.batches.steps is not None:
            return self.batches.steps
        members = [self.model.optimizer, *vars(self.model).values()]
        optimizers = [one for one in members if isinstance(one, keras.optimizers.Optimizer)]
        return max((int(keras.ops.convert_to_numpy(one.iterations)) for one in optimizers), default=0)

    def measures(self, metric: str, epoch: int) -> bool:
        """Whether a metric is measured in an epoch: validation may come in some only."""
        every = self._arguments.get("validation_freq", 1)
        if not metric.startswith("val_"):
            return True
        return (epoch + 1) % every == 0 if isinstance(every, int) else epoch + 1 in every

    def budget(self, metric: str) -> Budget:
        """How long this fit trains, and how often it measures."""
        last = int(self._arguments.get("epochs", 1))
        epochs = max(last - self.first, 0)
        reports = sum(self.measures(metric, epoch) for epoch in range(self.first, last))
        return Budget(epochs, (reports + 1e-6) / epochs if epochs else 1.0)

    def parameters(self, *, has_gradients: bool) -> Arrays:
        """The trainable variables by path, and on torch the gradients of the last batch, which stay until the next one.

        Where a loss is scaled, so are its gradients, by a factor that may have changed since.
        """
        model = self.model
        host.sync(model)
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

    def parts(self) -> Iterator[Part]:
        """Its variables, but for those of its random numbers, each with a checksum of its numbers."""
        host.sync(self.model)
        seeds = {id(one.state) for one in seed_generators(self.model)}
        for one in self.model.variables:
            if id(one) not in seeds:
                yield one.path, one, zlib.crc32(value_of(one).tobytes())

    def kept_model(self, _metric: str) -> Path | None:
        """The newest file of a ``ModelCheckpoint`` of this fit; its name may have places for epoch and metrics."""
        written = self._kept() - self._before
        return max(written, default=(0, None))[1]

    def _kept(self) -> set[tuple[int, Path]]:
        """The files that are there by the names of ``ModelCheckpoint``, with the times of their last changes."""
        found = set()
        for callback in flat(self._arguments.get("callbacks")):
            if isinstance(callback, keras.callbacks.ModelCheckpoint):
                path = Path(str(callback.filepath))
                pattern = ".*".join(map(re.escape, re.split(r"\{.*?\}", path.name)))
                files = path.parent.iterdir() if path.parent.is_dir() else []
                found |= {(file.stat().st_mtime_ns, file) for file in files if re.fullmatch(pattern, file.name)}
        return found

    def hold_model(self) -> Held:
        """The model as Keras would save it now, at the end of an epoch."""
        return models.hold(self.model, flat(self._arguments.get("callbacks")))

    def load_model(self, kept: Kept) -> None:
        """Put kept weights into the model."""
        models.load(self.model, kept)

    def why_untrained(self) -> str:
        """The arguments of ``fit``."""
        return (
            f"epochs={self._arguments.get('epochs', 1)} and initial_epoch={self.first} leave no epoch.\n"
            "  Give fit at least one epoch to train."
        )

    def stop(self) -> None:
        """End the fit in good order, after this epoch."""
        self.model.stop_training = True


class KerasFit:
    """One fit of a trial. The call of ``fit`` and the hooks of the callback call the methods.

    Args:
        session: The session of the trial.
        slots: The slots of the user's objects.
        model: The model.
        call: The arguments of ``fit``.
    """

    def __init__(self, session: TrialSession, slots: KerasSlots, model: Any, call: inspect.BoundArguments) -> None:
        self.session = session
        self.host = ModelHost(model, call)
        self.core = FitCore(session, slots, self.host)
        self._slots, self._model, self._arguments = slots, model, call.arguments
        self._callbacks: list[Any] = []
        self._kept: KeptCallbacks | None = None
        self._checkpoints: FitCheckpoints | None = None

    def begin(self, callback: Any) -> None:
        """Inject, and let our callback come last, so that it sees what the others did."""
        self.core.begin()
        given = self._arguments["callbacks"]
        # Where train is called for its model, nothing is trained, logged or saved.
        self._callbacks = [other for other in flat(given) if other is not callback and wanted() is None]
        ours = [callback]
        if self.session.counts_steps:
            self.host.batches = Batches(self)
            ours.append(self.host.batches)
        if wanted() is not None:
            ours.append(HandsBack(self.host))
        if isinstance(given, keras.callbacks.CallbackList):
            given.callbacks = [*self._callbacks, *ours]
        else:
            self._arguments["callbacks"] = [*self._callbacks, *ours]
        if self.session.decision.stop:  # a later fit of a trial that was stopped
            self._arguments["epochs"] = self.host.first

    def check_started(self) -> None:
        """Check that nothing was set back before the first step, and open the recorders."""
        self.core.read_back("before the first step")
        self.core.check_live()
        if self._model.built:
            hand_back(self.host)
        self.session.ready(loggers=self._callbacks)
        begin_seeds(self._model, self.session.trial)
        self.core.start()
        self._kept = KeptCallbacks(self._callbacks, self.session.trial)
        self._checkpoints = FitCheckpoints(self.session, self._model, self._arguments, self._callbacks)
        self._checkpoints.start()
        self.core.snapshot(is_start=True)

    def begin_epoch(self) -> None:
        """Check the learning rate once, after every other callback began the first epoch."""
        if self.core.epochs == 0:
            self._slots.check_schedules(self._callbacks)
        if self._checkpoints is not None:
            self._checkpoints.begin_epoch()

    def end_epoch(self, epoch: int, logs: Mapping[str, Any]) -> None:
        """Report what was measured, and keep what there is to keep."""
        self.core.end_epoch()
        metrics = {name: float(value) for name, value in logs.items() if _is_number(value)}
        self.core.see(metrics)
        is_measured = self.core.take(metrics, epoch=float(epoch))
        if not is_measured and self.host.measures(self.session.trial.metric, epoch):
            self.core.check_measured()
        self.core.snapshot(is_epoch_end=True)
        if self._checkpoints is not None:
            self._checkpoints.end_epoch(epoch, logs)
            self.core.follow()

    def complete(self, history: Any) -> None:
        """The fit ended in good order."""
        if self._checkpoints is not None:
            self._checkpoints.finish(history)
        if self.core.epochs and not self.session.decision.stop:
            self.core.check_measured()
        self.core.complete()

    def refuse(self, error: BaseException) -> None:
        """Leave a model that made no step yet as it was."""
        if isinstance(error, InjectionError | TrialError) and self._slots.steps == 0:
            self._slots.undo()
            self.session.release(self._model)

    def finish(self) -> None:
        """Undo what was for this fit only."""
        if self._checkpoints is not None:
            self._checkpoints.close()
        if self._kept is not None:
            self._kept.note()
        self._slots.finish()


class HandsBack(keras.callbacks.Callback):  # type: ignore[misc] # Keras has no types
    """Gives a model back that is built by its first batch, as model classes are on TensorFlow.

    All that the batch has changed is put in from the file.
    """

    def __init__(self, host: ModelHost) -> None:
        super().__init__()
        self._host = host

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        """It has all its weights now."""
        hand_back(self._host)


class Batches(keras.callbacks.Callback):  # type: ignore[misc] # Keras has no types
    """Asks after each batch whether a snapshot is due; beside `TuneCallback`, since Keras makes each hook cost time.

    It counts the steps itself: to read them from an optimizer would wait for its device after each batch.
    """

    def __init__(self, fit: KerasFit) -> None:
        super().__init__()
        self._core, self._host = fit.core, fit.host
        self._start = self._batches = self._ended = 0
        self.steps: int | None = None

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        """Count from what was trained before."""
        self._start = self.steps = self._host.steps

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
        self._core.snapshot()


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError, OverflowError):
        return False
    return True
