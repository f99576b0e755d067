"""Settings of optimizers and schedulers where the training of another trial is gone on with, whose values were others.

A restored optimizer has the settings of the one that was kept. Those that were made otherwise now, of this trial's
values, take their places: a setting that is a number as it is; a learning rate that a schedule has changed since, by
the same factor.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunehook.adapter import scaled
from tunehook.inject import same


@dataclass(frozen=True)
class Settings:
    """The settings of a fit's optimizers and schedulers before the first step.

    Attributes:
        optimizers: Of each optimizer the settings of its parameter groups.
        rates: Of each scheduler, and those within it, the learning rates from which it starts.
    """

    optimizers: Sequence[Sequence[Mapping[str, Any]]]
    rates: Sequence[Sequence[Sequence[float]]]

    @classmethod
    def of(cls, trainer: Any) -> Settings:
        """Those of a Trainer."""
        groups = [[_settings(group) for group in one.param_groups] for one in trainer.optimizers]
        schedulers = [config.scheduler.state_dict() for config in trainer.lr_scheduler_configs]
        return cls(groups, [[list(part.get("base_lrs", ())) for part in _parts(one)] for one in schedulers])

    def put_into(self, checkpoint: Mapping[str, Any], *, made_with: Settings) -> None:
        """Let a checkpoint restore these settings where they differ from those that it was made with.

        Args:
            checkpoint: The checkpoint, which is changed in place.
            made_with: The settings with which its own training was made.

        Raises:
            ValueError: It has other optimizers, or other parameter groups.
        """
        states = checkpoint["optimizer_states"]
        for state, mine, theirs in zip(states, self.optimizers, made_with.optimizers, strict=True):
            for group, new, old in zip(state["param_groups"], mine, theirs, strict=True):
                for key, value in new.items():
                    if not same(value, old.get(key)):
                        group[key] = scaled(_plain(group[key]), old[key], value) if key == "lr" else value
        for state, rates, before in zip(checkpoint["lr_schedulers"], self.rates, made_with.rates, strict=True):
            for part, starts, old_starts in zip(_parts(state), rates, before, strict=True):
                if starts != old_starts:
                    part["base_lrs"] = list(starts)
                    if "_last_lr" in part:
                        triples = zip(part["_last_lr"], old_starts, starts, strict=True)
                        part["_last_lr"] = [scaled(*triple) for triple in triples]


def _settings(group: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _plain(value) for key, value in group.items() if key != "params"}


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value


def _parts(state: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The state of a scheduler, and those of the schedulers within it."""
    yield dict(state) if not isinstance(state, dict) else state
    for inner in state.get("_schedulers", ()):
        if isinstance(inner, Mapping):
            yield from _parts(inner)
