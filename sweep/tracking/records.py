"""Records as JSON, with a kind and a version, so that a spool outlives the release that wrote it."""

from __future__ import annotations

import dataclasses
import json
import numbers
from collections.abc import Hashable, Mapping
from typing import Any

from sweep.domain import Report, TrialState
from sweep.errors import RecordingError
from sweep.ports import (
    AttemptBegun,
    AttemptOver,
    ModelKept,
    Record,
    StudyBegun,
    StudyOver,
    Superseded,
    TrialOver,
    VerdictReached,
)

VERSION = 1

KINDS: Mapping[str, type[Any]] = {
    "study_begun": StudyBegun,
    "attempt_begun": AttemptBegun,
    "attempt_over": AttemptOver,
    "report": Report,
    "superseded": Superseded,
    "trial_over": TrialOver,
    "model_kept": ModelKept,
    "verdict_reached": VerdictReached,
    "study_over": StudyOver,
}

_NAMES = {kind: name for name, kind in KINDS.items()}


def to_json(record: Record) -> str:
    """One line of JSON, ASCII, without a line break; NaN and infinities are written as such."""
    fields = {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}
    payload = {"kind": _NAMES[type(record)], "version": VERSION, **fields}
    text = json.dumps(payload, default=_plain, separators=(",", ":"))
    if "\\ud" in text:
        # Half a character, as in the name of a file that is not UTF-8, is one that no database takes.
        text = json.dumps(_whole(json.loads(text)), separators=(",", ":"))
    return text


def from_json(text: str) -> Record:
    """The record that ``to_json`` wrote; unknown fields of a newer release are left out.

    Raises:
        RecordingError: If the kind is unknown or a field is missing.
    """
    payload = json.loads(text)
    kind = KINDS.get(str(payload.get("kind"))) if isinstance(payload, dict) else None
    if kind is None:
        raise RecordingError(f"spool: record {text[:80]!r} has no kind this release knows. Update sweep.")
    known = {field.name for field in dataclasses.fields(kind)}
    fields = {key: value for key, value in payload.items() if key in known}
    if "hyperparameters" in fields:
        fields["hyperparameters"] = {key: _tupled(value) for key, value in fields["hyperparameters"].items()}
    if kind in (AttemptOver, TrialOver):
        fields["state"] = TrialState(fields["state"])
    try:
        record: Record = kind(**fields)
    except TypeError as err:
        raise RecordingError(f"spool: record {text[:80]!r} lacks a field ({err}). Update sweep.") from err
    return record


def identity(record: Record) -> Hashable | None:
    """What may be recorded once only; None for records that may repeat."""
    match record:
        case Report():
            return ("report", record.trial_number, record.step)
        case AttemptBegun():
            return ("attempt_begun", record.trial_number, record.attempt)
        case AttemptOver():
            return ("attempt_over", record.trial_number, record.attempt)
        case Superseded():
            return ("superseded", record.trial_number, record.attempt, record.step)
        case TrialOver():
            return ("trial_over", record.trial_number)
        case ModelKept():
            # The test split may be opened after the model was first kept.
            return ("model_kept", record.trial_number, record.step, record.test is not None)
        case _:
            return None


def _plain(value: object) -> object:
    """JSON for what is not: numbers of other libraries, any mapping or sequence, else the text."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value)
    if isinstance(value, set | frozenset):
        return sorted(value, key=str)
    return str(value)


def _whole(value: Any) -> Any:
    if isinstance(value, dict):
        return {_whole(key): _whole(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_whole(item) for item in value]
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


def _tupled(value: Any) -> Any:
    return tuple(_tupled(item) for item in value) if isinstance(value, list) else value
