"""The trials as a table that a page sorts and filters: columns, and one list of cells for each trial."""

from __future__ import annotations

from typing import Any

from sweep.cli.text import number, setting
from sweep.domain import GAP, TrialState
from sweep.study_view import StudyView, TrialView

UNRANKED = 10**9

GAP_NAME = "train–validation gap"


def columns(view: StudyView) -> list[dict[str, Any]]:
    """Name of each column, whether it holds numbers or text, and whether it is first sorted upwards."""
    is_up = view.facts.direction == "minimize"
    return [
        {"name": "rank", "kind": "number", "up": True},
        {"name": "trial", "kind": "number", "up": True},
        {"name": "state", "kind": "word", "up": True},
        {"name": view.facts.metric, "kind": "number", "up": is_up},
        {"name": "gain", "kind": "number", "up": False},
        {"name": "test", "kind": "number", "up": is_up},
        *([{"name": GAP_NAME, "kind": "number", "up": True}] if has_gaps(view) else []),
        {"name": view.facts.fidelity_unit, "kind": "number", "up": False},
        *({"name": each.name, "kind": "number", "up": True} for each in view.facts.space),
        {"name": "CPU s", "kind": "number", "up": False},
        *([{"name": "GPU s", "kind": "number", "up": False}] if view.facts.gpus_per_trial else []),
        {"name": "attempts", "kind": "number", "up": False},
        {"name": "what went wrong", "kind": "text", "up": True},
    ]


def rows(view: StudyView) -> list[list[Any]]:
    """Cells by trial: a plain value, or ``{text, sort, style, title, link}``; the best first, then by progress."""
    ranks = {trial_number: rank for rank, trial_number in enumerate(view.ranking, start=1)}
    return [_row(view, trial, ranks.get(trial.number)) for trial in ordered(view)]


def has_gaps(view: StudyView) -> bool:
    """Whether the objective reports how far training and validation loss lie apart."""
    return any(GAP in trial.metrics for trial in view.trials)


def ordered(view: StudyView) -> list[TrialView]:
    """Complete trials by rank, then the others, those that came furthest first."""
    ranks = {trial_number: rank for rank, trial_number in enumerate(view.ranking)}

    def key(trial: TrialView) -> tuple[float, ...]:
        reached = trial.curve[-1].fidelity if trial.curve else 0.0
        return (ranks.get(trial.number, UNRANKED), -reached, -(trial.gain or -1e300), trial.number)

    return sorted(view.trials, key=key)


def _row(view: StudyView, trial: TrialView, rank: int | None) -> list[Any]:
    mark = " ★" if trial.number == view.facts.best else " ◆" if trial.is_baseline else ""
    link = run_link(view, trial)
    title = "the best" if mark == " ★" else "the defaults" if mark else ""
    test = (trial.test or {}).get(view.facts.metric)
    return [
        rank,
        {"text": f"{trial.number}{mark}", "sort": trial.number} | _present(title=title, link=link),
        trial.state,
        _score(trial.value),
        None if trial.is_baseline else _gain(trial.gain),
        _score(test),
        *([_score(trial.metrics.get(GAP))] if has_gaps(view) else []),
        {"text": f"{trial.curve[-1].fidelity:g}", "sort": trial.curve[-1].fidelity} if trial.curve else None,
        *(_setting(trial, each.name) for each in view.facts.space),
        {"text": f"{trial.cpu_seconds:,.0f}", "sort": round(trial.cpu_seconds, 1)},
        *([{"text": f"{trial.gpu_seconds:,.0f}", "sort": trial.gpu_seconds}] if view.facts.gpus_per_trial else []),
        trial.attempts,
        _trouble(trial),
    ]


def run_link(view: StudyView, trial: TrialView) -> str:
    """Where MLflow shows a trial's run, if a server does; else nothing."""
    uri = view.facts.tracking_uri
    if trial.run_id is None or view.facts.experiment_id is None or not uri.startswith(("http://", "https://")):
        return ""
    return f"{uri.rstrip('/')}/#/experiments/{view.facts.experiment_id}/runs/{trial.run_id}"


def _present(**parts: str) -> dict[str, str]:
    return {name: part for name, part in parts.items() if part}


def _score(value: float | None) -> dict[str, Any] | None:
    return None if value is None else {"text": number(value), "sort": value}


def _gain(gain: float | None) -> dict[str, Any] | None:
    if gain is None:
        return None
    style = "up" if gain > 0 else "down" if gain < 0 else ""
    return {"text": f"{gain:+.4f}".replace("-", "−"), "sort": gain} | _present(style=style)


def _setting(trial: TrialView, name: str) -> Any:
    if name not in trial.hyperparameters:
        return None
    value = trial.hyperparameters[name]
    text = setting(value)
    return {"text": text, "sort": value} if isinstance(value, int | float) else {"text": text}


def _trouble(trial: TrialView) -> dict[str, Any] | None:
    lines = [f"attempt {each.attempt} {each.end.lower()}: {each.reason}" for each in trial.setbacks]
    if trial.error:
        lines.append(trial.error)
    if not lines:
        return None
    is_bad = trial.state not in {TrialState.COMPLETE, TrialState.PRUNED}
    return {"text": lines[-1]} | _present(title="\n".join(lines), style="bad" if is_bad else "")
