"""The charts of a study: pure functions from a view of it to a Plotly figure as plain JSON-able data.

Each takes a :class:`~sweep.study_view.StudyView` and returns ``{"data": [...], "layout": {...}}`` as ``Plotly.newPlot``
takes them, or None where there is nothing to draw. Texts that a user chose are escaped: Plotly takes a few HTML tags in
its labels.
Backgrounds are transparent and no font has a colour, so that a page decides between dark and light.
"""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from dashboards.importance import importances
from sweep.cli.text import setting
from sweep.domain import TrialState
from sweep.study_view import AttemptSpan, SearchedSetting, StudyView, TrialView

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


def charts(view: StudyView) -> dict[str, Chart]:
    """All charts that have something to show, by name, in the order of a report."""
    makers: dict[str, Callable[[StudyView], Chart | None]] = {
        "verdict": verdict,
        "progress": progress,
        "learning_curves": learning_curves,
        **{f"score_by_{each.name}": _score_by(each) for each in view.facts.space},
        "parallel_coordinates": parallel_coordinates,
        "importance": importance,
        "spend": spend,
        "timeline": timeline,
    }
    made = {name: make(view) for name, make in makers.items()}
    return {name: chart for name, chart in made.items() if chart is not None}


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
        if trial.state == TrialState.COMPLETE and trial.value is not None and _better(view, trial.value, best):
            best = trial.value
            leaders.append((places[trial.number], best))
    data: list[dict[str, Any]] = []
    for state, trials in _by_state(done).items():
        shown = thinned(trials, MOST_FAINT) if state == TrialState.PRUNED else trials
        data.append(
            {
                **_markers(state, shown, len(trials)),
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
    layout = _layout(f"{_metric(view)} of each trial", "trials in the order of their ends", _metric(view))
    layout["yaxis"] |= focus(view)
    layout["shapes"] = _baseline_line(facts.baseline_value)
    layout["annotations"] = _baseline_name(facts.baseline_value)
    return {"data": data, "layout": layout}


def learning_curves(view: StudyView) -> Chart | None:
    """The metric over training: pruned trials faint, the best and the defaults in front, rungs marked."""
    trials = [trial for trial in view.trials if trial.curve]
    if not trials:
        return None
    front = {number for number in (view.facts.best, 0) if number is not None}
    data: list[dict[str, Any]] = []
    for state, members in _by_state([trial for trial in trials if trial.number not in front]).items():
        shown = thinned(members, MOST_FAINT)
        is_faint = state == TrialState.PRUNED
        points = [point for trial in shown for point in (*_points(trial), (None, None, ""))]
        data.append(
            {
                "type": "scatter",
                "mode": "lines+markers" if len(shown) <= 60 else "lines",
                "name": _named(state.lower(), len(shown), len(members)),
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
            data.append(_front_curve(view, by_number[number]))
    unit = view.facts.fidelity_unit
    layout = _layout(f"{_metric(view)} while training", unit, _metric(view))
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


def score_by(view: StudyView, name: str) -> Chart | None:
    """A hyperparameter against the score; a logarithmic axis where it is drawn so, categories for choices."""
    space = {each.name: each for each in view.facts.space}
    trials = [trial for trial in view.trials if trial.value is not None and name in trial.hyperparameters]
    if not trials or name not in space:
        return None
    is_choice = space[name].kind == "choice"
    front = {number for number in (view.facts.best, 0) if number is not None}
    data: list[dict[str, Any]] = []
    groups = _by_state([trial for trial in trials if trial.number not in front])
    for state, members in groups.items():
        shown = thinned(members, MOST_FAINT)
        data.append({**_markers(state, shown, len(members)), **_against(shown, name, is_choice)})
    by_number = {trial.number: trial for trial in trials}
    for number, title, colour, symbol in (
        (0, "defaults (trial 0)", VIOLET, "diamond"),
        (view.facts.best, f"best (trial {view.facts.best})", AMBER, "star"),
    ):
        if number is not None and number in by_number:
            marker = {"color": colour, "symbol": symbol, "size": 13, "line": {"width": 1, "color": "white"}}
            trace = _markers("COMPLETE", [by_number[number]], 1)
            data.append({**trace, "name": title, "marker": marker, **_against([by_number[number]], name, is_choice)})
    layout = _layout(f"{_metric(view)} by {escaped(name)}", escaped(name), _metric(view))
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
    trials = thinned(trials, 3 * MOST_FAINT, first=view.ranking)
    if len(trials) < 2:
        return None
    dimensions = [made for each in view.facts.space if (made := _dimension(each, trials)) is not None]
    if not dimensions:
        return None
    values = [trial.value for trial in trials]
    low = focus(view).get("range", [min(v for v in values if v is not None), 0])[0]
    dimensions.append({"label": _metric(view), "values": values})
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
    layout = _layout("hyperparameters of each trial, coloured by score", "", "")
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
    layout = _layout(
        f"importance for {_metric(view)} at {found.fidelity:g} {unit} ({found.trials} trials)", "share", ""
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


def timeline(view: StudyView) -> Chart | None:
    """Which worker trained which trial when; attempts that ended badly are red."""
    spans = list(view.timeline)
    if not spans:
        return None
    bad, good = [span for span in spans if span.is_bad], [span for span in spans if not span.is_bad]
    shown = good[-MOST_SPANS:] + bad
    began = min(span.began_at for span in shown)
    length = max((span.ended_at or view.at) for span in shown) - began
    unit, seconds = _time_unit(length)
    groups: dict[str, list[AttemptSpan]] = {}
    for span in sorted(shown, key=lambda span: (span.is_bad, span.began_at)):
        groups.setdefault(span.end, []).append(span)
    data = [
        {
            "type": "bar",
            "orientation": "h",
            "name": END_NAMES.get(end, end.lower()),
            "base": [(span.began_at - began) / seconds for span in members],
            "x": [((span.ended_at or view.at) - span.began_at) / seconds for span in members],
            "y": [escaped(span.worker) for span in members],
            "text": [_span_text(span, view) for span in members],
            "textposition": "none",
            "marker": {
                "color": RED if members[0].is_bad else END_COLOURS.get(end, GREY),
                "line": {"width": 0.5, "color": "white"},
            },
            "hovertemplate": "%{text}<extra></extra>",
        }
        for end, members in groups.items()
    ]
    workers = sorted({span.worker for span in shown}, reverse=True)
    title = "workers" if len(shown) == len(spans) else f"workers (the newest {len(shown):,} of {len(spans):,} attempts)"
    layout = _layout(title, f"{unit} since the beginning", "")
    layout["yaxis"] |= {
        "type": "category",
        "categoryorder": "array",
        "categoryarray": [escaped(worker) for worker in workers],
    }
    return {"data": data, "layout": {**layout, "barmode": "overlay", "height": max(220, 120 + 34 * len(workers))}}


def spend(view: StudyView) -> Chart | None:
    """Worker time by the states of the trials it went to, and what pruning saved (an estimate)."""
    by_state = {state: seconds for state, seconds in view.spend.by_state.items() if seconds > 0}
    if not by_state:
        return None
    unit, seconds = _time_unit(max([*by_state.values(), view.spend.saved_seconds]))
    bars = [(state.lower(), spent / seconds, STATE_COLOURS.get(state, GREY)) for state, spent in by_state.items()]
    bars.sort(key=lambda bar: bar[1])
    if view.spend.lost_seconds > 0:
        bars.insert(0, ("of it in attempts that ended badly", view.spend.lost_seconds / seconds, RED))
    if view.spend.saved_seconds > 0:
        bars.insert(0, ("saved by pruning (estimate)", view.spend.saved_seconds / seconds, GREEN))
    trace = {
        "type": "bar",
        "orientation": "h",
        "x": [length for _, length, _ in bars],
        "y": [name for name, _, _ in bars],
        "marker": {"color": [colour for _, _, colour in bars]},
        "hovertemplate": f"%{{y}}: %{{x:.1f}} {unit}<extra></extra>",
    }
    layout = _layout(f"{unit} on workers, by what became of the trials", unit, "")
    layout["yaxis"] |= {"type": "category"}
    return {"data": [trace], "layout": {**layout, "showlegend": False, "height": max(220, 120 + 36 * len(bars))}}


def verdict(view: StudyView) -> Chart | None:
    """Each finalist's mean over fresh seeds with its interval, and the single seeds."""
    finalists = _finalists(view)
    if not finalists:
        return None
    names = [escaped(str(each.get("label"))) for each in finalists]
    intervals = [each.get("interval") or [each["mean"], each["mean"]] for each in finalists]
    colours = [VIOLET if each.get("kind") == "baseline" else BLUE for each in finalists]
    winner = (view.verdict or {}).get("winner")
    colours = [
        AMBER if each.get("label") == winner else colour for each, colour in zip(finalists, colours, strict=True)
    ]
    data: list[dict[str, Any]] = [
        {
            "type": "scatter",
            "mode": "markers",
            "name": "single seeds",
            "x": [score for each in finalists for score in dict(each.get("scores") or {}).values()],
            "y": [
                name
                for name, each in zip(names, finalists, strict=True)
                for _ in dict(each.get("scores") or {}).values()
            ],
            "marker": {"color": GREY, "size": 6},
            "opacity": 0.6,
            "hovertemplate": "%{x:.4f}<extra></extra>",
        },
        {
            "type": "scatter",
            "mode": "markers",
            "name": "mean and interval",
            "x": [each["mean"] for each in finalists],
            "y": names,
            "error_x": {
                "type": "data",
                "symmetric": False,
                "array": [high - each["mean"] for each, (_, high) in zip(finalists, intervals, strict=True)],
                "arrayminus": [each["mean"] - low for each, (low, _) in zip(finalists, intervals, strict=True)],
                "thickness": 2,
            },
            "marker": {"color": colours, "size": 12},
            "hovertemplate": "%{y}: %{x:.4f}<extra></extra>",
        },
    ]
    layout = _layout(f"{_metric(view)} of the finalists on fresh seeds", _metric(view), "")
    layout["yaxis"] |= {"type": "category", "categoryorder": "array", "categoryarray": names[::-1]}
    return {"data": data, "layout": {**layout, "height": max(220, 120 + 40 * len(names))}}


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


def _score_by(each: SearchedSetting) -> Callable[[StudyView], Chart | None]:
    return lambda view: score_by(view, each.name)


def _metric(view: StudyView) -> str:
    return escaped(view.facts.metric)


def _better(view: StudyView, value: float, than: float | None) -> bool:
    return than is None or (value > than if view.facts.direction == "maximize" else value < than)


def _layout(title: str, x: str, y: str) -> dict[str, Any]:
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


def _by_state(trials: Iterable[TrialView]) -> dict[str, list[TrialView]]:
    """Trials by state, those of the background first: what is drawn last is in front."""
    groups: dict[str, list[TrialView]] = {}
    for trial in trials:
        groups.setdefault(trial.state, []).append(trial)
    order = ["PRUNED", *sorted(set(groups) - {"PRUNED", "COMPLETE"}), "COMPLETE"]
    return {state: groups[state] for state in order if state in groups}


def _named(name: str, shown: int, members: int) -> str:
    return name if shown == members else f"{name} ({shown:,} of {members:,} shown)"


def _markers(state: str, shown: Sequence[TrialView], members: int) -> dict[str, Any]:
    is_faint = state == TrialState.PRUNED
    return {
        "type": "scatter",
        "mode": "markers",
        "name": _named(state.lower(), len(shown), members),
        "text": [_trial_text(trial) for trial in shown],
        "customdata": [trial.number for trial in shown],
        "marker": {"color": STATE_COLOURS.get(state, GREY), "size": 5 if is_faint else 8},
        "opacity": 0.6 if is_faint else 0.9,
        "hovertemplate": "%{text}<extra></extra>",
    }


def _against(trials: Sequence[TrialView], name: str, is_choice: bool) -> dict[str, Any]:
    values = [trial.hyperparameters[name] for trial in trials]
    return {
        "x": [escaped(setting(value)) for value in values] if is_choice else values,
        "y": [trial.value for trial in trials],
    }


def _front_curve(view: StudyView, trial: TrialView) -> dict[str, Any]:
    is_best = trial.number == view.facts.best
    title = f"best (trial {trial.number})" if is_best else "defaults (trial 0)"
    if is_best and trial.number == 0:
        title = "defaults (trial 0), the best"
    points = list(_points(trial))
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


def _points(trial: TrialView) -> Iterable[tuple[float | None, float | None, str]]:
    for point in trial.curve:
        yield point.fidelity, point.value, f"trial {trial.number}, step {point.step}: {point.value:.4f}"


def _trial_text(trial: TrialView) -> str:
    score = "–" if trial.value is None else f"{trial.value:.4f}"
    drawn = "<br>".join(f"{escaped(name)} {escaped(setting(value))}" for name, value in trial.hyperparameters.items())
    return f"<b>trial {trial.number}</b> {score} {trial.state.lower()}<br>{drawn}"


def _span_text(span: AttemptSpan, view: StudyView) -> str:
    end = END_NAMES.get(span.end, span.end.lower())
    seconds = (span.ended_at or view.at) - span.began_at
    where = escaped(span.worker)
    return f"<b>trial {span.trial_number}</b>, attempt {span.attempt}: {end}, {seconds:.0f} s on {where}"


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


def _finalists(view: StudyView) -> list[Mapping[str, Any]]:
    found = (view.verdict or {}).get("finalists") or []
    return [each for each in found if isinstance(each, Mapping) and isinstance(each.get("mean"), int | float)]


def _time_unit(seconds: float) -> tuple[str, float]:
    if seconds > 3 * 3600:
        return "hours", 3600.0
    return ("minutes", 60.0) if seconds > 180 else ("seconds", 1.0)
