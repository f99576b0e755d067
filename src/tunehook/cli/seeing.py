"""The commands that show what a study has found."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import shutil
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from tunehook.cli.common import (
    Folder,
    Json,
    Name,
    Storage,
    Values,
    app,
    open_study,
    say,
    say_exactly,
    say_values,
    told,
)
from tunehook.record import ROOT, plain
from tunehook.system import in_one_go, is_terminal


@app.command()
def report(
    study: Name, storage: Storage = None, folder: Folder = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The file. Default: STUDY.html, in the working directory.")
    ] = None,
    trial: Annotated[
        list[int] | None, typer.Option(help="Show the snapshots of this trial too; may be given several times.")
    ] = None,
    png: Annotated[
        Path | None, typer.Option(help="Write the figures as images into this folder instead; needs kaleido.")
    ] = None,
    pdf: Annotated[Path | None, typer.Option(help="The same as PDF, for papers.")] = None,
) -> None:  # fmt: skip
    """Write the report of a study as one HTML file.

    It opens without a network: the best trial and how it was found, the search, learning curves, what the value depends
    on, a table of all trials, failures by cause, and the parameters of the best trials while they trained. The study
    may run meanwhile. It needs pip install 'tunehook[report]'.

    Example: tunehook report digits -o digits.html
    """
    from tunehook.report import write_figures, write_report

    images = [(place, form) for place, form in ((png, "png"), (pdf, "pdf")) if place is not None]
    with told():
        opened = open_study(study, storage, folder)
        try:
            paths = [path for place, form in images for path in write_figures(opened, place, form)]
            if not images:
                paths = [write_report(opened, output or Path(f"{opened.name}.html"), trials=trial or ())]
        except (ModuleNotFoundError, IndexError, RuntimeError) as error:
            say(str(error), err=True)
            raise typer.Exit(1) from error
        except OSError as error:
            say(f"The report cannot be written: {error}", err=True)
            raise typer.Exit(1) from error
    say("\n".join(map(str, paths)))


@app.command()
def dashboard(
    study: Name, storage: Storage = None, folder: Folder = None,
    host: Annotated[
        str, typer.Option(help="The address to listen on. On another one all who reach it see the study.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port; 0 takes one that is free.", min=0, max=65535)] = 8080,
) -> None:  # fmt: skip
    """Show a study in optuna-dashboard.

    It does so until Ctrl-C. Values are your own, and each trial has a note with its journal and its W&B run. The study
    may run meanwhile, and nothing in it is changed. It needs pip install 'tunehook[dashboard]'.

    Example: tunehook dashboard digits --port 0
    """
    from tunehook.report import serve

    with told(), contextlib.suppress(KeyboardInterrupt):
        opened = open_study(study, storage, folder)
        try:
            serve(opened, host=host, port=port, ready=lambda address: say(f"{address} (Ctrl-C ends it)"))
        except ModuleNotFoundError as error:
            say(str(error), err=True)
            raise typer.Exit(1) from error


@app.command()
def trials(
    study: Name, storage: Storage = None, folder: Folder = None, as_json: Json = False,
    sort: Annotated[
        str, typer.Option(help="By trial, value, state, seconds or a name of the space; -NAME the other way round.")
    ] = "trial",
    state: Annotated[str | None, typer.Option(help="Only those of a state, such as failed.")] = None,
    best: Annotated[int | None, typer.Option(min=1, help="Only so many, the best ones first.")] = None,
) -> None:  # fmt: skip
    """Show all trials of a study, and why some failed.

    Example: tunehook trials digits --sort -value --state complete
    """
    with told(), in_one_go():
        from tunehook.report import chosen_trials, trials_table, why_failed

        view = open_study(study, storage, folder, brief=True).look(deep=False)
        shown = chosen_trials(view, sort=sort, state=state, best=best)
        if as_json:
            for row in shown:
                say(_line(row))
            return
        width = shutil.get_terminal_size().columns if is_terminal(sys.stdout) else None
        say("\n".join([*trials_table(view, shown, width=width), *why_failed(view, shown)]))


@app.command()
def show(
    study: Name, number: Annotated[int, typer.Argument(help="Number of the trial.", min=0)], storage: Storage = None,
    folder: Folder = None, as_json: Json = False, values: Values = None,
) -> None:  # fmt: skip
    """Show one trial whole.

    Its values, what was in force, its metrics, how it ended, and where its record and its model are.

    Example: tunehook show digits 7 --values yaml
    """
    from tunehook.report import trial_lines, trial_of

    with told():
        opened = open_study(study, storage, folder)
        if values is not None:
            say_values(opened.trial(number).params, values)
            return
        found = trial_of(opened, number)
    if as_json:
        say(_line(found))
        return
    for line in trial_lines(found):
        say(line)


@app.command("list")
def list_studies(
    folder: Annotated[Path, typer.Argument(help="A folder with the folders of studies.")] = ROOT, as_json: Json = False
) -> None:
    """Show the studies in a folder.

    Their trials by state, and the best value.

    Example: tunehook list tunehook-studies
    """
    from tunehook.report import studies_in

    found = studies_in(folder)
    if not found and not as_json:
        say(f"There is no study in {folder}.", err=True)
        raise typer.Exit(1)
    for one in found:
        say(_line(one) if as_json else one["told"])


class Format(StrEnum):
    """What `export` writes."""

    csv = "csv"
    json = "json"
    yaml = "yaml"


@app.command()
def export(
    study: Name, storage: Storage = None, folder: Folder = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="The file. Default: standard output.")] = None,
    form: Annotated[
        Format | None, typer.Option("--format", help="Default: that of the file's name, else csv.")
    ] = None,
) -> None:  # fmt: skip
    """Write the trials as a table, as CSV, JSON or YAML.

    Values, metrics, times in UTC, epochs, outcomes and reasons. In CSV a value that is neither number nor text is
    JSON.

    Example: tunehook export digits -o digits.csv
    """
    ending = "" if output is None else output.suffix[1:].replace("yml", "yaml")
    chosen = form or (Format(ending) if ending in [one.value for one in Format] else Format.csv)
    with told():
        columns, rows = open_study(study, storage, folder).rows()
    text = _exported(columns, rows, chosen)
    if output is None:
        say_exactly(text)
        return
    try:
        output.write_text(text, encoding="utf-8", newline="")
    except OSError as error:
        say(f"The table cannot be written: {error}", err=True)
        raise typer.Exit(1) from error
    say(f"{output}: {len(rows)} trials")


def _exported(columns: list[str], rows: list[dict[str, Any]], form: Format) -> str:
    if form is Format.json:
        return json.dumps([plain(row) for row in rows], allow_nan=False, indent=1) + "\n"
    if form is Format.yaml:
        import yaml

        return yaml.safe_dump([plain(row) for row in rows], sort_keys=False)
    written = io.StringIO()
    writer = csv.writer(written)
    writer.writerow(map(_cell, columns))
    writer.writerows([_cell(row.get(name)) for name in columns] for row in rows)
    return written.getvalue()


def _cell(value: Any) -> Any:
    """A value in CSV, where there are numbers and texts only."""
    if value is None:
        return ""
    if isinstance(value, str):  # halves of characters have no place in a file
        return value.encode("utf-8", "backslashreplace").decode()
    return value if isinstance(value, int | float) and not isinstance(value, bool) else json.dumps(plain(value))


def _line(found: dict[str, Any]) -> str:
    return json.dumps(plain({name: value for name, value in found.items() if name != "told"}), allow_nan=False)
