"""Pieces of a page: every text of a study is escaped here, and nowhere else."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tunehook.figures import Figure
from tunehook.system import printable

LONGEST = 500  # characters of a value on a page


def text(value: object) -> str:
    """A text of one line, as it stands on a page: it is no markup, and turns no letters around."""
    return html.escape(cut(value))


def cut(value: object, *, most: int = LONGEST) -> str:
    """A text of one line, in short where it is long."""
    told = printable(str(value))
    return told if len(told) <= most else f"{told[:most]}… ({len(told):,} characters)"


def lines(value: str, *, most: int = 20_000) -> str:
    """A text of several lines."""
    told = "\n".join(map(printable, value.split("\n")))
    return html.escape(told if len(told) <= most else f"{told[:most]}…")


def embedded(value: Any) -> str:
    """A value as JSON within a page, which ends no element of it."""
    return json.dumps(value, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, caption: str = "") -> str:
    """A table whose first column names the rows; cells are texts."""
    heads = "".join(f'<th scope="col">{text(one)}</th>' for one in head)
    body = "".join(
        f'<tr><th scope="row">{text(row[0])}</th>' + "".join(f"<td>{text(one)}</td>" for one in row[1:]) + "</tr>"
        for row in rows
    )
    told = f"<caption>{text(caption)}</caption>" if caption else ""
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{text(caption or head[0])}"><table>{told}'
        f"<thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def pairs(values: Mapping[str, Any], *, caption: str, head: tuple[str, str] = ("hyperparameter", "value")) -> str:
    """A table of names and values."""
    return table(head, [(name, repr(value)) for name, value in values.items()], caption=caption)


def tiles(values: Iterable[tuple[str, str]]) -> str:
    """A row of numbers, each with what it is."""
    each = "".join(f"<li><b>{text(value)}</b><span>{text(name)}</span></li>" for name, value in values)
    return f'<ul class="tiles">{each}</ul>'


def code(name: str, title: str, content: str) -> str:
    """A text to copy."""
    return (
        f'<h3 id="{name}-title">{text(title)}</h3><pre id="{name}" tabindex="0" aria-labelledby="{name}-title">'
        f'{lines(content, most=100_000)}</pre><button type="button" data-copy="{name}">Copy</button>'
    )


def folded(title: str, content: str) -> str:
    """What is seen once it is asked for."""
    return f"<details><summary>{text(title)}</summary>{content}</details>"


def drawing(figure: Figure, *, attributes: str = "") -> str:
    """The place of a figure, with what is to be seen in it in words, and as a table where it has one."""
    name = f"plot-{figure.name}"
    rows = folded("As a table", table(figure.head, figure.rows, caption=figure.title)) if figure.rows else ""
    height = int(figure.layout.get("height", 380))
    note = f"<figcaption>{text(figure.note)}</figcaption>" if figure.note else ""
    return (
        f'<figure {attributes}><h3>{text(figure.title)}</h3><div class="scroll" tabindex="0" role="region" '
        f'aria-label="{text(figure.title)}"><div class="plot" id="{name}" style="min-height:{height}px" '
        f'role="img" aria-label="{text(figure.alt)}">'
        f"</div></div>{note}{rows}</figure>"
    )
