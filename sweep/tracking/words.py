"""What a study is called in MLflow: names, tags, parameters, metrics, states."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from sweep.domain import Report, TrialState

UID = "sweep.study_uid"
STUDY = "sweep.study"
ROLE = "sweep.role"
TRIAL = "sweep.trial_number"
STATE = "sweep.state"
ATTEMPT = "sweep.attempt"
RANK = "sweep.rank"
BEST = "sweep.best"
STEP = "sweep.step"
SPLIT = "sweep.micro_batch_split"
SUPERSEDED = "sweep.superseded"
ERROR = "sweep.error"
CONFIRMS = "sweep.confirms"
SEED_INDEX = "sweep.seed_index"
WINNER = "sweep.winner"
IS_SIGNIFICANT = "sweep.is_significant"
VERDICT = "sweep.verdict"
PROBE = "sweep.probe"
BASE_MODEL = "sweep.base_model"
BASE_CONTENT = "sweep.base_model.content"

OBJECTIVE_VALUE = "objective_value"

STATUS: Mapping[TrialState, str] = {
    TrialState.PENDING: "SCHEDULED",
    TrialState.RUNNING: "RUNNING",
    TrialState.PAUSED: "SCHEDULED",
    TrialState.COMPLETE: "FINISHED",
    TrialState.PRUNED: "KILLED",
    TrialState.CANCELLED: "KILLED",
    TrialState.DIVERGED: "FAILED",
    TrialState.OOM: "FAILED",
    TrialState.TIMEOUT: "FAILED",
    TrialState.FAILED: "FAILED",
}
"""MLflow has five states and we have ten: only a complete trial is FINISHED, one that was stopped on purpose
is KILLED, one that will go on is SCHEDULED. The tag ``sweep.state`` has the exact word."""

STUDY_STATUS: Mapping[str, str] = {
    "RUNNING": "RUNNING",
    "COMPLETE": "FINISHED",
    "PAUSED": "SCHEDULED",
    "FAILED": "FAILED",
}
"""Of the study's own run; KILLED for every other end."""

_FORBIDDEN = re.compile(r"[^/\w.\- :]")


def trial_name(number: int, *, best: bool = False) -> str:
    """Run name of a trial; the winner bears a star."""
    return f"trial-{number:04d}" + (" ★ best" if best else "")


def value_name(state: TrialState) -> str:
    """The metric that holds a trial's objective value.

    Only that of a complete trial takes part in the ranking, so only that is called by the name people sort by.
    """
    return OBJECTIVE_VALUE if state is TrialState.COMPLETE else "value_when_stopped"


def milliseconds(seconds: float) -> int:
    """MLflow's clock."""
    return round(seconds * 1000)


def text(value: object) -> str:
    """A parameter's value as people write it."""
    if isinstance(value, tuple | list | dict):
        return json.dumps(value)
    return "null" if value is None else str(value)


def metric_name(name: str) -> str:
    """A name that MLflow takes: none of its forbidden characters, and a plain relative path."""
    parts = [part for part in _FORBIDDEN.sub("_", name).split("/") if part not in ("", ".", "..")]
    return "/".join(parts)[:250].rstrip("/") or "_"


def finite(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The finite numbers of ``metrics``, under names that MLflow takes."""
    numbers = {
        metric_name(name): float(value)
        for name, value in metrics.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    return {name: value for name, value in numbers.items() if math.isfinite(value)}


def report_metrics(report: Report, *, unit: str) -> dict[str, float]:
    """All numbers of an evaluation.

    Args:
        report: The evaluation.
        unit: Fidelity unit of the study: ``epochs``, ``steps`` or ``folds``.
    """
    metrics = {"seconds": report.wall_seconds, **report.metrics}
    if unit in ("epochs", "folds"):
        metrics.setdefault("epoch" if unit == "epochs" else "folds", report.fidelity)
    return finite(metrics)


def fidelity_unit(spec: Mapping[str, Any]) -> str:
    """The unit in which a study measures training."""
    objective = dict(spec.get("objective") or {})
    training = dict(objective.get("training") or {})
    if dict(objective.get("data") or {}).get("folds"):
        return "folds"
    # A searched setting stands beside the sampler, and has no value in the training section.
    in_steps = training.get("steps") is not None or "steps" in dict(spec.get("search") or {})
    return "steps" if in_steps else "epochs"


def study_parameters(spec: Mapping[str, Any], data: Mapping[str, Any]) -> dict[str, str]:
    """What the parent run shows of the spec."""
    objective, search = dict(spec.get("objective") or {}), dict(spec.get("search") or {})
    source, metric = dict(objective.get("data") or {}), dict(spec.get("metric") or {})
    files = source.get("train") or ()
    shown = {
        "metric": metric.get("name"),
        "direction": metric.get("direction"),
        "from": metric.get("from", metric.get("source")),
        "sampler": _name(search.get("sampler")),
        "pruner": _name(search.get("pruner")),
        "seed": search.get("seed"),
        "trials": dict(spec.get("budget") or {}).get("trials"),
        "hours": dict(spec.get("budget") or {}).get("hours"),
        "task": objective.get("task"),
        "model": objective.get("model"),
        "data": source.get("source") or ([files] if isinstance(files, str) else list(files)),
        "data_hash": data.get("data_hash"),
        "folds": source.get("folds"),
        **{f"base_model.{key}": value for key, value in dict(data.get("base_model") or {}).items()},
        **{f"rows.{split}": count for split, count in dict(data.get("rows") or {}).items()},
        **{f"training.{key}": value for key, value in dict(objective.get("training") or {}).items()},
    }
    return {key: text(value) for key, value in shown.items() if value is not None and value != []}


def base_model_tags(data: Mapping[str, Any]) -> dict[str, str]:
    """What the parent run is tagged with when a study begins with another's model: which, and the hash of its content.

    The hash is that of :data:`sweep.tracking.registry.CONTENT`, by which registered versions are found.
    """
    base = dict(data.get("base_model") or {})
    if not base:
        return {}
    place = [f"{name} {base[key]}" for name, key in (("trial", "trial_number"), ("step", "step")) if key in base]
    whose = ", ".join([str(base.get("study", base["reference"])), *place])
    return {BASE_MODEL: whose, BASE_CONTENT: str(base["content"])}


def _name(part: object) -> object:
    return part.get("name") if isinstance(part, Mapping) else part
