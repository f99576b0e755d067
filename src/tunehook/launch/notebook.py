"""The live table in a notebook: one output of the cell, which is replaced as the search goes on."""

from __future__ import annotations

import html
import sys
from collections.abc import Sequence
from typing import Any

from tunehook.system import Row, printable, short

_LONGEST = 100  # characters of a name or value
_LEFT, _RIGHT = 'style="text-align:left"', 'style="text-align:right"'


def is_notebook() -> bool:
    """Whether this process is the kernel of a notebook, which shows HTML."""
    found = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return hasattr(found, "kernel")  # a shell in a terminal has none


class NotebookTable:
    """A table in the output of the cell that runs."""

    def __init__(self) -> None:
        self._handle: Any = None

    def show(self, page: str) -> None:
        """Show it, in place of what was shown before."""
        from IPython.display import HTML, display

        if self._handle is None:
            self._handle = display(HTML(page), display_id=True)
        else:
            self._handle.update(HTML(page))


def page_of(title: str, rows: Sequence[Row], names: Sequence[str], metrics: Sequence[str], below: str) -> str:
    """Trials as a table in HTML, in which no name or value is markup.

    Args:
        title: What stands above it.
        rows: The trials.
        names: Names of the hyperparameters.
        metrics: Names of the metrics, the tuned one first.
        below: What stands below it.
    """
    heads = ["trial", "state", *names, *metrics, "step", "seconds"]
    lines = [
        [f"{row.number}{' *' if row.is_best else ''}", row.state, *(short(row.params.get(name)) for name in names),
         short(row.value), *(short(row.others.get(name)) for name in metrics[1:]), short(row.step), row.time]
        for row in rows
    ]  # fmt: skip
    head = "".join(f'<th scope="col" {_side(at)}>{_cell(name)}</th>' for at, name in enumerate(heads))
    body = "".join(
        "<tr>" + "".join(f"<td {_side(at)}>{_cell(text)}</td>" for at, text in enumerate(line)) + "</tr>"
        for line in lines
    )
    return (
        f'<table><caption {_LEFT}>{_cell(title)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
        f"<p>{_cell(below)}</p>"
    )  # fmt: skip


def _side(at: int) -> str:
    return _LEFT if at == 1 else _RIGHT


def _cell(text: str) -> str:
    told = printable(text)
    return html.escape(told if len(told) <= _LONGEST else f"{told[: _LONGEST - 1]}…")
