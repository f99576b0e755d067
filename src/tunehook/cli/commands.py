"""The commands that search, upload and look whether a study runs."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

import tunehook
from tunehook.cli.common import (
    Folder,
    Json,
    Name,
    Storage,
    Values,
    app,
    as_text,
    open_study,
    say,
    say_values,
    told,
)
from tunehook.extensions import UPLOADS, WORKSPACES, load
from tunehook.record import ROOT, RunNote, read_events
from tunehook.system import in_one_go


def _show_version(is_wanted: bool) -> None:
    if is_wanted:
        say(f"tunehook {tunehook.__version__}")
        raise typer.Exit


@app.callback()
def command_line(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Tune the hyperparameters of training scripts, and look after what was tried."""
    for stream in (sys.stdout, sys.stderr):  # what the encoding of a terminal lacks is escaped
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


@app.command()
def sync(
    folder: Annotated[Path, typer.Argument(help="A study's folder, or one with studies below.")] = ROOT,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a run.")] = False,
    storage: Annotated[
        str | None,
        typer.Option(help="Storage URL of the studies, which knows ends that journals lack. Default: as for status."),
    ] = None,
) -> None:
    """Upload what W&B did not get, from the journals of the trials.

    It goes into the runs that the trials have: those that were recorded offline, whose upload was cut off, or whose
    process was killed. What W&B has already is not uploaded again.

    Example: tunehook sync tunehook-studies/digits
    """
    if not folder.is_dir():
        say(f"There is no folder {folder}; the studies of this directory are in {ROOT}.", err=True)
        raise typer.Exit(2)
    for name in sorted(_recorders(folder)):
        module = load(UPLOADS[name])
        try:
            module.sync(folder, lambda synced: say(_line(synced, as_json=as_json)), storage=storage)
        except module.SyncError as error:
            say(str(error), err=True)
            raise typer.Exit(1) from error


wandb_commands = typer.Typer(no_args_is_help=True, help="What tunehook does on W&B.", rich_markup_mode=None)
app.add_typer(wandb_commands, name="wandb")


@wandb_commands.command()
def workspace(
    study: Annotated[str, typer.Argument(help="A study's name, or its folder.")],
    project: Annotated[str | None, typer.Option(help="The W&B project. Default: that of the latest trial.")] = None,
    entity: Annotated[str | None, typer.Option(help="The user or team. Default: as the trials, or your own.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object.")] = False,
) -> None:
    """Save the study's dashboard on W&B.

    It shows the search, the learning curves by outcome, and the snapshots. Called again it brings the dashboard up to
    date, with new names and ranges. It needs a W&B server and pip install 'tunehook[workspace]'.

    Example: tunehook wandb workspace digits
    """
    folder = Path(study) if Path(study).is_dir() else ROOT / study
    if not folder.is_dir():
        say(f"There is no study {study}: neither a folder of this name nor {folder} exists.", err=True)
        raise typer.Exit(2)
    try:
        module = load(WORKSPACES["wandb"])
    except ModuleNotFoundError as error:
        say(str(error), err=True)
        raise typer.Exit(1) from error
    try:
        address = module.save(folder, project=project, entity=entity)
    except module.WorkspaceError as error:
        say(str(error), err=True)
        raise typer.Exit(1) from error
    say(json.dumps({"workspace": address}) if as_json else address)


@app.command()
def status(study: Name, storage: Storage = None, folder: Folder = None, as_json: Json = False) -> None:
    """Show how far a study is.

    Its trials by state, the best one, those that run, the time left.

    Example: tunehook status digits
    """
    with told(), in_one_go():
        from tunehook.report import lines, status_of

        found = status_of(open_study(study, storage, folder, brief=True))
    say(as_text(found) if as_json else "\n".join(lines(found)))


