"""Secrets in a spec: which texts may hold one, what is stored in their place, and how they come back."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sweep.errors import UserError
from sweep.redaction import MASK, Redactor, redacted, secrets_in
from sweep.spec.sections import TrainingSpec

if TYPE_CHECKING:
    from sweep.spec.model import StudySpec

VARIABLES = {"tracking.uri": "SWEEP_TRACKING_URI", "history": "SWEEP_HISTORY"}
"""Where a value that is not stored is looked for when a study goes on."""

_TRAINING = "objective.training."
_INSTEAD = {
    "tracking.uri": "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN",
    "history": "leave it to PGPASSWORD or ~/.pgpass",
}


def spec_secrets(spec: StudySpec) -> set[str]:
    """What must not be shown of a spec: passwords in its URLs, and what its objective's settings call a secret."""
    return secrets_in([spec.tracking.uri, spec.history, dict(spec.objective.training.extra)])


def stored_spec(spec: StudySpec, redactor: Redactor) -> tuple[dict[str, Any], list[str]]:
    """The resolved spec without its secrets, and the keys whose values were struck out.

    Only what can hold one is looked at, so that names, paths and numbers are stored as they are.
    """
    values = spec.resolved()
    struck = []
    for key in _keys(values):
        value = _at(values, key)
        shown = redacted(value) if key in VARIABLES and value else redactor.values({key: value})[key]
        if shown != value:
            _put(values, key, shown)
            struck.append(key)
    return values, struck


def how_to_keep_secrets(struck: Collection[str]) -> list[str]:
    """A warning for each value that will not be stored, and what to do instead."""
    return [
        f"the secret in {key} is not stored, and `sweep resume` will ask for it. Write ${{NAME}} in its place and set "
        f"the environment variable NAME{f', or {_INSTEAD[key]}' if key in _INSTEAD else ''}."
        for key in struck
    ]


def with_secrets(
    values: Mapping[str, Any],
    given: Mapping[str, Any] | None,
    environ: Mapping[str, str],
    needed: Collection[str] | None,
    struck: Collection[str] | None = None,
) -> dict[str, Any]:
    """A stored spec with the values that were struck out, as far as they are to be had.

    Args:
        values: The stored spec.
        given: The spec to take them from, resolved, or None.
        environ: The variables to take them from otherwise.
        needed: Keys that must have their value; None for all.
        struck: Keys whose values were struck out, as ``stored_spec`` told; None if nobody noted them, as older
            releases did not: then a value with ``***`` in it is taken for one.

    Raises:
        UserError: If one of them has not.
    """
    filled = copy.deepcopy(dict(values))
    missing = []
    for key in _keys(values):
        if key not in struck if struck is not None else MASK not in str(_at(values, key)):
            # A text of the user's own may have stars in it.
            continue
        found = _at(given or {}, key) or environ.get(VARIABLES.get(key, ""))
        if found:
            _put(filled, key, found)
        elif needed is None or key in needed:
            missing.append(key)
    if missing:
        variables = "".join(f", or set {VARIABLES[key]}" for key in missing if key in VARIABLES)
        raise UserError(
            f"study {values['study']!r}: the secret in {' and '.join(missing)} is not stored. "
            f"Name the study by its spec file, which has it{variables}."
        )
    return filled


def is_spared(keys: Sequence[str | int], needed: Collection[str]) -> bool:
    """Whether a text that may hold a secret is none of the needed ones."""
    key = ".".join(str(part) for part in keys[:3])
    is_own = key.startswith(_TRAINING) and keys[2] not in TrainingSpec.model_fields
    return (is_own or key in VARIABLES) and key not in needed


def _keys(values: Mapping[str, Any]) -> list[str]:
    """Keys whose values may hold a secret: URLs, and what an objective of the user's own takes."""
    own = [name for name in values["objective"]["training"] if name not in TrainingSpec.model_fields]
    return [*VARIABLES, *(f"{_TRAINING}{name}" for name in own)]


def _at(values: Mapping[str, Any], key: str) -> Any:
    place: Any = values
    for part in key.split("."):
        place = place.get(part) if isinstance(place, Mapping) else None
    return place


def _put(values: Mapping[str, Any], key: str, value: Any) -> None:
    above, _, last = key.rpartition(".")
    place: Any = _at(values, above) if above else values
    place[last] = value
