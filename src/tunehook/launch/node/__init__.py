"""The trial processes of this machine."""

from typing import TYPE_CHECKING

from tunehook.launch.node.function import pickled
from tunehook.launch.node.globals import kept_state, put_state
from tunehook.system import lazily

if TYPE_CHECKING:
    from tunehook.launch.node.node import Node as Node

__all__ = [
    "Node", "kept_state", "pickled", "put_state",
]  # fmt: skip

__getattr__ = lazily(
    __name__,
    {
        "Node": "node",
    },
)
