"""The border to Lightning and torch: what this adapter needs of them and has no public way to, but for `resume`.

Each function says for which versions it was written.
"""
# ruff: noqa: SLF001 - this is the border

from __future__ import annotations

import atexit
import contextlib
import functools
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any

from torch import distributed
from torch.optim import lr_scheduler

from tunehook.adapter import put_once

Scheduler: type = getattr(lr_scheduler, "LRScheduler", None) or lr_scheduler._LRScheduler
"""The base class of schedulers, which has no public name in torch 1."""


def accumulates(trainer: Any) -> bool:
    """Whether the last batch made no step, so that its gradients are those of a part. Lightning 2.1 to 2.6."""
    return bool(trainer.fit_loop.epoch_loop._should_accumulate())


def starts_processes(trainer: Any) -> bool:
    """Whether a strategy starts the processes of its fit from this one, as ddp_spawn does. Lightning 2.1 to 2.6."""
    return hasattr(trainer.strategy.launcher, "_start_method")


def forks(trainer: Any) -> bool:
    """Whether a strategy forks the processes of its fit. Lightning 2.1 to 2.6."""
    return getattr(trainer.strategy.launcher, "_start_method", "") == "fork"


@functools.cache
def end_group_at_exit() -> None:
    """End the group of gloo's ranks before Python ends, as Lightning does with NCCL's alone. torch 2.1 to 2.13.

    Its threads may still hold what they have just sent, and a thread that frees an object of Python's while Python
    ends aborts the process: https://github.com/pytorch/pytorch/pull/179291. After an error nothing is waited for.
    """

    def end() -> None:
        if distributed.is_initialized() and distributed.get_backend() == "gloo" and not hasattr(sys, "last_value"):
            distributed.destroy_process_group()

    atexit.register(end)


def load_ahead() -> None:
    """Load what Lightning loads only when it first saves a training, which takes 40 ms. Lightning 2.1 to 2.6."""
    with contextlib.suppress(ImportError):
        import omegaconf  # noqa: F401


def dumped(trainer: Any) -> dict[str, Any]:
    """What Lightning would save of a training now; all ranks ask. Lightning 2.1 to 2.6."""
    state: dict[str, Any] = trainer._checkpoint_connector.dump_checkpoint(False)
    return state


def why_in_parts(strategy: Any) -> str:
    """Why a strategy saves and restores in a way of its own, an empty text where it does not. Lightning 2.1 to 2.6."""
    if strategy.restore_checkpoint_after_setup or not strategy.lightning_restore_optimizer:
        return f"{type(strategy).__name__} has a way of its own to restore"
    return ""


def data_source(loop: Any) -> Any:
    """Where the loaders of a loop come from, before training. Lightning 2.1 to 2.6."""
    return loop._data_source


def around_loader_hooks(namespace: str, hear: Callable[[], None]) -> None:
    """Hear of loaders that hooks make, and afterwards. Lightning 2.1 to 2.6.

    Lightning replaces the constructors of loaders while it calls a hook, and leaves plain functions; where the hook
    raises it leaves its own.

    Args:
        namespace: The namespace.
        hear: Lets the constructors be heard that stand there now.
    """

    def make(original: Callable[..., AbstractContextManager[None]]) -> Callable[..., AbstractContextManager[None]]:
        @contextlib.contextmanager
        def replaced(*args: Any, **kwargs: Any) -> Iterator[None]:
            error: BaseException | None = None
            with original(*args, **kwargs):
                hear()
                try:
                    yield
                except BaseException as raised:  # noqa: BLE001 - raised again
                    error = raised
            hear()
            if error is not None:
                raise error

        return replaced

    put_once(sys.modules[f"{namespace}.trainer.connectors.data_connector"], "_replace_dunder_methods", make)


def combined_loader(loop: Any) -> Any:
    """The loaders of a loop that runs, ``None`` before. Lightning 2.1 to 2.6."""
    return getattr(loop, "_combined_loader", None)


def saved_hparams(made: object) -> Any:
    """What ``save_hyperparameters()`` saved; ``hparams`` itself would make it. Lightning 2.1 to 2.6."""
    return vars(made).get("_hparams")


def given_hyperparameters(base: type) -> dict[str, Any] | None:
    """What a command line gives an object that it makes, to save; ``None`` where none does. Lightning 2.2 to 2.6.

    Args:
        base: Lightning's class of the object.
    """
    mixin = sys.modules.get(f"{base.__module__.partition('.core.')[0]}.core.mixins.hparams_mixin")
    given = getattr(mixin, "_given_hyperparameters", None)
    saved: dict[str, Any] | None = None if given is None else given.get()
    return saved


def set_saved(made: Any, name: str, value: Any) -> None:
    """Change an argument from which a loader is made again, with a distributed sampler. Lightning 2.1 to 2.6."""
    names = getattr(made, "__pl_saved_arg_names", ())
    if name in names:
        args = list(getattr(made, "__pl_saved_args"))
        args[names.index(name)] = value
        object.__setattr__(made, "__pl_saved_args", tuple(args))
    kwargs, defaults = getattr(made, "__pl_saved_kwargs", None), getattr(made, "__pl_saved_default_kwargs", {})
    if kwargs is not None and (name in kwargs or name in defaults):
        object.__setattr__(made, "__pl_saved_kwargs", {**kwargs, name: value})
    if name in defaults:
        object.__setattr__(made, "__pl_saved_default_kwargs", {**defaults, name: value})


def real_optimizer(optimizer: Any) -> Any:
    """The optimizer itself, where Lightning has put one of its own around it. Lightning 2.1 to 2.6."""
    return getattr(optimizer, "_optimizer", optimizer)


def is_mock(optimizer: Any) -> bool:
    """Whether it is what Lightning makes where ``configure_optimizers`` returns nothing. Lightning 2.1 to 2.6."""
    return type(optimizer).__name__ == "_MockOptimizer"


def of_compiled(module: Any) -> Any:
    """The module in one that ``torch.compile`` has made. torch 2.1 to 2.13."""
    return getattr(module, "_orig_mod", module)


def held_by(owner: object) -> Mapping[str, Any]:
    """The attributes of an object by name, the modules of a module too. torch 2.1 to 2.13."""
    own: dict[str, Any] = getattr(owner, "__dict__", {})
    return {**own.get("_modules", {}), **own}


def saved_buffers(module: Any) -> dict[str, Any]:
    """The buffers of a module itself that are saved with it; others are caches. torch 2.1 to 2.13."""
    left_out = getattr(module, "_non_persistent_buffers_set", ())
    return {name: one for name, one in module._buffers.items() if one is not None and name not in left_out}


def inner_schedulers(scheduler: Any) -> list[Any]:
    """The schedulers in one that is made of several. torch 2.1 to 2.13."""
    found: list[Any] = vars(scheduler).get("_schedulers", [])
    return found


def unscales_itself(optimizer: Any) -> bool:
    """Whether an optimizer takes scaled gradients, as a fused one does. torch 2.1 to 2.13."""
    return bool(getattr(optimizer, "_step_supports_amp_scaling", False))
