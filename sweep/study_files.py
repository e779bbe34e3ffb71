"""What a study's folder tells without its driver: its spec, its data, its environment."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import yaml

from sweep.errors import InvalidSpecError, SweepError
from sweep.layout import StudyLayout
from sweep.redaction import Redactor
from sweep.spec import (
    how_to_keep_secrets,
    spec_from_resolved,
    spec_secrets,
    spec_text,
    stored_spec,
    with_secrets,
)
from sweep.spec.model import StudySpec
from sweep.spec.source import BoundedLoader


def read_spec(
    layout: StudyLayout,
    *,
    given: StudySpec | None = None,
    needed: Collection[str] | None = ("history",),
    **changes: Mapping[str, Any],
) -> StudySpec:
    """The resolved spec of a study on disk, with its storage where it lies now.

    Args:
        layout: The study's paths.
        given: The spec as its user has it, which knows the secrets that are not stored.
        needed: Keys that must have their secret (``history``, ``tracking.uri``); None for all that had one.
        changes: New values by section, e.g. ``budget={"trials": 24}``.

    Raises:
        UserError: If a change is not allowed, or a secret is not to be had.
        SweepError: If it cannot be read.
    """
    try:
        stored = yaml.load(layout.spec.read_text(encoding="utf-8"), BoundedLoader)
        stored = {**stored, "storage": str(layout.storage), "study": layout.study}
        spec_from_resolved(stored, needed=())
        data = with_secrets(stored, given.resolved() if given else None, os.environ, needed, _struck(layout))
        changed = {section: {**(data.get(section) or {}), **values} for section, values in changes.items()}
    except (OSError, yaml.YAMLError, TypeError, AttributeError, KeyError, ValueError, InvalidSpecError) as err:
        reason = " ".join(str(err).split())
        raise SweepError(
            f"{layout.spec}: cannot be read ({reason}). Restore it from the parent run's artifacts."
        ) from err
    return spec_from_resolved({**data, **changed}, needed=needed)


def read_facts(layout: StudyLayout, name: str) -> dict[str, Any]:
    """``data``, ``environment`` or ``struck`` of a study, as written when it began; empty if it has not."""
    try:
        facts: dict[str, Any] = json.loads((layout.folder / f"{name}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return facts


def _struck(layout: StudyLayout) -> list[str] | None:
    keys = read_facts(layout, "struck").get("keys")
    return None if keys is None else [str(key) for key in keys]


def redactor_for(spec: StudySpec) -> Redactor:
    """Knows the secrets of a study and of this process's environment."""
    return Redactor.from_environment(os.environ).knowing(*spec_secrets(spec))


def secrets_warnings(spec: StudySpec) -> list[str]:
    """What the study will ask for when it is resumed, and how to spare the question."""
    return how_to_keep_secrets(stored_spec(spec, redactor_for(spec))[1])


def tracking_uri(spec: StudySpec) -> str:
    """Where the study's record goes."""
    return spec.tracking.uri or spec.layout.tracking_uri


def write_facts(
    layout: StudyLayout,
    spec: Mapping[str, Any],
    data: Mapping[str, Any],
    environment: Mapping[str, Any],
    struck: Collection[str] | None = None,
) -> None:
    """Write what a study began with; it exists from then on.

    Args:
        layout: The study's paths.
        spec: The resolved spec, as it may be stored.
        data: Summary of the prepared data.
        environment: Versions and machine.
        struck: Keys of the spec whose values may not be stored, if that is known.

    Raises:
        SweepError: If it cannot be written.
    """
    layout.folder.mkdir(parents=True, exist_ok=True)
    # The spec comes last: a study exists once its spec does.
    write_atomically(layout.folder / "data.json", json.dumps(data, indent=2))
    write_atomically(layout.folder / "environment.json", json.dumps(environment, indent=2))
    if struck is not None:
        write_atomically(layout.folder / "struck.json", json.dumps({"keys": sorted(struck)}))
    write_atomically(layout.spec, spec_text(spec))


def write_atomically(path: Path, text: str) -> None:
    """Temporary file, fsync, rename.

    Raises:
        SweepError: If it cannot be written; what was there before stays.
    """
    temporary = path.with_name(f".{path.name}-{os.getpid()}")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as err:
        temporary.unlink(missing_ok=True)
        raise SweepError(f"{path}: cannot be written ({err.strerror}). Free space, then try again.") from err
