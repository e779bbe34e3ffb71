"""Domain values as JSON, for the way between driver, worker and trial process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from sweep.domain import Assignment, HyperparameterValue, MetricRule, Report, TrainRequest

Json = dict[str, Any]
_REQUEST = "<train request>"
_PATH = "<path>"


def request_to_json(request: TrainRequest) -> Json:
    """A train request as JSON."""
    return {
        **_shallow(request),
        "assignment": assignment_to_json(request.assignment),
        "metric": _shallow(request.metric),
        "settings": dict(request.settings),
        "evaluate_at": list(request.evaluate_at),
    }


def request_from_json(data: Mapping[str, Any]) -> TrainRequest:
    """The train request that :func:`request_to_json` wrote."""
    parts = {
        **data,
        "assignment": assignment_from_json(data["assignment"]),
        "metric": MetricRule(**data["metric"]),
        "evaluate_at": tuple(data["evaluate_at"]),
    }
    return TrainRequest(**parts)


def assignment_to_json(assignment: Assignment) -> Json:
    """An assignment as JSON."""
    return {**_shallow(assignment), "hyperparameters": dict(assignment.hyperparameters)}


def assignment_from_json(data: Mapping[str, Any]) -> Assignment:
    """The assignment that :func:`assignment_to_json` wrote; lists among the values become tuples again."""
    values = {name: _hashable(value) for name, value in data["hyperparameters"].items()}
    return Assignment(**{**data, "hyperparameters": values})


def report_to_json(report: Report) -> Json:
    """A report as JSON."""
    return {**_shallow(report), "metrics": dict(report.metrics)}


def report_from_json(data: Mapping[str, Any]) -> Report:
    """The report that :func:`report_to_json` wrote."""
    return Report(**data)


def argument_to_json(value: Any) -> Any:
    """An argument of an objective's method as JSON; paths and train requests bear a mark."""
    if isinstance(value, TrainRequest):
        return {_REQUEST: request_to_json(value)}
    if isinstance(value, Path):
        return {_PATH: str(value)}
    return dict(value) if isinstance(value, Mapping) else value


def argument_from_json(value: Any) -> Any:
    """The argument that :func:`argument_to_json` wrote."""
    if isinstance(value, dict) and value.keys() == {_REQUEST}:
        return request_from_json(value[_REQUEST])
    if isinstance(value, dict) and value.keys() == {_PATH}:
        return Path(value[_PATH])
    return value


def _shallow(value: TrainRequest | Assignment | MetricRule | Report) -> Json:
    return {each.name: getattr(value, each.name) for each in fields(value)}


def _hashable(value: Any) -> HyperparameterValue:
    return tuple(_hashable(item) for item in value) if isinstance(value, list) else value
