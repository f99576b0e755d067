"""Trials as tasks of a Ray cluster."""

from tunehook.integrations.ray.launcher import RayLauncher

__all__ = ["RayLauncher"]
