"""Charts of how a study went: its workers, what it cost, and how sure its winner is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dashboards.charts.style import (
    AMBER,
    BLUE,
    END_COLOURS,
    END_NAMES,
    GREEN,
    GREY,
    MOST_SPANS,
    RED,
    STATE_COLOURS,
    VIOLET,
    Chart,
    escaped,
    layout_of,
    metric_name,
    time_unit,
)
from sweep.study_view import AttemptSpan, StudyView


def timeline(view: StudyView) -> Chart | None:
    """Which worker trained which trial when; attempts that ended badly are red."""
    spans = list(view.timeline)
    if not spans:
        return None
    bad, good = [span for span in spans if span.is_bad], [span for span in spans if not span.is_bad]
    shown = good[-MOST_SPANS:] + bad
    began = min(span.began_at for span in shown)
    length = max((span.ended_at or view.at) for span in shown) - began
    unit, seconds = time_unit(length)
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
    layout = layout_of(title, f"{unit} since the beginning", "")
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
    unit, seconds = time_unit(max([*by_state.values(), view.spend.saved_seconds]))
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
    layout = layout_of(f"{unit} on workers, by what became of the trials", unit, "")
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
    layout = layout_of(f"{metric_name(view)} of the finalists on fresh seeds", metric_name(view), "")
    layout["yaxis"] |= {"type": "category", "categoryorder": "array", "categoryarray": names[::-1]}
    return {"data": data, "layout": {**layout, "height": max(220, 120 + 40 * len(names))}}


def _span_text(span: AttemptSpan, view: StudyView) -> str:
    end = END_NAMES.get(span.end, span.end.lower())
    seconds = (span.ended_at or view.at) - span.began_at
    where = escaped(span.worker)
    return f"<b>trial {span.trial_number}</b>, attempt {span.attempt}: {end}, {seconds:.0f} s on {where}"


def _finalists(view: StudyView) -> list[Mapping[str, Any]]:
    found = (view.verdict or {}).get("finalists") or []
    return [each for each in found if isinstance(each, Mapping) and isinstance(each.get("mean"), int | float)]
