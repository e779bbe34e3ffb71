"""The verdict on a study's finalists, as people read it."""

from __future__ import annotations

from sweep.cli.text import number
from sweep.selection.verdict import Finalist, Interval, Verdict


def verdict_lines(verdict: Verdict) -> list[str]:
    """A line for each finalist, the tied set, the test split, and the sentence."""
    lines = [f"final       {verdict.metric} over {verdict.seeds} fresh seeds:"]
    width = max((len(one.label) for one in verdict.finalists), default=0)
    lines += [f"  {one.label:<{width}}  {_standing(one, verdict)}" for one in verdict.finalists]
    if len(verdict.tied) > 1:
        lines.append(f"tied        {', '.join(verdict.tied)}: they cannot be told apart")
    lines += _test_lines(verdict)
    return [*lines, f"verdict     {verdict.sentence}"]


def _standing(one: Finalist, verdict: Verdict) -> str:
    if one.mean is None:
        return "no score: its runs failed"
    parts = [f"{number(one.mean)}{_within(one.mean, one.interval)}"]
    if one.kind == "baseline":
        parts.append("the defaults")
    if one.gain is not None:
        parts.append(f"gain {one.gain.mean:+.4f}{_within(one.gain.mean, one.gain.interval)}")
    if one.optimism is not None:
        parts.append(f"the search said {number(one.search_score)} (optimism {one.optimism:+.4f})")
    if one.dropped_after is not None:
        parts.append(f"dropped after {one.dropped_after} seeds")
    if one.label == verdict.winner:
        parts.append("winner")
    return " · ".join(parts)


def _within(mean: float, interval: Interval | None) -> str:
    return "" if interval is None else f" ± {(interval[1] - mean):.4f}"


def _test_lines(verdict: Verdict) -> list[str]:
    if verdict.test is None:
        return []
    winner, baseline = verdict.test["winner"]["metrics"], verdict.test["baseline"]
    beside = f" (defaults {number(baseline['metrics'].get(verdict.metric))})" if baseline else ""
    interval = verdict.test["winner"].get("interval")
    within = f" [{number(interval[0])}, {number(interval[1])}]" if interval else ""
    times = len(verdict.test["opened_at"])
    often = f"; opened {times} times" if times > 1 else ""
    return [f"test        {verdict.metric} {number(winner.get(verdict.metric))}{within}{beside}{often}"]
