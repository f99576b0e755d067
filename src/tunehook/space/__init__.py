"""What is searched: distributions by name."""

from tunehook.space.choices import Choice, Fixed
from tunehook.space.distribution import Distribution, SpaceError
from tunehook.space.foreign import fitting
from tunehook.space.normals import LogNormal, Normal
from tunehook.space.numbers import Float, Int
from tunehook.space.space import GridExhausted, Space

__all__ = [
    "Choice", "Distribution", "Fixed", "Float", "GridExhausted", "Int", "LogNormal", "Normal", "Space", "SpaceError",
    "fitting",
]  # fmt: skip
