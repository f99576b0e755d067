"""The batch size of data loaders, where no constructor argument of the user's holds it."""

from __future__ import annotations

import functools
from typing import Any

from torch.utils.data import BatchSampler

from tunehook.adapter import Patches
from tunehook.inject import UNKNOWN, Slot, same
from tunehook.integrations.lightning import host
from tunehook.integrations.lightning.calls import loaders_in
from tunehook.trial import InjectionError


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

    @property
    def exists(self) -> bool:
        """Whether the fit has such loaders at all."""
        return self._source.instance is not None and bool(self._source.is_defined())

    @property
    def passed(self) -> Any:
        """What was passed to fit, ``None`` where a hook makes the loaders."""
        return None if self._source.is_module() else self._source.instance

    def slot(self) -> Slot:
        """The slot, below a constructor argument of the same name."""
        return Slot(self._path, get=self.get, set=self.set, rank=1, type=int, early=self.passed is not None)

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
            self._patches.put(self._source, "dataloader", functools.partial(self._resized, self._source.dataloader))
        else:
            self._resize(self._source.instance, value)
        self._value = value

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

    def _resized(self, make: Any) -> Any:
        made = make()
        self._resize(made, self._value)
        return made

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
