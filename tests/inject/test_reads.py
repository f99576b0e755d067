"""What the code of a class reads, where classes replace each other's methods."""

from __future__ import annotations

from typing import Any

import pytest

from tunehook.inject import is_read


class Base:
    """A framework's class."""

    hparams: Any


class Net(Base):
    """Reads its argument from what is saved, in a method."""

    def __init__(self, lr: float = 0.1) -> None:
        super().__init__()

    def rate(self) -> Any:
        """The saved argument."""
        return self.hparams.lr


class Same(Net):
    """Leaves the method alone."""


class More(Net):
    """Calls the method that it replaces."""

    def rate(self) -> Any:
        """Half of it."""
        return super().rate() / 2


class ByName(Net):
    """The same, by the name of the class."""

    def rate(self) -> Any:
        """Half of it."""
        return Net.rate(self) / 2


class Other(Net):
    """Has a rate of its own."""

    def rate(self) -> Any:
        """What is typed in here."""
        return 0.5


class Below(Other):
    """Calls the method that reads nothing."""

    def rate(self) -> Any:
        """Half of it."""
        return super().rate() / 2


@pytest.mark.parametrize(
    ("cls", "expected"), [(Net, True), (Same, True), (More, True), (ByName, True), (Other, False), (Below, False)]
)
def test_a_method_that_is_replaced_reads_nothing(cls: type, expected: bool) -> None:
    """Unless the one that replaces it calls it."""
    assert is_read(cls, Base, "lr") is expected
