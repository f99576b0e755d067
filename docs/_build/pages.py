"""Pages that are made from elsewhere: the first one is the README, the command line is what ``--help`` says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import typer

from tunehook.cli import app

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^( *```\w+) (\S+)$", re.MULTILINE)
# Links to files that are no pages of the site, such as examples.
NO_PAGE = re.compile(r"\[([^\]\n]+)\]\((?:\.\./)*(?:examples/|CONTRIBUTING|LICENSE)[^)\s]*\)")


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """The text of a page, as MkDocs calls it."""
    if page.file.src_uri == "index.md":
        markdown = (ROOT / "README.md").read_text(encoding="utf-8").replace("](docs/", "](")
    elif page.file.src_uri == "reference/command-line.md":
        markdown += "\n".join(help_of(typer.main.get_command(app), "tunehook"))
    markdown = FENCE.sub(_fence, markdown)
    return NO_PAGE.sub(r"`\1`", markdown)


def _fence(found: re.Match[str]) -> str:
    """The head of a block, without the mark by which the tests run it; the name of a file is its title."""
    head, mark = found.groups()
    return f'{head} title="{mark}"' if "." in mark else head


def help_of(command: click.Command, name: str) -> Iterator[str]:
    """What a command says of itself, then what its own commands do."""
    with click.Context(command, info_name=name) as context:
        yield f"\n## {name}\n\n```text\n{command.get_help(context)}\n```\n"
    for part, inner in getattr(command, "commands", {}).items():
        yield from help_of(inner, f"{name} {part}")
