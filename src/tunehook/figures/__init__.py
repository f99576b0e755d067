"""The figures of a study as plain data, which Plotly draws on a page or in a notebook."""

from typing import TYPE_CHECKING

from tunehook.figures.view import COUNTERS, Curve, StudyView, TrialView
from tunehook.system import lazily

if TYPE_CHECKING:
    from tunehook.figures.charts import causes as causes
    from tunehook.figures.charts import contour as contour
    from tunehook.figures.charts import curves as curves
    from tunehook.figures.charts import history as history
    from tunehook.figures.charts import importance as importance
    from tunehook.figures.charts import parallel as parallel
    from tunehook.figures.charts import slices as slices
    from tunehook.figures.charts import timeline as timeline
    from tunehook.figures.drawing import drawn as drawn
    from tunehook.figures.drawing import script as script
    from tunehook.figures.drawing import write_images as write_images
    from tunehook.figures.figure import COLORS as COLORS
    from tunehook.figures.figure import Figure as Figure
    from tunehook.figures.figure import shown_value as shown_value
    from tunehook.figures.front import fronts as fronts
    from tunehook.figures.parameters import marks as marks
    from tunehook.figures.parameters import tensors as tensors
    from tunehook.figures.parameters import weights as weights
    from tunehook.figures.population import lineage as lineage
    from tunehook.figures.population import schedule as schedule

__all__ = [
    "COLORS", "COUNTERS", "Curve", "Figure", "StudyView", "TrialView", "causes", "contour", "curves", "drawn",
    "fronts", "history", "importance", "lineage", "marks", "parallel", "schedule", "script", "shown_value", "slices",
    "tensors", "timeline", "weights", "write_images",
]  # fmt: skip

__getattr__ = lazily(
    __name__,
    {
        "COLORS": "figure",
        "Figure": "figure",
        "causes": "charts",
        "contour": "charts",
        "curves": "charts",
        "drawn": "drawing",
        "fronts": "front",
        "history": "charts",
        "importance": "charts",
        "lineage": "population",
        "marks": "parameters",
        "parallel": "charts",
        "schedule": "population",
        "script": "drawing",
        "shown_value": "figure",
        "slices": "charts",
        "tensors": "parameters",
        "timeline": "charts",
        "weights": "parameters",
        "write_images": "drawing",
    },
)
