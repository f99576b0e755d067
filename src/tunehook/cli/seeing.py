"""The commands that show what a study has found."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tunehook.cli.common import Folder, Name, Storage, app, open_study, say, told


@app.command()
def report(
    study: Name, storage: Storage = None, folder: Folder = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The file. Default: STUDY.html, in the working directory.")
    ] = None,
    trial: Annotated[
        list[int] | None, typer.Option(help="Show the snapshots of this trial too; may be given several times.")
    ] = None,
) -> None:  # fmt: skip
    """Write the report of a study: one HTML file that needs no network.

    The best trial and how it was found, the search, learning curves, what the value depends on, a table of all trials,
    failures by cause, and the parameters of the best trials while they trained. The study may run meanwhile. It needs
    pip install 'tunehook[report]'.

    Example: tunehook report digits -o digits.html
    """
    from tunehook.report import write_report

    with told():
        opened = open_study(study, storage, folder)
        try:
            path = write_report(opened, output or Path(f"{opened.name}.html"), trials=trial or ())
        except (ModuleNotFoundError, IndexError) as error:
            say(str(error), err=True)
            raise typer.Exit(1) from error
        except OSError as error:
            say(f"The report cannot be written: {error}", err=True)
            raise typer.Exit(1) from error
    say(f"{path}")
