"""Values for optimizers and schedulers that are made in ``configure_optimizers``: whether they arrived and stay."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from tunehook.adapter import Patches
from tunehook.inject import UNKNOWN, Again, Slot, same, signature_of, trace_in_progress
from tunehook.integrations.lightning import host
from tunehook.integrations.lightning.calls import hear_all
from tunehook.integrations.lightning.constructors import ROOTS, Made, Window, deviating, editing
from tunehook.trial import InjectionError

_HOOK = "configure_optimizers"
_OF_A_COMMAND_LINE = {"optimizer": "optimizer", "lr_scheduler": "scheduler"}


class MadeObjects:
    """The optimizers and schedulers of one fit.

    Args:
        trainer: The trainer.
        module: Its LightningModule.
    """

    def __init__(self, trainer: Any, module: Any) -> None:
        self._trainer = trainer
        self._module = module
        self.optimizers = Window("optimizer")
        self.schedulers = Window("scheduler")
        self._patches = Patches()
        self._idle: list[Made] = []
        self._hooks: list[Any] = []
        self._settings: list[list[dict[str, Any]]] = []
        self._scheduler_settings: list[tuple[Any, str, Any]] = []

    def open(self) -> None:
        """Begin to edit the constructor calls inside the module's ``configure_optimizers``, and nowhere else."""
        hear_all()
        # A partial object, which Lightning looks through when it asks whether the module defines the hook.
        hook = functools.partial(_inside, (self.optimizers, self.schedulers), getattr(self._module, _HOOK))
        self._patches.put(self._module, _HOOK, hook)

    def close(self) -> None:
        """Stop it. May be called at any time and more than once."""
        self._patches.undo()

    def find(self, path: str) -> Slot | None:
        """The slot of a setting by number, such as ``optimizer.1.lr``, or by the name that a command line has for it.

        There an optimizer is an argument of the model, which makes it of its parameters: ``model.optimizer.lr``.
        """
        role, _, key = path.removeprefix("model.").partition(".")
        if path.startswith("model.") and role in _OF_A_COMMAND_LINE:
            path = f"{_OF_A_COMMAND_LINE[role]}.{key}"
        return self.optimizers.find(path) or self.schedulers.find(path)

    def rows(self) -> list[str]:
        """What each of them takes, a line each."""
        return [row for window in (self.optimizers, self.schedulers) for row in window.rows(window.made)]

    def check_made(self) -> None:
        """Check that all values were taken up and are in force, and remember the settings for `check_restored`.

        Raises:
            InjectionError: A value was not taken up, by several, or something overwrote it.
        """
        optimizers = [each for each in self._optimizers() if not host.is_mock(each)]
        schedulers = self._used_schedulers()
        self._find_handed(self.optimizers, optimizers)
        self._find_handed(self.schedulers, schedulers)
        counting = [each for each in self.optimizers.made if any(each.made is one for one in optimizers)]
        self.optimizers.check(counting, holder="configure_optimizers")
        for each in counting:
            self._check_overwritten(each)
        used = [each for each in self.schedulers.made if any(each.made is one for one in schedulers)]
        self.schedulers.check(used, holder="configure_optimizers")
        for each in (*counting, *used):
            _tell_variables(each)
        self._settings = [_settings(optimizer) for optimizer in optimizers]
        self._scheduler_settings = [
            (each.made, key, value)
            for each in used
            for key, value in each.values.items()
            if same(value, vars(each.made).get(key, UNKNOWN))
        ]

    def _find_handed(self, window: Window, objects: Sequence[Any]) -> None:
        """Count those that the script made elsewhere and handed over as made, where the values went into their calls.

        Raises:
            Again: They did not go there yet.
        """
        trace, is_to_begin_again = trace_in_progress(), False
        for one in objects:
            call = None if trace is None else trace.of(one)
            if any(each.made is one for each in window.made):
                continue
            if trace is None or call is None:
                window.take_finished(one)
                continue
            staged = window.staged_for(call.arguments.parameters)
            values = {key: value for key, (_, value) in staged.items()}
            window.add(Made(one, [*call.arguments.parameters], values))
            for key, (path, value) in staged.items():
                if not same(call.given.get(key), value):
                    trace.put_late(path, call, key)
                    is_to_begin_again = True
        if is_to_begin_again:
            raise Again

    def check_in_vain(self, values: Mapping[str, Any]) -> None:
        """Check that no scheduler overwrites a learning rate that comes from an argument of the module's.

        It is in vain where the scheduler has a number of its own, written in ``configure_optimizers``.

        Args:
            values: The injected arguments of the module, by path.

        Raises:
            InjectionError: One does.
        """
        code = getattr(inspect.unwrap(getattr(type(self._module), _HOOK)), "__code__", None)
        written = {each for each in getattr(code, "co_consts", ()) if isinstance(each, float)}
        for path, value in values.items():
            taking = [each for each in self.optimizers.made if same(value, each.made.defaults.get("lr"))]
            for each in taking if isinstance(value, float) else ():
                rates = [group.get("max_lr", group.get("initial_lr")) for group in each.made.param_groups]
                own = [one for one in self.schedulers.made if getattr(one.made, "optimizer", None) is each.made]
                if len(taking) == 1 and own and all(rate in written and not same(rate, value) for rate in rates):
                    name = type(own[0].made).__name__
                    raise InjectionError(
                        f"{path} = {value!r} has no effect: {name} overwrites it with {rates[0]!r}, which is typed "
                        f"into configure_optimizers.\n  Give {name} the argument too, or take {path} out of the space."
                    )

    def count_steps(self) -> None:
        """Begin to see, in ``on_train_start``, which of the optimizers with injected values make a step."""
        self._idle = [each for each in self.optimizers.made if each.values and self._is_used(each)]
        self._hooks = [each.made.register_step_post_hook(functools.partial(self._step, each)) for each in self._idle]

    def stop_counting(self) -> None:
        """Stop it. May be called more than once."""
        while self._hooks:
            self._hooks.pop().remove()

    def _is_used(self, each: Made) -> bool:
        return any(one is each.made for one in self._optimizers())

    @property
    def used(self) -> list[Any]:
        """The optimizers of the fit."""
        return self._optimizers()

    def _optimizers(self) -> list[Any]:
        return [host.real_optimizer(one) for one in self._trainer.optimizers]

    def _step(self, each: Made, *_: Any) -> None:
        if each in self._idle:
            self._idle.remove(each)

    def check_stepped(self) -> None:
        """Check at the end of the first epoch that each of them has made one.

        Raises:
            InjectionError: One has not, so that its values change nothing.
        """
        self.stop_counting()
        if getattr(getattr(self._trainer, "precision_plugin", None), "scaler", None) is not None:
            return  # it leaves out steps, at first
        for each in self._idle:
            number = self.optimizers.made.index(each)
            paths = ", ".join(f"optimizer.{number}.{key}" for key in each.values)
            raise InjectionError(
                f"{paths} has no effect: {type(each.made).__name__}, optimizer {number} of configure_optimizers, made "
                "no step in the first epoch.\n"
                "  Let it step, or take the name out of the space."
            )

    def has_scheduler_with(self, key: str) -> bool:
        """Whether a scheduler of the fit takes an argument of a name."""
        kinds: list[Any] = [type(one) for one in self._used_schedulers()]
        return any(key in signature_of(cls.__init__).parameters for cls in kinds)

    def _used_schedulers(self) -> list[Any]:
        found = [config.scheduler for config in self._trainer.lr_scheduler_configs]
        found += [value for value in vars(self._module).values() if isinstance(value, ROOTS["scheduler"])]
        for scheduler in found:
            found += host.inner_schedulers(scheduler)
        return found

    def _check_overwritten(self, each: Made) -> None:
        for key, value in each.values.items():
            for number, present in deviating(each, key):
                if number < each.groups:
                    raise InjectionError(self._overwritten(each, key, value, present))
                raise InjectionError(
                    f"optimizer.{key} = {value!r} does not reach a parameter group that was added later with its own "
                    f"{key}.\n  Make it an argument of the module's constructor."
                )

    def _overwritten(self, each: Made, key: str, value: Any, present: Any) -> str:
        own = [one for one in self.schedulers.made if getattr(one.made, "optimizer", None) is each.made]
        names = [name for one in own for name in one.keys if name in (f"max_{key}", f"base_{key}")]
        scheduler = type(own[0].made).__name__ if own else "Something else"
        way_out = f"Tune {' or '.join(f'scheduler.{name}' for name in names)} instead." if names else "Remove that."
        return f"optimizer.{key} = {value!r} has no effect: {scheduler} overwrites it with {present!r}.\n  {way_out}"

    def check_restored(self, injected: list[Any]) -> None:
        """Check that a checkpoint did not restore old settings over injected ones.

        Args:
            injected: All injected values.

        Raises:
            InjectionError: An optimizer or scheduler held an injected value before, and holds another now.
        """
        for optimizer, before in zip(self._optimizers(), self._settings, strict=False):
            for old, present in zip(before, _settings(optimizer), strict=False):
                for key, value in old.items():
                    if _is_injected(value, injected) and not same(value, present.get(key)):
                        raise _restored(f"{key} of {type(optimizer).__name__}", value, present.get(key))
        for scheduler, key, value in self._scheduler_settings:
            if not same(value, vars(scheduler).get(key)):
                raise _restored(f"{key} of {type(scheduler).__name__}", value, vars(scheduler).get(key))


