"""What is searched: distributions by name."""

from tunehook.space.distributions import Choice, Distribution, Fixed, Float, Int, LogNormal, Normal, SpaceError
from tunehook.space.space import GridExhausted, Space

__all__ = [
    "Choice", "Distribution", "Fixed", "Float", "GridExhausted", "Int", "LogNormal", "Normal", "Space", "SpaceError",
]  # fmt: skip
