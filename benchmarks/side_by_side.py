"""Variants that take turns, so that noise hits all alike, and their ratios to the first."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping


def side_by_side(variants: Mapping[str, Callable[[], object]], *, rounds: int) -> dict[str, list[float]]:
    """Seconds of each variant in each round; the variants take turns, so that noise hits all alike."""
    for variant in variants.values():  # warm up
        variant()
    times: dict[str, list[float]] = {name: [] for name in variants}
    order = list(variants)
    for _ in range(rounds):
        order.append(order.pop(0))
        for name in order:
            start = time.perf_counter()
            variants[name]()
            times[name].append(time.perf_counter() - start)
    return times


def print_ratios(times: Mapping[str, list[float]], base: str, *, unit: float = 1e3, name: str = "ms") -> None:
    """Medians, and medians of the ratios within a round to the base."""
    print(f"{'':44}{'median ' + name:>12}{'x ' + base:>16}")
    for variant, seconds in times.items():
        ratio = statistics.median(a / b for a, b in zip(seconds, times[base], strict=True))
        print(f"{variant:44}{statistics.median(seconds) * unit:12.2f}{ratio:16.3f}")
