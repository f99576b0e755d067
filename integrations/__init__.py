"""Thin adapters between frameworks and the core: flat modules, one for each framework."""
