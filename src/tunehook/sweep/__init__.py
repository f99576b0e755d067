"""Sweep files of W&B, read as spaces."""

from typing import TYPE_CHECKING

from tunehook.system import lazily

if TYPE_CHECKING:
    from tunehook.sweep.read import read_space as read_space

__all__ = [
    "read_space",
]  # fmt: skip

__getattr__ = lazily(
    __name__,
    {
        "read_space": "read",
    },
)
