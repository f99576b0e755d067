"""Tracing the random state from construction to fit, so that a trial draws what the plain script would draw."""

from __future__ import annotations

from typing import Any

from tunehook.errors import InjectionError
from tunehook.integrations import lightning_record as record
from tunehook.integrations.lightning_construct import Construction

State = dict[str, Any]


class Replay:
    """Traces the random state from construction to fit, as it was and as it would be with the new arguments.

    Args:
        now: The state in callback.setup.
        seed: What torch was seeded with last; restoring a state changes that too.
        names: The new arguments, for messages.
    """

    def __init__(self, now: State, seed: int, names: str) -> None:
        self.now = now
        self._seed = seed
        self._names = names
        self._where = ""
        self._old: State | None = None
        self._new: State | None = None
        self._unknown = False
        self._last: Construction | None = None

    @property
    def shifted(self) -> bool:
        """Whether the new arguments draw another number of random values, up to fit."""
        if self._old is not None and self._new is not None and not record.same_random(self._old, self._new):
            self._trace()
        return self._old is not None and self._new is not None and not record.same_random(self._old, self._new)

    def start(self, part: Construction) -> State:
        """Where the construction of a part begins with the new arguments."""
        begins = self.now if part.random is None else dict(part.random)
        seed = self._seed if part.call is None else int(part.call["seed"])
        return self._moved(begins, seed, f"the construction of {part.name}")

    def skip(self, part: Construction, start: State) -> None:
        """Leave a part as it is; from its end on nothing is shifted if it began where it did before."""
        self._where = part.name
        if self._old is not None and part.random is not None and record.same_random(start, part.random):
            self._last = part

    def _trace(self) -> None:
        """Find where the last part ended that was left alone; it is built again only if that matters."""
        if self._last is not None and self._last.random is not None:
            _, end = self._last.build({}, self._last.random)
            self._old = self._new = end
            self._last = None

    def advance(self, part: Construction, old: State, new: State) -> None:
        """Note where the construction of a part ended, with the old and with the new arguments."""
        self._where = part.name
        self._last = None
        self._old, self._new = old, new
        self._unknown = part.random is None

    def end(self, before: State | None = None) -> State:
        """The state that the plain script would have, where it was ``before`` (default: now)."""
        return self._moved(self.now if before is None else before, self._seed, "fit")

    def candidates(self) -> list[State]:
        """States that are explained: the end of the last construction, and freshly seeded ones."""
        self._trace()
        fresh = record.fresh_random(self._seed)
        last = self.now if self._old is None else self._old
        of_torch = {name: fresh[name] for name in ("torch", "cuda") if name in fresh}
        return [last, {**last, **fresh}, {**last, **of_torch}]

    def lost(self, until: str) -> None:
        """Raise if the script is seeded: the state cannot be traced."""
        if record.is_seeded(self._seed):
            raise InjectionError(
                f"{self._names}: the random state moved between the construction of {self._where} and {until} by code "
                "that cannot be replayed, so that the trial would not equal the same script with the value typed in.\n"
                f"  Construct {self._where} right before trainer.fit, or call seed_everything again right before it."
            )

    def _moved(self, state: State, seed: int, until: str) -> State:
        """``state``, moved by what the new arguments draw more or less, one generator at a time."""
        if self._old is None or self._new is None or record.same_random(self._old, self._new):
            return state
        self._trace()
        fresh = record.fresh_random(seed)
        moved = dict(state)
        for name in state:
            if name not in self._new or record.same_part(name, self._old, self._new):
                continue
            if record.same_part(name, state, self._old) and not self._unknown:
                moved[name] = self._new[name]
            elif name not in fresh or not record.same_part(name, state, fresh):
                self.lost(until)
        return moved
