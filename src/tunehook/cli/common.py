"""What the commands have in common: their arguments, how they open a study, and how they say something."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tunehook.system import is_terminal, printable

if TYPE_CHECKING:
    from tunehook.study import Study

# Without markup: it takes what is in brackets, such as an extra of a package, for a style, and drops it.
app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


def say(text: str, *, err: bool = False) -> None:
    """Print lines, which do nothing to a terminal, whatever is called so."""
    typer.echo("\n".join(map(printable, text.split("\n"))), err=err)


Name = Annotated[str, typer.Argument(help="Name of the study, or the URL of a storage that has one only.")]
Storage = Annotated[
    str | None, typer.Option(help="Storage URL. Default: $TUNEHOOK_STORAGE, else the file in the study's folder.")
]
Folder = Annotated[Path | None, typer.Option(help="The study's folder. Default: tunehook-studies/STUDY.")]


class ValuesAs(StrEnum):
    """How the values of a trial are printed, to copy: what `FORMATS` has."""

    yaml = "yaml"
    python = "python"
    hydra = "hydra"
    arguments = "arguments"


Values = Annotated[
    ValuesAs | None,
    typer.Option(metavar="FORM", help="Print the values alone, to copy: as yaml, python, hydra or arguments."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, one object a look.")]


def open_study(study: str, storage: str | None, folder: Path | None, *, brief: bool = False) -> Study:
    """A study that exists, by its name or the URL of its storage, to look at it; see `Study.open`."""
    from tunehook.study import Study

    if "://" in study:
        return Study.open(None, storage=study, folder=folder, brief=brief)
    return Study.open(study, storage=storage, folder=folder, brief=brief)


def say_exactly(text: str) -> None:
    """Print a text for another program, with what a terminal would act on; on a terminal, it does nothing to it."""
    if is_terminal(sys.stdout):
        say(text.rstrip("\n"))
    else:
        sys.stdout.write(text)  # typer would drop what is an escape sequence


def say_values(params: Mapping[str, Any], form: ValuesAs) -> None:
    """Print the values of a trial."""
    from tunehook.trial import FORMATS

    say_exactly(FORMATS[form](params))


@contextlib.contextmanager
def told() -> Iterator[None]:
    """An error of a study is a line, not a traceback."""
    from tunehook.trial import StudyError

    try:
        yield
    except StudyError as error:
        say(str(error), err=True)
        raise typer.Exit(1) from None


def as_text(found: Any) -> str:
    """A value with fields as JSON in a line."""
    from tunehook.record import plain

    return json.dumps(plain(dataclasses.asdict(found)), allow_nan=False)
