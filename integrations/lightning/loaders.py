"""The batch size of data loaders, where no constructor argument of the user's holds it."""

from __future__ import annotations

import functools
from collections.abc import Collection
from typing import Any

from torch.utils.data import BatchSampler

from tunehook.adapter import Patches
from tunehook.inject import UNKNOWN, Call, Slot, Trace, same, trace_in_progress
from tunehook.integrations.lightning import host
from tunehook.integrations.lightning.calls import loaders_in
from tunehook.integrations.lightning.hooks import place_of_hook, route_in_hook
from tunehook.trial import InjectionError

_OR_READ = (
    "Make the batch size an argument of the datamodule or module that makes it, or read it before the fit: "
    "batch_size = th.value({!r}, ...)."
)


class LoaderSize:
    """The batch size of the train or validation loaders of a fit.

    Args:
        loop: The fit loop or its validation loop; it holds where the loaders come from, once the fit has begun.
        path: Path of the slot.
        given: Where they will come from, before it has: the loaders that it is given, else the object with the hook.
    """

    def __init__(self, loop: Any, path: str, given: Any = None) -> None:
        self._loop = loop
        self._path = path
        self._value: Any = UNKNOWN
        source = host.data_source(loop)
        self._source = source if given is None else type(source)(given, source.name)
        self._patches = Patches()
        self._has_made = False

    @property
    def exists(self) -> bool:
        """Whether the fit has such loaders at all."""
        return self._source.instance is not None and bool(self._source.is_defined())

    @property
    def passed(self) -> Any:
        """What was passed to fit, ``None`` where a hook makes the loaders."""
        return None if self._source.is_module() else self._source.instance

    def slot(self) -> Slot:
        """The slot, below a constructor argument of the same name.

        Of a loader that the training function was not seen to make, nobody knows what the script has derived from it.
        """
        trace, loaders = trace_in_progress(), [*loaders_in(self.passed)]
        outside = [] if trace is None else [type(one).__name__ for one in loaders if trace.of(one) is None]
        return Slot(
            self._path, get=self.get, set=None if outside else self.set, rank=1, type=int, early=True,
            place=outside[0] if outside else "",
        )  # fmt: skip

    def get(self) -> Any:
        """The present batch size, a list where loaders differ; `UNKNOWN` where a hook makes the loaders later."""
        if self._value is not UNKNOWN:
            return self._value
        if self._source.is_module():
            return UNKNOWN
        sizes = list(dict.fromkeys(loader.batch_size for loader in loaders_in(self._source.instance)))
        return sizes if len(sizes) > 1 else next(iter(sizes), UNKNOWN)

    def set(self, value: Any) -> None:
        """Set the loaders that exist, or see to those that a hook will make during this fit.

        Raises:
            InjectionError: It is no positive integer, or a loader does not make its batches by size.
        """
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise InjectionError(
                f"{self._path} is {value!r}, but a batch size is an integer from 1.\n"
                "  Use a distribution that gives one."
            )
        if not self._source.is_module() and same(self.get(), value):
            pass  # it went into the call that made them
        elif self._source.is_module():
            self._patches.put(self._source, "dataloader", functools.partial(self._made, self._source.dataloader))
        else:
            self._resize(self._source.instance, value)
        self._value = value

    def check_called(self, early: Collection[str]) -> None:
        """Check that the script has derived nothing of the loader of a hook whose calls nobody sees.

        Args:
            early: Such hooks that it has called before the fit.

        Raises:
            InjectionError: It may have, of the old size.
        """
        if self._value is not UNKNOWN and self._source.is_module() and self._source.name in early:
            raise InjectionError(
                f"{self._path} = {self._value} cannot be put in: {self._source.name} was called before the fit, and is "
                f"no method of {type(self._source.instance).__name__}.\n"
                f"  {_OR_READ.format('batch_size')}"
            )

    def undo(self) -> None:
        """Leave the loaders of later fits alone."""
        self._patches.undo()

    def check(self) -> None:
        """Check that the loaders of the running fit have the size.

        Raises:
            InjectionError: One of them has another size.
        """
        combined = host.combined_loader(self._loop)
        if self._value is UNKNOWN or combined is None:
            return
        for loader in loaders_in(combined):
            present = getattr(loader.batch_sampler, "batch_size", loader.batch_size)
            if not same(self._value, present):
                raise InjectionError(
                    f"{self._path} = {self._value} does not reach {type(loader).__name__}, which has batches of "
                    f"{present}.\n"
                    "  Make the batch size an argument of the datamodule or module that makes the loader."
                )

    def check_passed(self, path: str, old: Any, new: Any) -> None:
        """Check that loaders which were passed to fit do not have the old value of a constructor argument.

        Args:
            path: Path of the argument.
            old: What it was.
            new: What was injected.

        Raises:
            InjectionError: One has, most likely because the script gave the argument to the loader too.
        """
        if self._value is UNKNOWN and not self._source.is_module() and same(self.get(), old):
            raise InjectionError(
                f"{path} = {new!r} does not reach the loader that was passed to fit, which has batches of {old!r}.\n"
                f"  Write '{self._path}' in the space, or make the loader in {path.split('.')[0]}'s train_dataloader."
            )

    def _made(self, make: Any) -> Any:
        """What the hook makes, with the size in its calls; where nothing traces them, set when they are made."""
        trace = trace_in_progress()
        before = [] if trace is None else [*trace.calls]
        made = make()
        if trace is not None:
            place = place_of_hook(self._source.instance, self._source.name)
            calls = [(type(loader).__name__, trace.of(loader)) for loader in loaders_in(made)]
            for name, call in calls if trace.fits == 1 else ():
                self._check_made_now(name, call, before, place)
            self._check_returned(trace, [call for _, call in calls if call is not None], before, place)
        self._resize(made, self._value)
        return made

    def _check_made_now(self, name: str, call: Call | None, before: list[Call], place: str) -> None:
        """Check that the hook makes a loader, and now: else something may be derived of its old size."""
        is_old = call is None or (call in before and not same(call.in_force().get("batch_size"), self._value))
        if is_old or (call is not None and call.place != place and route_in_hook(call)):
            raise InjectionError(
                f"{self._path} = {self._value} cannot be put in: {self._source.name} gives the "
                f"{name if call is None else call.name}, which {'was made before' if is_old else 'another hook makes'}."
                "\n  Make the batch size an argument of the datamodule or module that makes it."
            )

    def _check_returned(self, trace: Trace, returned: list[Call], before: list[Call], place: str) -> None:
        """Check that no other loader of the hook took the value, such as one for statistics.

        Of the calls of the hook before the first fit nobody sees what they returned, but where they made it.
        """
        routes = [route_in_hook(call) for call in returned if call.place == place]
        may_be_older = self._has_made or trace.fits > 1
        self._has_made = True
        for call in trace.calls:
            if call in returned or call.place != place or "batch_size" not in call.edits:
                continue
            if call not in before or not (may_be_older or route_in_hook(call) in routes):
                raise InjectionError(
                    f"{self._path} = {self._value} has gone into the {call.name} too, which {self._source.name} makes "
                    f"and does not return.\n  {_OR_READ.format(call.edits['batch_size'])}"
                )

    def _resize(self, source: Any, value: int) -> None:
        loaders = list(loaders_in(source))
        if not loaders:
            raise InjectionError(
                f"{self._path} = {value} cannot be injected: {type(source).__name__} is no torch DataLoader.\n"
                "  Make the batch size an argument of the datamodule or module that makes it."
            )
        for loader in loaders:
            if loader.batch_size is None or type(loader.batch_sampler) is not BatchSampler:
                kind = "no batch size" if loader.batch_sampler is None else "a batch sampler of its own"
                raise InjectionError(
                    f"{self._path} = {value} cannot be injected: a {type(loader).__name__} has {kind}.\n"
                    "  Make the batch size an argument of the datamodule or module that makes it."
                )
        for loader in loaders:
            _set_size(loader, value)


def _set_size(loader: Any, value: int) -> None:
    # object.__setattr__, for DataLoader refuses the change, and Lightning records changes to replay them
    object.__setattr__(loader.batch_sampler, "batch_size", value)
    object.__setattr__(loader, "batch_size", value)
    for made in (loader, loader.batch_sampler):
        host.set_saved(made, "batch_size", value)
