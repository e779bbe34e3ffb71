"""The charts of a study: pure functions from a view of it to a Plotly figure as plain JSON-able data.

Each takes a :class:`~sweep.study_view.StudyView` and returns ``{"data": [...], "layout": {...}}`` as ``Plotly.newPlot``
takes them, or None where there is nothing to draw. Texts that a user chose are escaped: Plotly takes a few HTML tags in
its labels.
Backgrounds are transparent and no font has a colour, so that a page decides between dark and light.
"""

from __future__ import annotations

from collections.abc import Callable

from dashboards.charts.course import spend, timeline, verdict
from dashboards.charts.scores import gaps, importance, learning_curves, parallel_coordinates, progress, score_by
from dashboards.charts.style import Chart
from sweep.study_view import SearchedSetting, StudyView

__all__ = [
    "Chart",
    "charts",
    "gaps",
    "importance",
    "learning_curves",
    "parallel_coordinates",
    "progress",
    "score_by",
    "spend",
    "timeline",
    "verdict",
]


def charts(view: StudyView) -> dict[str, Chart]:
    """All charts that have something to show, by name, in the order of a report."""
    makers: dict[str, Callable[[StudyView], Chart | None]] = {
        "verdict": verdict,
        "progress": progress,
        "learning_curves": learning_curves,
        "train_validation_gap": gaps,
        **{f"score_by_{each.name}": _score_by(each) for each in view.facts.space},
        "parallel_coordinates": parallel_coordinates,
        "importance": importance,
        "spend": spend,
        "timeline": timeline,
    }
    made = {name: make(view) for name, make in makers.items()}
    return {name: chart for name, chart in made.items() if chart is not None}


def _score_by(each: SearchedSetting) -> Callable[[StudyView], Chart | None]:
    return lambda view: score_by(view, each.name)
