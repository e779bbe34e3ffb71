"""Charts of scores: over the trials, over training, over the hyperparameters."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from dashboards.charts.style import (
    AMBER,
    BLUE,
    GREY,
    MOST_FAINT,
    STATE_COLOURS,
    VIOLET,
    Chart,
    by_state,
    escaped,
    focus,
    is_better,
    layout_of,
    markers,
    metric_name,
    named,
    thinned,
)
from dashboards.importance import importances
from sweep.cli.text import setting
from sweep.domain import TrialState
from sweep.study_view import CurvePoint, SearchedSetting, StudyView, TrialView


def progress(view: StudyView) -> Chart | None:
    """The score of each trial in the order of their ends, and the best so far, beside the defaults."""
    done = sorted(
        (trial for trial in view.trials if trial.value is not None and trial.ended_at is not None),
        key=lambda trial: (trial.ended_at or 0.0, trial.number),
    )
    if not done:
        return None
    facts, best = view.facts, None
    places = {trial.number: place for place, trial in enumerate(done, start=1)}
    leaders: list[tuple[int, float]] = []
    for trial in done:
        if trial.state == TrialState.COMPLETE and trial.value is not None and is_better(view, trial.value, best):
            best = trial.value
            leaders.append((places[trial.number], best))
    data: list[dict[str, Any]] = []
    for state, trials in by_state(done).items():
        shown = thinned(trials, MOST_FAINT) if state == TrialState.PRUNED else trials
        data.append(
            {
                **markers(state, shown, len(trials)),
                "x": [places[trial.number] for trial in shown],
                "y": [trial.value for trial in shown],
            }
        )
    if leaders:
        leaders.append((len(done), leaders[-1][1]))
        data.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": "best so far",
                "x": [place for place, _ in leaders],
                "y": [value for _, value in leaders],
                "line": {"shape": "hv", "color": AMBER, "width": 2.5},
                "hovertemplate": "best so far %{y:.4f}<extra></extra>",
            }
        )
    layout = layout_of(f"{metric_name(view)} of each trial", "trials in the order of their ends", metric_name(view))
    layout["yaxis"] |= focus(view)
    layout["shapes"] = _baseline_line(facts.baseline_value)
    layout["annotations"] = _baseline_name(facts.baseline_value)
    return {"data": data, "layout": layout}


def learning_curves(view: StudyView) -> Chart | None:
    """The metric over training: pruned trials faint, the best and the defaults in front, rungs marked."""
    data = _while_training(view, lambda point: point.value)
    if not data:
        return None
    unit = view.facts.fidelity_unit
    layout = layout_of(f"{metric_name(view)} while training", unit, metric_name(view))
    layout["yaxis"] |= focus(view)
    layout["shapes"] = [
        {
            "type": "line",
            "x0": rung.fidelity,
            "x1": rung.fidelity,
            "yref": "paper",
            "y0": 0,
            "y1": 1,
            "line": {"color": GREY, "width": 1, "dash": "dot"},
        }
        for rung in view.rungs
        if not rung.is_full_run
    ]
    layout["annotations"] = [
        {
            "x": rung.fidelity,
            "yref": "paper",
            "y": 1,
            "yanchor": "bottom",
            "showarrow": False,
            "text": f"rung {position}",
            "font": {"size": 10},
        }
        for position, rung in enumerate(view.rungs, start=1)
        if not rung.is_full_run
    ]
    return {"data": data, "layout": layout}


def gaps(view: StudyView) -> Chart | None:
    """Validation loss less training loss while training: it rises as a model learns its rows by heart."""
    data = _while_training(view, lambda point: point.gap)
    if not data:
        return None
    layout = layout_of("train–validation gap while training", view.facts.fidelity_unit, "gap of the losses")
    return {"data": data, "layout": layout}


def score_by(view: StudyView, name: str) -> Chart | None:
    """A hyperparameter against the score; a logarithmic axis where it is drawn so, categories for choices."""
    space = {each.name: each for each in view.facts.space}
    trials = [trial for trial in view.trials if trial.value is not None and name in trial.hyperparameters]
    if not trials or name not in space:
        return None
    is_choice = space[name].kind == "choice"
    front = {number for number in (view.facts.best, view.facts.baseline) if number is not None}
    data: list[dict[str, Any]] = []
    groups = by_state([trial for trial in trials if trial.number not in front])
    for state, members in groups.items():
        shown = thinned(members, MOST_FAINT)
        data.append({**markers(state, shown, len(members)), **_against(shown, name, is_choice)})
    by_number = {trial.number: trial for trial in trials}
    for number, title, colour, symbol in (
        (view.facts.baseline, f"defaults (trial {view.facts.baseline})", VIOLET, "diamond"),
        (view.facts.best, f"best (trial {view.facts.best})", AMBER, "star"),
    ):
        if number is not None and number in by_number:
            marker = {"color": colour, "symbol": symbol, "size": 13, "line": {"width": 1, "color": "white"}}
            trace = markers("COMPLETE", [by_number[number]], 1)
            data.append({**trace, "name": title, "marker": marker, **_against([by_number[number]], name, is_choice)})
    layout = layout_of(f"{metric_name(view)} by {escaped(name)}", escaped(name), metric_name(view))
    layout["yaxis"] |= focus(view)
    if is_choice:
        layout["xaxis"] |= {"type": "category", "categoryorder": "array"}
        layout["xaxis"]["categoryarray"] = [escaped(setting(value)) for value in space[name].choices]
    elif space[name].log:
        layout["xaxis"] |= {"type": "log", "exponentformat": "power", "dtick": 1}
    return {"data": data, "layout": layout}


def parallel_coordinates(view: StudyView) -> Chart | None:
    """Each finished trial as a line through its hyperparameters to its score, coloured by it."""
    trials = [trial for trial in view.trials if trial.value is not None and TrialState(trial.state).is_finished]
    places = {trial.number: place for place, trial in enumerate(trials)}
    trials = thinned(trials, 3 * MOST_FAINT, first=[places[number] for number in view.ranking if number in places])
    if len(trials) < 2:
        return None
    dimensions = [made for each in view.facts.space if (made := _dimension(each, trials)) is not None]
    if not dimensions:
        return None
    values = [trial.value for trial in trials]
    low = focus(view).get("range", [min(v for v in values if v is not None), 0])[0]
    dimensions.append({"label": metric_name(view), "values": values})
    colours = {
        "color": values,
        "colorscale": [[0, "#c9d3e6"], [0.5, BLUE], [1, AMBER]],
        "reversescale": view.facts.direction == "minimize",
        "showscale": True,
        "cmin": low if view.facts.direction == "maximize" else min(v for v in values if v is not None),
        "cmax": max(v for v in values if v is not None)
        if view.facts.direction == "maximize"
        else focus(view).get("range", [0, max(v for v in values if v is not None)])[1],
    }
    layout = layout_of("hyperparameters of each trial, coloured by score", "", "")
    return {
        "data": [{"type": "parcoords", "line": colours, "dimensions": dimensions}],
        "layout": {**layout, "margin": {"l": 70, "r": 40, "t": 90, "b": 30}},
    }


def importance(view: StudyView) -> Chart | None:
    """How much each hyperparameter matters for being among the better trials."""
    found = importances(view)
    if found is None:
        return None
    order = sorted(found.shares.items(), key=lambda item: item[1])
    unit = view.facts.fidelity_unit
    layout = layout_of(
        f"importance for {metric_name(view)} at {found.fidelity:g} {unit} ({found.trials} trials)", "share", ""
    )
    layout["yaxis"] |= {"type": "category"}
    trace = {
        "type": "bar",
        "orientation": "h",
        "x": [share for _, share in order],
        "y": [escaped(name) for name, _ in order],
        "marker": {"color": BLUE},
        "hovertemplate": "%{y} %{x:.2f}<extra></extra>",
    }
    return {"data": [trace], "layout": {**layout, "showlegend": False}}


def _against(trials: Sequence[TrialView], name: str, is_choice: bool) -> dict[str, Any]:
    values = [trial.hyperparameters[name] for trial in trials]
    return {
        "x": [escaped(setting(value)) for value in values] if is_choice else values,
        "y": [trial.value for trial in trials],
    }


def _while_training(view: StudyView, value_of: Callable[[CurvePoint], float | None]) -> list[dict[str, Any]]:
    """A value of each trial's evaluations as lines, best and defaults in front; empty where none has it."""
    trials = [trial for trial in view.trials if any(value_of(point) is not None for point in trial.curve)]
    front = {number for number in (view.facts.best, view.facts.baseline) if number is not None}
    data: list[dict[str, Any]] = []
    for state, members in by_state([trial for trial in trials if trial.number not in front]).items():
        shown = thinned(members, MOST_FAINT)
        is_faint = state == TrialState.PRUNED
        points = [point for trial in shown for point in (*_points(view, trial, value_of), (None, None, ""))]
        data.append(
            {
                "type": "scatter",
                "mode": "lines+markers" if len(shown) <= 60 else "lines",
                "name": named(state.lower(), len(shown), len(members)),
                "x": [x for x, _, _ in points],
                "y": [y for _, y, _ in points],
                "text": [text for _, _, text in points],
                "line": {"color": STATE_COLOURS.get(state, GREY), "width": 1 if is_faint else 1.5},
                "marker": {"size": 4},
                "opacity": 0.5 if is_faint else 0.8,
                "hovertemplate": "%{text}<extra></extra>",
            }
        )
    by_number = {trial.number: trial for trial in trials}
    for number in sorted(front):
        if number in by_number:
            data.append(_front_curve(view, by_number[number], value_of))
    return data


