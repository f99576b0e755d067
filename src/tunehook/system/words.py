"""Words for messages: names that are near to another, errors in a line, numbers and times as people read them."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

# Controls, marks of direction, ends of lines, what has no width (but for joiners, of which letters and emoji consist),
# and halves of characters.
_UNSEEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff]"
)
_LONGEST = 500  # characters of a text in a cell
_COMPARED = 1000  # names, and characters of a name, that are compared


def near(name: str, names: Iterable[str], *, most: int = 3) -> list[str]:
    """The names that look like another one, nearest first.

    Args:
        name: What was written.
        names: What there is.
        most: How many at most.
    """
    import difflib  # takes as long to import as the rest of this package, and is for errors only

    few = itertools.islice(dict.fromkeys(names), _COMPARED)  # it takes a millisecond for each ten
    return difflib.get_close_matches(name[:_COMPARED], list(few), n=most)


def did_you_mean(names: Sequence[str], *, show: Callable[[str], str] = repr) -> str:
    """The sentence that offers names, with a space before it; empty where there are none.

    Args:
        names: Names that are near to what was written.
        show: How one is written.
    """
    return f" Did you mean {' or '.join(map(show, names))}?" if names else ""


def shown(value: object, *, most: int = 500) -> str:
    """The ``repr`` of a value for a message, cut off behind so many characters; nothing raises.

    Args:
        value: Anything.
        most: Characters.
    """
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - such as a number of 5,000 digits, or lists in lists without end
        return f"a value of type {type(value).__name__}"
    return text if len(text) <= most else f"{text[:most]}..."


def printable(text: str) -> str:
    """A text for a terminal, in a line: what would move its cursor, color it or turn its letters around is escaped."""
    return _UNSEEN.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def encodable(text: str, stream: object) -> str:
    """A text that a stream can write, whatever its encoding; what that lacks is escaped."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def joined(names: Sequence[str]) -> str:
    """Names in a sentence: ``a, b and c``."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def first_line(said: object) -> str:
    """The first line with words of a text, or of what an error says; empty where there is none."""
    return next(_lines(said), "")


def last_line(said: object) -> str:
    """The last one, where a traceback says what was raised."""
    return next(reversed([*_lines(said)]), "")


def _lines(said: object) -> Iterator[str]:
    return (line.strip() for line in str(said).splitlines() if line.strip())


def told_values(params: Mapping[str, Any]) -> str:
    """Hyperparameters in a line."""
    return " ".join(f"{name}={short(value)}" for name, value in params.items())


def html_table(title: str, rows: Iterable[tuple[str, str]]) -> str:
    """A table of names and texts for a notebook; nothing in it is markup."""
    import html

    def cell(text: str) -> str:
        return html.escape(printable(text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"))

    left = 'style="text-align:left"'
    body = "".join(
        f'<tr><th scope="row" {left}>{cell(name)}</th><td {left}>{cell(text)}</td></tr>' for name, text in rows
    )
    return f"<table><caption>{cell(title)}</caption><tbody>{body}</tbody></table>"


def shortened(names: Sequence[str]) -> dict[str, str]:
    """Names without what comes before their last dot, as far as that leaves them apart."""
    endings = {name: [name, *(name[dot.end() :] for dot in re.finditer(r"\.", name))][::-1] for name in names}
    counts = Counter(ending for found in endings.values() for ending in found)
    return {name: next((one for one in found if one and counts[one] == 1), name) for name, found in endings.items()}


def short(value: Any, *, digits: int = 4) -> str:
    """A value as people want to read it: some significant digits, lists and dicts as they are.

    Args:
        value: The value.
        digits: Significant digits of a float; with fewer than four the shortest form is taken.
    """
    if value is None:
        return "-"
    if not isinstance(value, float):
        return printable(str(value))
    text = f"{value:.{digits}g}"
    if digits >= 4 or not re.search(r"\d", text):
        return text
    mantissa, _, exponent = f"{value:.{digits - 1}e}".partition("e")
    tiny = f"{mantissa.rstrip('0').rstrip('.') if '.' in mantissa else mantissa}e{int(exponent)}"
    return min(text, tiny, key=len)


def clock(seconds: float) -> str:
    """A duration as ``h:mm:ss`` or ``m:ss``."""
    minutes, rest = divmod(round(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
