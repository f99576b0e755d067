"""Sweep files of W&B, read as spaces."""

from typing import TYPE_CHECKING

from tunehook.system import lazily

if TYPE_CHECKING:
    from tunehook.sweep.read import quantized as quantized
    from tunehook.sweep.read import read_space as read_space

__all__ = [
    "quantized",
    "read_space",
]  # fmt: skip

__getattr__ = lazily(
    __name__,
    {
        "quantized": "read",
        "read_space": "read",
    },
)