def _front_curve(view: StudyView, trial: TrialView, value_of: Callable[[CurvePoint], float | None]) -> dict[str, Any]:
    is_best = trial.number == view.facts.best
    title = f"best (trial {trial.number})" if is_best else f"defaults (trial {trial.number})"
    if is_best and trial.is_baseline:
        title = f"defaults (trial {trial.number}), the best"
    points = list(_points(view, trial, value_of))
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": title,
        "x": [x for x, _, _ in points],
        "y": [y for _, y, _ in points],
        "text": [text for _, _, text in points],
        "customdata": [trial.number] * len(points),
        "line": {"color": AMBER if is_best else VIOLET, "width": 3, **({} if is_best else {"dash": "dash"})},
        "marker": {"size": 7},
        "hovertemplate": "%{text}<extra></extra>",
    }


def _points(
    view: StudyView, trial: TrialView, value_of: Callable[[CurvePoint], float | None]
) -> Iterable[tuple[float | None, float | None, str]]:
    for point in trial.curve:
        value = value_of(point)
        if value is not None:
            at = f"fold {point.fidelity:g}" if view.facts.fidelity_unit == "folds" else f"step {point.step}"
            yield point.fidelity, value, f"trial {trial.number}, {at}: {value:.4f}"


def _dimension(each: SearchedSetting, trials: Sequence[TrialView]) -> dict[str, Any] | None:
    values = [trial.hyperparameters.get(each.name) for trial in trials]
    label = escaped(each.name)
    if each.kind == "choice":
        names = list(dict.fromkeys([*map(setting, each.choices), *map(setting, values)]))
        return {
            "label": label,
            "values": [names.index(setting(value)) for value in values],
            "tickvals": list(range(len(names))),
            "ticktext": [escaped(name) for name in names],
            "range": [-0.1, len(names) - 0.9],
        }
    numbers = [float(value) for value in values if isinstance(value, int | float)]
    if len(numbers) < len(values) or (each.log and min(numbers) <= 0):
        return None
    if not each.log:
        return {"label": label, "values": numbers}
    logs = [math.log10(number) for number in numbers]
    low, high = math.floor(min(logs)), math.ceil(max(logs))
    ticks = list(range(low, high + 1))
    return {
        "label": label,
        "values": logs,
        "tickvals": ticks,
        "ticktext": [f"{10.0**tick:g}" for tick in ticks],
    }


def _baseline_line(value: float | None) -> list[dict[str, Any]]:
    if value is None:
        return []
    line = {"color": VIOLET, "width": 1.5, "dash": "dash"}
    return [{"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": value, "y1": value, "line": line}]


def _baseline_name(value: float | None) -> list[dict[str, Any]]:
    if value is None:
        return []
    place = {"xref": "paper", "x": 1, "xanchor": "right", "y": value, "yanchor": "bottom", "showarrow": False}
    return [{**place, "text": f"defaults {value:.4f}", "font": {"size": 11, "color": VIOLET}}]