@app.command()
def best(
    study: Name, storage: Storage = None, folder: Folder = None, as_json: Json = False, values: Values = None
) -> None:
    """Show the best complete trial.

    Its value, its hyperparameters, and where its record and its model are. Of a study with several metrics, each trial
    that no other one beats; with --json a line for each.

    Example: tunehook best digits --values arguments
    """
    from tunehook.report import best_of, front_of

    with told():
        opened = open_study(study, storage, folder, brief=True)
        if values is not None:
            for trial in opened.best_trials if opened.others else [opened.best]:
                say_values(trial.params, values)
            return
        found = front_of(opened) if opened.others else [best_of(opened)]
    if as_json:
        say("\n".join(map(as_text, found)))
        return
    for one in found:
        measured = one.values or {opened.metric: one.value}
        say(f"trial {one.number}: " + ", ".join(f"{name} {value!r}" for name, value in measured.items()))
        for name, value in one.params.items():
            say(f"  {name} = {value!r}")
        for place in one.records:
            say(f"record: {place}")


@app.command()
def rebuild(study: Name, storage: Storage = None, folder: Folder = None, as_json: Json = False) -> None:
    """Rebuild a study from the journals of its trials.

    For a study whose file is gone or damaged; the old file is kept under another name, such as study.db.1. Values that
    waited to be tried are in no journal, and are not tried any more.

    Example: tunehook rebuild digits
    """
    from tunehook.study import rebuild as rebuild_study
    from tunehook.trial import told_counts

    with told():
        found = rebuild_study(study, storage=storage, folder=folder)
    if as_json:
        say(as_text(found))
        return
    counts = told_counts(found.counts)
    say(f"{found.study}: rebuilt from {found.journals} journals: {counts}")
    if found.lost:
        say(f"nothing is left of trials {', '.join(map(str, found.lost))}, which count as interrupted")
    if found.kept is not None:
        say(f"the old file is kept: {found.kept}")


@app.command()
def watch(
    study: Name, storage: Storage = None, folder: Folder = None, as_json: Json = False,
    every: Annotated[float, typer.Option(min=0.1, help="Seconds between two looks.")] = 2.0,
) -> None:  # fmt: skip
    """Show how far a study is, until it is done or left.

    Ctrl-C ends it too. Where there is no terminal, it prints lines whenever something has changed. A study that is left
    before it has the trials that it was to have gives exit code 1.

    Example: tunehook watch digits --every 10
    """
    from rich.console import Console
    from rich.live import Live

    from tunehook.report import Watch, ending, lines, table

    console, before = Console(), ""
    with told(), contextlib.suppress(KeyboardInterrupt), contextlib.ExitStack() as stack:
        opened = open_study(study, storage, folder)
        live = None
        if console.is_terminal and not as_json:
            live = stack.enter_context(Live(console=console, auto_refresh=False))
        watch = Watch(opened)
        while True:
            found = watch.look()
            if live is not None:
                live.update(table(found, width=console.width, height=console.height), refresh=True)
            elif (text := as_text(found) if as_json else "\n".join(lines(found))) != before:
                before = text
                say(text)
            if found.is_done:
                return
            if found.processes == "gone":
                stack.close()
                say(ending(found), err=True)
                raise typer.Exit(0 if found.wanted is None else 1)
            time.sleep(every)


def main() -> None:
    """Run the command line."""
    app()


def _recorders(folder: Path) -> set[str]:
    """The recorders that keep trials below a folder, of those whose records can be completed."""
    events = (event for path in folder.rglob("journal.jsonl") for event in read_events(path))
    return {event.recorder for event in events if isinstance(event, RunNote)} & UPLOADS.keys()


def _line(synced: Any, *, as_json: bool) -> str:
    if as_json:
        return json.dumps(dataclasses.asdict(synced))
    told = {"uploaded": f"{synced.rows} rows uploaded", "complete": "complete"}.get(synced.state, synced.reason)
    return f"{synced.trial}: {told}" + (f" ({synced.address})" if synced.address else "")
