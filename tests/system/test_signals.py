"""SIGTERM, held back until the epoch has ended where that is soon."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tunehook.session.in_progress import sigterm_raised
from tunehook.system import signals as notice
from tunehook.system.signals import Notice, Terminated


class Clock:
    """Seconds that pass when they are told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """A clock."""
    return Clock()


@pytest.fixture
def listening(clock: Clock) -> Iterator[Notice]:
    """A notice in a process that SIGTERM ends by an exception."""
    with sigterm_raised():
        made = Notice(clock=clock)
        made.open()
        yield made
        made.close()
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def terminate() -> None:
    """Send it to this process."""
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(0.01)


def test_an_epoch_that_ends_soon_is_ended(clock: Clock, listening: Notice) -> None:
    """The one before took so long that this one has five seconds left; then the training ends."""
    listening.begin_epoch()
    clock.now = 20.0
    listening.begin_epoch()
    clock.now = 36.0
    assert not listening.is_given
    terminate()
    assert listening.is_given
    with pytest.raises(Terminated):
        listening.pass_on()


def test_a_second_one_ends_it_at_once(clock: Clock, listening: Notice) -> None:
    """Whoever sends two does not wait."""
    listening.begin_epoch()
    listening.begin_epoch()
    terminate()
    with pytest.raises(Terminated):
        terminate()


@pytest.mark.parametrize("epochs", [0, 1, 2])
def test_what_takes_longer_ends_at_once(clock: Clock, listening: Notice, epochs: int) -> None:
    """A first epoch, of which nothing is known, and one of twenty seconds that has just begun."""
    for _ in range(epochs):
        clock.now += 20.0
        listening.begin_epoch()
    with pytest.raises(Terminated):
        terminate()
    assert not listening.is_given


def test_an_epoch_that_takes_longer_than_expected_ends(
    clock: Clock, listening: Notice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever sends one has not for ever."""
    monkeypatch.setattr(notice, "SOON", 0.1)
    monkeypatch.setattr(notice, "LATE", 0.1)
    listening.begin_epoch()
    listening.begin_epoch()
    terminate()
    with pytest.raises(Terminated):
        time.sleep(20)


def test_where_it_means_nothing_it_stays_so(clock: Clock) -> None:
    """A process that it kills, and one that ignores it, are left as they are; so is a handler that came later."""
    for handler in (signal.SIG_DFL, signal.SIG_IGN):
        before = signal.signal(signal.SIGTERM, handler)
        made = Notice(clock=clock)
        made.open()
        assert signal.getsignal(signal.SIGTERM) == handler
        made.close()
        signal.signal(signal.SIGTERM, before)
    seen: list[int] = []
    first = signal.signal(signal.SIGTERM, lambda number, _: seen.append(number))
    made = Notice(clock=clock)
    made.open()
    inner: Any = signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGTERM, lambda number, frame: inner(number, frame))
    made.close()
    terminate()
    assert seen == [signal.SIGTERM]
    signal.signal(signal.SIGTERM, first)
