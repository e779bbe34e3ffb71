"""What happened in a study between two looks at it, one thing after another."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sweep.cli.text import number
from sweep.domain import TrialState
from sweep.study_view import StudyView, TrialView


def happenings(before: StudyView | None, now: StudyView) -> Iterator[dict[str, Any]]:
    """Evaluations, setbacks and ends of trials, and the study's own changes of state, each as a JSON-able value.

    Args:
        before: The earlier look; None tells of the study's state alone.
        now: The later one, of the same reader.
    """
    if before is None:
        yield study_line(now)
        return
    known = {trial.number: trial for trial in before.trials}
    for trial in now.changed_since(before.token):
        yield from _of_trial(known.get(trial.number), trial, now)
    if now.facts.state != before.facts.state:
        yield study_line(now)


def study_line(view: StudyView) -> dict[str, Any]:
    """The study in one value."""
    facts = view.facts
    return {
        "kind": "study",
        "study": facts.study,
        "state": facts.state,
        "finished": facts.finished,
        "trials": facts.trials,
        "counts": dict(facts.counts),
        "best": facts.best,
        "best_value": facts.best_value,
        "baseline_value": facts.baseline_value,
        "gain": facts.gain,
        "cpu_seconds": view.spend.cpu_seconds,
        "gpu_seconds": view.spend.gpu_seconds,
        "saved_cpu_seconds": view.spend.saved_cpu_seconds,
        "eta_seconds": view.eta_seconds,
        "at": view.at,
    }


def line(happening: dict[str, Any], metric: str) -> str:
    """A happening in words."""
    trial = happening.get("trial")
    match happening["kind"]:
        case "evaluation":
            where = f"fold {happening['fold']}" if "fold" in happening else f"step {happening['step']}"
            return f"trial {trial}: {where}, {metric} {number(happening['value'])}"
        case "setback":
            end = str(happening["end"]).lower()
            return f"trial {trial}: attempt {happening['attempt']} {end} ({happening['reason']})"
        case "trial_over":
            done = f"[{happening['finished']}/{happening['trials']}]"
            text = f"trial {trial} {happening['state']} {number(happening['value'])} {done} {_leader(happening)}"
            return f"{text}\ntrial {trial}: {happening['error']}" if happening["error"] else text
        case _:
            done = f"{happening['finished']}/{happening['trials']} trials"
            return f"{happening['study']} {happening['state']} {done} · {_leader(happening)}"


def _leader(happening: dict[str, Any]) -> str:
    best, defaults = happening["best"], number(happening["baseline_value"])
    leader = "no trial complete yet" if best is None else f"best {number(happening['best_value'])} (trial {best})"
    return f"{leader} · defaults {defaults}"


def _of_trial(before: TrialView | None, now: TrialView, view: StudyView) -> Iterator[dict[str, Any]]:
    known = {point.step for point in before.curve} if before else set()
    for point in now.curve:
        if point.step not in known:
            fold = {"fold": round(point.fidelity)} if view.facts.fidelity_unit == "folds" else {}
            told = {"trial": now.number, "step": point.step, **fold, "value": point.value, "at": view.at}
            yield {"kind": "evaluation", **told}
    for setback in now.setbacks[len(before.setbacks) if before else 0 :]:
        yield {
            "kind": "setback",
            "trial": now.number,
            "attempt": setback.attempt,
            "end": setback.end,
            "reason": setback.reason,
            "at": view.at,
        }
    was_over = before is not None and TrialState(before.state).is_finished
    if TrialState(now.state).is_finished and not was_over:
        facts = view.facts
        yield {
            "kind": "trial_over",
            "trial": now.number,
            "state": now.state,
            "value": now.value,
            "gain": now.gain,
            "error": now.error,
            "finished": facts.finished,
            "trials": facts.trials,
            "best": facts.best,
            "best_value": facts.best_value,
            "baseline_value": facts.baseline_value,
            "at": now.ended_at,
        }
