"""Inside ``wandb agent``, or a function of ``wandb.agent``: W&B searches, and the values come from its sweep.

The agent writes the values of a run into a file, which ``wandb.init`` reads as well; a run's configuration has what the
user's code put there too, so the file is what is read here, and wandb is not imported.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tunehook.record import ROOT
from tunehook.system import read_yaml, shown
from tunehook.trial import InjectionError, Trial, TrialError

_SWEEP, _RUN, _FILE = "WANDB_SWEEP_ID", "WANDB_RUN_ID", "WANDB_SWEEP_PARAM_PATH"
# A number to its writer, which YAML 1.1 and so W&B takes for a text.
_EXPONENT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+")


def current_trial() -> Trial | None:
    """The run of the sweep that this process works on, as a trial without a metric; ``None`` outside of an agent.

    Raises:
        TrialError: The file with its values cannot be read.
        InjectionError: A value is a number that the sweep's file made a text.
    """
    sweep, run, file = (os.environ.get(name, "") for name in (_SWEEP, _RUN, _FILE))
    if not (sweep and file):
        return None
    run = run or Path(file).stem
    params = dict(flat(_read(file).items()))
    _check_numbers(params)
    return Trial(sweep, 0, params, (ROOT / sweep / run).absolute(), "", "min", key=run)


def _read(file: str) -> dict[str, Any]:
    """The values by name, as ``wandb.init`` reads them."""
    places = [Path(file).absolute()]
    if not Path(file).is_absolute() and (started := os.environ.get("PWD")):
        places.append(Path(started) / file)  # where the script has changed its directory since, as Hydra does
    path = next((place for place in places if place.is_file()), places[0])
    try:
        found = read_yaml(path) or {}
        return {str(name): entry["value"] for name, entry in found.items() if name not in ("wandb_version", "_wandb")}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise TrialError(
            f"The values of this sweep's run cannot be read from {path} ({_FILE}): {shown(error)}.\n"
            f"  The W&B agent writes this file. To train without its values, unset {_SWEEP}."
        ) from error


def _check_numbers(params: Mapping[str, Any]) -> None:
    for name, value in params.items():
        if isinstance(value, str) and _EXPONENT.fullmatch(value):
            raise InjectionError(
                f"The sweep gives {name!r} as the text {value!r}: W&B takes a number without a point and a sign so.\n"
                "  Write it in the sweep's file with both, such as 1.0e-5."
            )


def flat(items: Iterable[tuple[str, Any]]) -> Iterable[tuple[str, Any]]:
    """The values of nested parameters, by dotted names."""
    for name, value in items:
        if isinstance(value, Mapping) and value:
            yield from flat((f"{name}.{inner}", one) for inner, one in value.items())
        else:
            yield name, value
