"""What all charts share: colours, layout, and how a user's text and thousands of trials are shown."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from sweep.cli.text import setting
from sweep.domain import TrialState
from sweep.study_view import StudyView, TrialView

Chart = dict[str, Any]

BLUE, GREY, GREEN, AMBER, VIOLET, RED, TEAL = (
    "#2f6fde",
    "#8f9bb0",
    "#1f9d61",
    "#e8920c",
    "#8a4fd3",
    "#d63a3a",
    "#1496a8",
)
GRID = "rgba(128,136,150,0.22)"

STATE_COLOURS = {
    "COMPLETE": BLUE,
    "PRUNED": GREY,
    "RUNNING": GREEN,
    "PAUSED": TEAL,
    "PENDING": TEAL,
    "DIVERGED": RED,
    "OOM": RED,
    "TIMEOUT": RED,
    "FAILED": RED,
    "CANCELLED": VIOLET,
}
END_COLOURS = {"FINISHED": BLUE, "STOPPED": GREY, "PAUSED": TEAL, "PREEMPTED": TEAL, "RUNNING": GREEN}
END_NAMES = {"FINISHED": "finished", "STOPPED": "pruned", "RUNNING": "running", "PREEMPTED": "told to leave"}
"""How an attempt's end is called; the others by their own word."""

MOST_FAINT = 1000
"""Trials that only make the background of a chart, beyond which an even selection of them is drawn."""

MOST_SPANS = 1500
"""Attempts on the timeline; bad ones are drawn all, of the others the newest."""

_Item = TypeVar("_Item")


def escaped(text: str) -> str:
    """A user's text as Plotly shows it letter by letter."""
    return html.escape(text, quote=False)


def thinned(items: Sequence[_Item], most: int, first: Iterable[int] = ()) -> list[_Item]:
    """At most ``most`` items: those at the positions ``first``, then an even selection of the others, in order."""
    if len(items) <= most:
        return list(items)
    wanted = {position for position in list(first)[: most // 3] if position < len(items)}
    count = most - len(wanted)
    wanted |= {round(index * (len(items) - 1) / max(1, count - 1)) for index in range(count)}
    return [items[position] for position in sorted(wanted)]


def focus(view: StudyView) -> dict[str, Any]:
    """Axis settings that keep a few hopeless trials from squeezing all the others into one line."""
    values = sorted(trial.value for trial in view.trials if trial.value is not None and math.isfinite(trial.value))
    if len(values) < 8:
        return {}
    worst, quarter, best = values[0], values[len(values) // 4], values[-1]
    if view.facts.direction == "minimize":
        worst, quarter, best = values[-1], values[-1 - len(values) // 4], values[0]
    if abs(worst - best) <= 4 * abs(quarter - best) or quarter == best:
        return {}
    end, start = best + 0.06 * (best - quarter), quarter - 0.75 * (best - quarter)
    return {"range": sorted([start, end]), "autorange": False}


def metric_name(view: StudyView) -> str:
    """The metric's name, as Plotly shows it."""
    return escaped(view.facts.metric)


def is_better(view: StudyView, value: float, than: float | None) -> bool:
    """Whether a value is better than another, or the first."""
    return than is None or (value > than if view.facts.direction == "maximize" else value < than)


def layout_of(title: str, x: str, y: str) -> dict[str, Any]:
    """The layout that all charts share, with a title and the names of the axes."""
    axis = {"gridcolor": GRID, "zeroline": False, "automargin": True, "linecolor": GRID}
    return {
        "title": {
            "text": title,
            "font": {"size": 15},
            "x": 0,
            "xref": "container",
            "xanchor": "left",
            "pad": {"l": 12},
        },
        "xaxis": {**axis, "title": {"text": x, "font": {"size": 12}}},
        "yaxis": {**axis, "title": {"text": y, "font": {"size": 12}}},
        "font": {"family": "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif", "size": 12},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "margin": {"l": 60, "r": 24, "t": 56, "b": 48},
        "height": 380,
        "hovermode": "closest",
        "legend": {"orientation": "h", "x": 0, "y": -0.22, "yanchor": "top", "font": {"size": 11}},
        "showlegend": True,
    }


def by_state(trials: Iterable[TrialView]) -> dict[str, list[TrialView]]:
    """Trials by state, those of the background first: what is drawn last is in front."""
    groups: dict[str, list[TrialView]] = {}
    for trial in trials:
        groups.setdefault(trial.state, []).append(trial)
    order = ["PRUNED", *sorted(set(groups) - {"PRUNED", "COMPLETE"}), "COMPLETE"]
    return {state: groups[state] for state in order if state in groups}


def named(name: str, shown: int, members: int) -> str:
    """A name for the legend that says when not all are shown."""
    return name if shown == members else f"{name} ({shown:,} of {members:,} shown)"


def markers(state: str, shown: Sequence[TrialView], members: int) -> dict[str, Any]:
    """A trace of one point for each trial, but for where it stands."""
    is_faint = state == TrialState.PRUNED
    return {
        "type": "scatter",
        "mode": "markers",
        "name": named(state.lower(), len(shown), members),
        "text": [trial_text(trial) for trial in shown],
        "customdata": [trial.number for trial in shown],
        "marker": {"color": STATE_COLOURS.get(state, GREY), "size": 5 if is_faint else 8},
        "opacity": 0.6 if is_faint else 0.9,
        "hovertemplate": "%{text}<extra></extra>",
    }


def trial_text(trial: TrialView) -> str:
    """What a trial's point says when it is pointed at."""
    score = "–" if trial.value is None else f"{trial.value:.4f}"
    drawn = "<br>".join(f"{escaped(name)} {escaped(setting(value))}" for name, value in trial.hyperparameters.items())
    return f"<b>trial {trial.number}</b> {score} {trial.state.lower()}<br>{drawn}"


def time_unit(seconds: float) -> tuple[str, float]:
    """A unit that fits so many seconds, and how many it has."""
    if seconds > 3 * 3600:
        return "hours", 3600.0
    return ("minutes", 60.0) if seconds > 180 else ("seconds", 1.0)
