"""Tables of trials for a terminal, which stay readable where it is narrow."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich import box
from rich.cells import cell_len, set_cell_size
from rich.table import Table
from rich.text import Text

from tunehook.system.words import printable, short, shortened

_STYLES = {
    "running": "cyan", "complete": "green", "pruned": "yellow", "infeasible": "magenta", "failed": "red",
    "interrupted": "yellow", "paused": "blue", "known": "dim", "lost": "red",
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """A trial in a table.

    Attributes:
        number: Its number.
        state: Its state.
        params: Its values.
        value: The metric.
        step: The step of that.
        time: How long it took, as it is to be shown.
        is_best: Whether it is the best one, or one of the front.
        others: Further metrics, where they are known.
    """

    number: int
    state: str
    params: Mapping[str, Any]
    value: float | None
    step: int | None
    time: str
    is_best: bool = False
    others: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True)
class _Way:
    """A way to write a table.

    Attributes:
        names: Hyperparameters that have a column.
        has_lines: Whether there are lines between the cells.
        piece: How wide a piece of a name may be where its values are narrower; names are whole without.
        digits: Significant digits of a hyperparameter.
        cell: How wide a value may be.
        others: What else has a column, behind the metric.
    """

    names: Sequence[str]
    has_lines: bool = False
    piece: int | None = 9
    digits: int = 3
    cell: int = 10
    others: Sequence[str] = ()


def make_table(
    title: str, rows: Sequence[Row], names: Sequence[str], metric: str, *, others: Sequence[str] = (), width: int
) -> Table:
    """A table of trials that fits into a width.

    Values come first: where there is too little room, names are shortened and broken, then lines, digits, steps and
    seconds are left out, and at last the columns of hyperparameters, from the right.

    Args:
        title: What stands above it.
        rows: The trials.
        names: Names of the hyperparameters.
        metric: Name of the metric.
        others: Names of further ones. Defaults to none.
        width: Columns of the terminal.
    """
    for way in _ways(names):
        columns = _columns(way, rows, names, metric, others)
        if sum(column[0] for column in columns) + _gaps(way, len(columns)) <= width:
            break
    return _drawn(title, way, columns)


def _ways(names: Sequence[str]) -> Iterator[_Way]:
    """From the widest one to the narrowest."""
    both = ("step", "seconds")
    yield _Way(names, has_lines=True, piece=None, digits=4, cell=20, others=both)
    yield _Way(names, has_lines=True, piece=12, digits=4, cell=20, others=both)
    yield _Way(names, piece=12, digits=4, cell=20, others=both)
    yield _Way(names, others=both)
    yield _Way(names, others=("seconds",))
    yield _Way(names)
    yield _Way(names, piece=6, cell=8)
    for many in reversed(range(len(names))):
        yield _Way(names[:many], piece=6, cell=8)


def _gaps(way: _Way, columns: int) -> int:
    return 3 * columns + 1 if way.has_lines else 2 * (columns - 1)


def _columns(
    way: _Way, rows: Sequence[Row], names: Sequence[str], metric: str, further: Sequence[str]
) -> list[tuple[int, str, list[Text]]]:
    """Width, head and cells of each column."""

    def values(name: str) -> list[str]:
        return [_cut(short(row.params.get(name), digits=way.digits), way.cell) for row in rows]

    called = dict(zip(names, names, strict=True)) if way.piece is None else shortened(names)
    left_out = len(names) - len(way.names)
    others = {"step": [short(row.step) for row in rows], "seconds": [row.time for row in rows]}
    found = [
        ("trial", [f"{row.number}{' *' if row.is_best else ''}" for row in rows]),
        ("state", [row.state for row in rows]),
        *((called[name], values(name)) for name in way.names),
        *([(f"+{left_out}", ["…"] * len(rows))] if left_out else []),
        (metric, [short(row.value) for row in rows]),
        *((name, [short(row.others.get(name)) for row in rows]) for name in further),
        *((name, others[name]) for name in way.others),
    ]
    columns = []
    for number, (name, cells) in enumerate(found):
        name, cells = printable(name), [*map(printable, cells)]
        head, width = _head(name, max(map(cell_len, cells), default=0), piece=way.piece)
        # Text throughout: rich would read [...] in names, values and states as markup.
        styles = [_STYLES.get(row.state, "") if number == 1 else "" for row in rows]
        columns.append((width, head, [Text(cell, style) for cell, style in zip(cells, styles, strict=True)]))
    return columns


def _head(name: str, values: int, *, piece: int | None) -> tuple[str, int]:
    """A name above its values, and the width of both."""
    if piece is None:
        return name, max(cell_len(name), values)
    pieces = _pieces(name)
    width = max(values, min(piece, max(map(cell_len, pieces))))
    lines = [""]
    for one in pieces:
        if cell_len(lines[-1] + one) > width and lines[-1]:
            lines.append("")
        lines[-1] += one
    return "\n".join(_cut(line, width) for line in lines), width


def _cut(text: str, width: int) -> str:
    return text if cell_len(text) <= width else set_cell_size(text, width - 1) + "…"


def _pieces(name: str) -> list[str]:
    """A name in pieces, broken before its joints; a number stays with what it counts."""
    return re.findall(r"[._/-]?[^._/-]+(?:_\d+)*|[._/-]", name) or [""]


def _drawn(title: str, way: _Way, columns: Sequence[tuple[int, str, list[Text]]]) -> Table:
    table = Table(
        title=Text(printable(title)),
        title_justify="left",
        box=box.HEAVY_HEAD if way.has_lines else None,
        pad_edge=way.has_lines,
    )
    for number, (width, head, _) in enumerate(columns):
        justify: Any = "left" if number == 1 else "right"
        table.add_column(Text(head), justify=justify, width=width, no_wrap=True, vertical="bottom")
    for cells in zip(*(cells for _, _, cells in columns), strict=True):
        table.add_row(*cells)
    return table
