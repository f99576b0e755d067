"""What stands in files that someone else has written, and limits for those who read it."""

from __future__ import annotations

import contextlib
import copy
import json
import os
import re
import resource
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

# A name that does what it can to a terminal.
ESCAPES = "\x1b[2J\x1b]0;owned\x07 \x9b31m \r\n\u202egnp.exe \u2066x\u2028 \ud800 \x7f\b日本"
# What may reach a terminal: letters, marks and lines.
UNSEEN = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b\u2028-\u202e\u2060-\u206f\ud800-\udfff]")
# A few hundred keep the tests fast; TUNEHOOK_TEST_EXAMPLES=10000 looks longer.
EXAMPLES = int(os.environ.get("TUNEHOOK_TEST_EXAMPLES", "200"))
# Only so that what hangs ends: what is read here takes milliseconds.
SECONDS = 30
MEMORY = 2 * 2**30  # bytes above what the process has already

fuzzed = settings(
    max_examples=EXAMPLES, deadline=None, database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large],
)  # fmt: skip

_texts = st.text(max_size=20) | st.sampled_from([
    "", "NaN", "nan", "max", "Choice", "complete", "\ud800", "\0", "../../etc/passwd", "/dev/zero", "\x1b[2J",
    "[" * 300, "(" * 150, "-" * 5000, "1" * 5000, "9" * 400, "x" * 5000, "[1, 2", "{}", "'a'", "0007-1b2c3d4e",
])  # fmt: skip
_numbers = (
    st.integers()
    | st.floats()
    | st.sampled_from(
        [
            0,
            -1,
            1,
            2**31,
            2**63 - 1,
            2**63,
            2**64,
            10**18,
            10**400,
            -(10**400),
            1e308,
            -1e308,
            5e-324,
            -0.0,
            float("nan"),
        ]
    )
)
# Anything that JSON can say.
values = st.recursive(
    st.none() | st.booleans() | _numbers | _texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_texts, inner, max_size=4),
    max_leaves=10,
)


def _places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield place
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inner:
        yield from _places(one, (*place, key))


@st.composite
def changed(draw: st.DrawFn, genuine: Any) -> Any:
    """A value that was genuine, with up to three changes: something else, something less, something more."""
    whole = {"": copy.deepcopy(genuine)}
    for _ in range(draw(st.integers(0, 3))):
        *way, last = draw(st.sampled_from([*_places(whole)][1:] or [("",)]))
        within: Any = whole
        for key in way:
            within = within[key]
        how = draw(st.sampled_from(["else", "else", "less", "more"]))
        if how == "less" and way:
            del within[last]
        elif how == "more" and isinstance(within[last], dict):
            within[last][draw(_texts)] = draw(values)
        elif how == "more" and isinstance(within[last], list):
            within[last].append(draw(values))
        else:
            within[last] = draw(values)
    return whole[""]


@st.composite
def documents(draw: st.DrawFn, *genuine: Any, many: int = 200_000) -> bytes:
    """A document in JSON that was genuine, or one that never was, such as a list of many numbers."""
    kind = draw(st.sampled_from(["changed"] * 6 + ["torn", "bytes", "deep", "long"]))
    if kind == "bytes":
        return draw(st.binary(max_size=200))
    if kind == "deep":
        opening = draw(st.sampled_from([b"[", b'{"a":', b'[{"":']))
        return opening * draw(st.sampled_from([90, 101, 1000, 100_000]))
    if kind == "long":
        return b"[" + b"0," * draw(st.sampled_from([10, many])) + b"0]"
    text = json.dumps(draw(changed(draw(st.sampled_from(genuine))))).encode()
    return text[: draw(st.integers(0, len(text)))] if kind == "torn" else text


@contextlib.contextmanager
def limited() -> Iterator[None]:
    """End what takes endlessly long, and give it no endless memory."""

    def over(*_: object) -> None:
        raise AssertionError(f"it takes longer than {SECONDS} s")

    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    before = signal.signal(signal.SIGALRM, over)
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, hard))
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
