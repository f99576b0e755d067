"""The command line, ``tunehook``."""

from __future__ import annotations

import dataclasses
import importlib
import json
import re
from pathlib import Path
from typing import Annotated, Any

import typer

from tunehook.paths import ROOT
from tunehook.record import read_journal

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def tunehook() -> None:
    """Tune the hyperparameters of training scripts, and look after what was tried."""


@app.command()
def sync(
    folder: Annotated[Path, typer.Argument(help="A study's folder, or one with studies below.")] = ROOT,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a run.")] = False,
) -> None:
    """Upload what W&B did not get, from the journals of the trials, into the runs that they have.

    It serves trials that were recorded offline, whose upload was cut off, or whose process was killed. What W&B has
    already is not uploaded again.

    Example: tunehook sync tunehook-studies/digits
    """
    if not folder.is_dir():
        typer.echo(f"There is no folder {folder}; the studies of this directory lie in {ROOT}.", err=True)
        raise typer.Exit(2)
    for name in sorted(_recorders(folder)):
        # By its name: the core imports no integration, and most people have only some of their packages.
        module = importlib.import_module(f"tunehook.integrations.{name}_sync")
        try:
            module.sync(folder, lambda synced: typer.echo(_line(synced, as_json=as_json)))
        except module.SyncError as error:
            typer.echo(str(error), err=True)
            raise typer.Exit(1) from error


wandb_commands = typer.Typer(no_args_is_help=True, help="What tunehook does on W&B.")
app.add_typer(wandb_commands, name="wandb")


@wandb_commands.command()
def workspace(
    study: Annotated[str, typer.Argument(help="A study's name, or its folder.")],
    project: Annotated[str | None, typer.Option(help="The W&B project. Default: that of the latest trial.")] = None,
    entity: Annotated[str | None, typer.Option(help="The user or team. Default: as the trials, or your own.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object.")] = False,
) -> None:
    """Save the study's dashboard on W&B: the search, the learning curves by outcome, and the snapshots.

    Called again it brings the dashboard up to date, with new names and ranges. It needs a W&B server and
    pip install 'tunehook[workspace]'.

    Example: tunehook wandb workspace digits
    """
    folder = Path(study) if Path(study).is_dir() else ROOT / study
    if not folder.is_dir():
        typer.echo(f"There is no study {study}: neither a folder of this name nor {folder} exists.", err=True)
        raise typer.Exit(2)
    try:
        module = importlib.import_module("tunehook.integrations.wandb_workspace")
    except ModuleNotFoundError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
    try:
        address = module.save(folder, project=project, entity=entity)
    except module.WorkspaceError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
    typer.echo(json.dumps({"workspace": address}) if as_json else address)


def main() -> None:
    """Run the command line."""
    app()


def _recorders(folder: Path) -> set[str]:
    """The recorders that keep trials below a folder, by the names of their modules."""
    events = (event for path in folder.rglob("journal.jsonl") for event in read_journal(path))
    names = (str(event.get("recorder")) for event in events if event["event"] == "recorder")
    return {name for name in names if re.fullmatch("[a-z]+", name)}


def _line(synced: Any, *, as_json: bool) -> str:
    if as_json:
        return json.dumps(dataclasses.asdict(synced))
    told = {"uploaded": f"{synced.rows} rows uploaded", "complete": "complete"}.get(synced.state, synced.reason)
    return f"{synced.trial}: {told}" + (f" ({synced.address})" if synced.address else "")


if __name__ == "__main__":
    main()
