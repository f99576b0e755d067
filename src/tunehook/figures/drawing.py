"""The border to Plotly, which draws the figures; an extra, imported here alone and when it is needed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunehook.figures.figure import Figure, label
from tunehook.system import first_line

if TYPE_CHECKING:
    from plotly.graph_objects import Figure as Drawn

_WIDTH, _HEIGHT = 900, 420  # pixels of an image
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
    layout = {"title": {"text": label(figure.title)}, "template": "plotly_white", **plain_layout(figure.layout)}
    return Made(data=figure.data, layout=layout)


def write_images(figures: Sequence[Figure], folder: Path, form: str) -> list[Path]:
    """Write figures as images, such as for a paper, with one start of a browser.

    Args:
        figures: The figures.
        folder: Where they are written, by their names; it is made where it does not exist.
        form: ``"png"``, ``"pdf"`` or ``"svg"``.

    Raises:
        ModuleNotFoundError: Plotly or Kaleido is not installed; the message says what installs them.
        RuntimeError: There is no Chrome or Chromium, which Kaleido draws with.
        OSError: The files cannot be written.
    """
    made = [drawn(figure).update_layout(_size(figure)) for figure in figures]
    try:
        import kaleido  # noqa: F401 - Plotly says in many lines that it is missing
        from plotly.io import write_images as write
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"Images need the package kaleido: {_WAY_OUT} kaleido, and Chrome or Chromium", name="kaleido"
        ) from error
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{figure.name}.{form}" for figure in figures]
    try:
        write(fig=made, file=[*map(str, paths)])
    except OSError:
        raise
    except Exception as error:  # of Kaleido's own kinds
        raise RuntimeError(f"Kaleido could not draw the images: {first_line(error)}") from error
    return paths


def _size(figure: Figure) -> dict[str, Any]:
    layout = figure.layout
    return {"width": max(_WIDTH, layout.get("minwidth", 0)), "height": layout.get("height", _HEIGHT)}


def plain_layout(layout: dict[str, Any]) -> dict[str, Any]:
    """A layout without what only our page understands."""
    made = json.loads(json.dumps(layout))
    made.pop("minwidth", None)
    if made.get("coloraxis", {}).get("colorscale") == "heat":
        made["coloraxis"]["colorscale"] = "Blues"
    return dict(made)


def _missing(what: str) -> ModuleNotFoundError:
    return ModuleNotFoundError(f"{what} needs the package plotly: {_WAY_OUT}", name="plotly")
