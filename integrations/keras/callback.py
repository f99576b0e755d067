"""TuneCallback for Keras 3: tunes an existing project, on torch, TensorFlow and JAX.

The callback only says when: what is done then is in `KerasFit`, and every rule in the core. Nothing here imports a
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
from collections.abc import Callable, Iterator, Mapping
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

from tunehook.adapter import Alone, Patches, Source, claim_session, know_trial, put_once
from tunehook.inject import Again, Find, Slot, check_thread, leave_if_stopped, trace_in_progress
from tunehook.integrations.keras import host
from tunehook.integrations.keras.calls import compile_with_values, watch
from tunehook.integrations.keras.fit import KerasFit
from tunehook.integrations.keras.places import flat
from tunehook.integrations.keras.slots import KerasSlots
from tunehook.session import TrialSession, active, sigterm_raised, surround
from tunehook.snapshot import SnapshotPlan
from tunehook.study import Study
from tunehook.system import is_terminal
from tunehook.trial import TrialError, injecting

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
        self._fit: KerasFit | None = None

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
            with host.as_new():
                know_trial(self.source, functools.partial(_slots_and_find, model, call))
        leave_if_stopped()
        self._session = session = claim_session(self.source, self._session, Alone())
        if session is None:
            return fit(*call.args, **call.kwargs)
        try:
            with sigterm_raised():
                check_thread()
                with injecting([*session.trial.params]):
                    slots = KerasSlots(model, call, trace_in_progress())
                    slots.confirm()
                    self._fit = KerasFit(session, slots, model, call)
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
            self._fit.end_epoch(epoch, logs or {})

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        """Take the last snapshot of the parameters."""
        if self._fit is not None:
            self._fit.core.snapshot(is_end=True)

    def __getstate__(self) -> dict[str, Any]:
        """A copy knows the source, not the fit that is going on."""
        return {**self.__dict__, "_fit": None}


def _slots_and_find(model: Any, call: inspect.BoundArguments) -> tuple[list[Slot], Find]:
    slots = KerasSlots(model, call)
    return slots.slots, slots.find


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
        _first_names = host.names()
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
    printer = host.printer()
    if printer is None or "ipykernel" in sys.modules:  # a notebook shows them
        yield
        return
    original = printer.print_msg

    def print_msg(message: object, line_break: bool = True) -> None:
        text = str(message)
        original(text if is_terminal(sys.stdout) else re.sub(r"\x1b\[[0-9;]*m|\x08", "", text), line_break)

    with Patches() as patches:
        patches.put(printer, "print_msg", print_msg)
        yield


@contextlib.contextmanager
def _watched() -> Iterator[None]:
    """Hear of what the trial constructs, also of classes that were given a constructor since, as dataclasses are."""
    watch()
    yield


@contextlib.contextmanager
def _same_names() -> Iterator[None]:
    """Let each trial name its layers as the first one of this process did: ``dense``, not ``dense_7``."""
    global _first_names
    now = host.names()
    if _first_names is None or any(now.get(name, 0) < count for name, count in _first_names.items()):
        _first_names = now  # the session was cleared since
    host.restore_names(_first_names)
    yield


install()