def _inside(windows: Sequence[Window], hook: Callable[[], Any]) -> Any:
    with editing(windows):
        return hook()


def _tell_variables(each: Made) -> None:
    """Say which of the values pass by a variable that the script uses elsewhere too."""
    trace = trace_in_progress()
    call = None if trace is None else trace.of(each.made)
    if trace is not None and call is not None:
        for key, path in each.paths.items():
            trace.tell_variable(path, f"{key} of {call.name}", [one for one in [call.typed(key)] if one is not None])


def _restored(what: str, value: Any, present: Any) -> InjectionError:
    return InjectionError(
        f"The checkpoint restored {what}: it is {present!r} instead of the injected {value!r}.\n"
        "  Load only the weights (load_from_checkpoint, load_state_dict), or take the name out of the space."
    )


def _settings(optimizer: Any) -> list[dict[str, Any]]:
    """The settings of each parameter group; for ``lr`` the one that schedulers start from."""
    return [
        {
            **{key: value for key, value in group.items() if key != "params"},
            "lr": group.get("initial_lr", group.get("lr")),
        }
        for group in optimizer.param_groups
    ]


def _is_injected(value: Any, injected: list[Any]) -> bool:
    if value is None or isinstance(value, bool):
        return False
    if isinstance(value, torch.Tensor):
        value = value.tolist()
    return any(not isinstance(one, bool) and same(one, value) for one in injected)
