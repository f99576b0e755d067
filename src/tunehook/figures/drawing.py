"""The border to Plotly, which draws the figures; an extra, imported here alone and when it is needed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tunehook.figures.figure import Figure

if TYPE_CHECKING:
    from plotly.graph_objects import Figure as Drawn

_WAY_OUT = "pip install 'tunehook[report]'"


def script() -> str:
    """Plotly's script, for a page that needs no network.

    Raises:
        ModuleNotFoundError: Plotly is not installed.
    """
    try:
        from plotly.offline import get_plotlyjs
    except ModuleNotFoundError as error:
        raise _missing("A report") from error
    return str(get_plotlyjs())


def drawn(figure: Figure) -> Drawn:
    """A figure for a notebook.

    Raises:
        ModuleNotFoundError: Plotly is not installed.
    """
    try:
        from plotly.graph_objects import Figure as Made
    except ModuleNotFoundError as error:
        raise _missing("study.plot") from error
    layout = {"title": {"text": figure.title}, "template": "plotly_white", **plain_layout(figure.layout)}
    return Made(data=figure.data, layout=layout)


def plain_layout(layout: dict[str, Any]) -> dict[str, Any]:
    """A layout without what only our page understands."""
    made = json.loads(json.dumps(layout))
    made.pop("minwidth", None)
    if made.get("coloraxis", {}).get("colorscale") == "heat":
        made["coloraxis"]["colorscale"] = "Blues"
    return dict(made)


def _missing(what: str) -> ModuleNotFoundError:
    return ModuleNotFoundError(f"{what} needs the package plotly: {_WAY_OUT}", name="plotly")
