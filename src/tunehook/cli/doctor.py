"""The command that looks for what harms."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tunehook.cli.common import Json, app, as_text, say
from tunehook.extensions import load as import_by_name
from tunehook.record import ROOT
from tunehook.system import first_line


@app.command()
def doctor(
    folder: Annotated[Path, typer.Argument(help="Where the studies are.")] = ROOT,
    storage: Annotated[str | None, typer.Option(help="Storage URL. Default: $TUNEHOOK_STORAGE, if it is set.")] = None,
    load: Annotated[
        list[str] | None,
        typer.Option(help="Import this module before, to see what is patched with it; may be given several times."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Find what harms a study, and how to mend it.

    Versions of packages, GPUs, the folder, the storage and each study in it, W&B's key and mode, and what tunehook
    stands over in other packages. Nothing is changed. The exit code is 1 where something harms.

    Example: tunehook doctor --load tunehook.integrations.lightning
    """
    from tunehook.doctor import examine

    for module in load or ():
        try:
            import_by_name(module)
        except Exception as error:
            say(f"--load {module} cannot be imported: {type(error).__name__}: {first_line(error)}", err=True)
            raise typer.Exit(2) from error
    harms = 0
    for found in examine(folder, storage=storage):
        harms += found.level == "harm"
        say(as_text(found) if as_json else f"{found.level:<5} {found.about}: {found.text}")
        if found.mend and not as_json:
            say("\n".join(f"      {line.strip()}" for line in found.mend.splitlines()))
    if not as_json:
        say("nothing harms" if not harms else f"{harms} thing{'s' if harms > 1 else ''} to mend, marked harm")
    raise typer.Exit(1 if harms else 0)
