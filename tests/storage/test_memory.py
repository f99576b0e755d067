"""What is remembered of a storage where reports are judged."""

from __future__ import annotations

from typing import Any

from tunehook.storage.memory import SHARE, Memory


def test_reading_takes_a_share_of_the_time() -> None:
    """What took a second to read is good for twenty."""
    now, reads = 0.0, 0
    memory = Memory(clock=lambda: now)

    def read() -> list[Any]:
        nonlocal now, reads
        now, reads = now + 1.0, reads + 1
        return [reads]

    seen = []
    for _ in range(50):
        seen.append(memory.trials(read))
        now += 1.0
    assert [one[0] for one in seen] == [1] * 21 + [2] * 21 + [3] * 8
    assert SHARE == 1 / 20


def test_what_is_written_here_counts_at_once() -> None:
    """A state or an attribute by which others are judged; attributes of the trials here are read once."""
    memory = Memory(clock=lambda: 0.0)
    assert memory.trials(lambda: [1]) == memory.trials(lambda: [2]) == [1]  # type: ignore[list-item]
    assert memory.attributes(7, lambda: {"a": 1}) == memory.attributes(7, dict) == {"a": 1}
    memory.note(7, "b", 2)
    assert memory.attributes(7, dict) == {"a": 1, "b": 2}
    assert memory.trials(lambda: [3]) == [3]  # type: ignore[list-item]
    memory.forget(7)
    assert memory.attributes(7, dict) == {}
    assert memory.trials(lambda: [4]) == [4]  # type: ignore[list-item]
