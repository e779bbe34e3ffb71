"""The model that a study begins with: another study's winner or a registered model, kept in the storage by content."""

from __future__ import annotations

import difflib
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sweep.checkpoints import committing, intact
from sweep.deployable import deployable
from sweep.deployment.export import content_of_model
from sweep.deployment.lineage import LINEAGE_FILE, Lineage, read_lineage
from sweep.errors import UserError
from sweep.execution.warm_client import WarmParent
from sweep.layout import StudyLayout
from sweep.merging import plain_model
from sweep.spec.model import StudySpec
from sweep.study_files import read_spec, tracking_uri
from sweep.tracking import resolve_model

STUDY = "study:"
REGISTERED = "models:/"
_ADAPTER = "adapter_config.json"  # as peft calls it


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseModel:
    """A model to begin with.

    Attributes:
        reference: What the objective loads: a folder, or what the spec says.
        origin: JSON-able: where it comes from and the hash of its content; empty unless the spec names a study's
            winner or a registered model.
    """

    reference: str
    origin: Mapping[str, Any] = field(default_factory=dict)


def base_model(spec: StudySpec, parent: WarmParent) -> BaseModel:
    """The model that a spec names, copied into the storage where it could change or go: whatever becomes of it there,
    the study's trials begin with the same weights. An adapter is merged.

    Raises:
        UserError: If there is no such study, it has no winner yet, or a folder holds an adapter alone.
        ModelError: If a registered model is not to be had.
        SweepError: If it cannot be copied.
    """
    reference = spec.objective.model
    if reference.startswith(STUDY):
        return _kept_plain(spec, *_winner_of(spec, reference.removeprefix(STUDY)), parent)
    if reference.startswith(REGISTERED):
        folder = resolve_model(reference, tracking_uri(spec))
        if not (folder / LINEAGE_FILE).exists():
            return _kept(spec, folder, {})
        return _kept_plain(spec, folder, read_lineage(folder), parent)
    if (Path(reference) / _ADAPTER).is_file():
        raise UserError(
            f"objective.model: {reference} holds an adapter alone. Export it merged (`sweep export` without "
            f"--adapter), or name its study ({STUDY}NAME)."
        )
    return BaseModel(reference=reference)


def _kept_plain(spec: StudySpec, folder: Path, lineage: Lineage, parent: WarmParent) -> BaseModel:
    """A copy of a study's model, an adapter merged."""
    settings = {**lineage.settings, "trust_remote_code": spec.objective.trust_remote_code}
    scratch = spec.layout.prepared
    scratch.mkdir(parents=True, exist_ok=True)
    with plain_model(folder, parent, task=lineage.task, settings=settings, scratch=scratch) as plain:
        return _kept(spec, plain, _origin(lineage))


def _kept(spec: StudySpec, folder: Path, origin: Mapping[str, Any]) -> BaseModel:
    """A copy of a model, by its content."""
    content = content_of_model(folder)
    kept = spec.layout.prepared / f"model-{content[:16]}"
    origin = {"reference": spec.objective.model, **origin, "content": content}
    if not intact(kept):
        with committing(kept, origin) as new:
            shutil.copytree(folder, new, dirs_exist_ok=True)
    return BaseModel(reference=str(kept), origin=origin)


def _winner_of(spec: StudySpec, name: str) -> tuple[Path, Lineage]:
    layout = StudyLayout(spec.layout.storage, name)
    if not layout.spec.exists():
        studies = spec.layout.folder.parent
        known = sorted(folder.name for folder in studies.iterdir()) if studies.is_dir() else []
        near = difflib.get_close_matches(name, known, n=1)
        hint = f" Did you mean {STUDY + near[0]}?" if near else ""
        raise UserError(
            f"objective.model: {STUDY}{name}: no such study in {spec.storage}.{hint} Run it first, or name another."
        )
    chosen, lineage = deployable(read_spec(layout, given=spec))
    return chosen.model, lineage


def _origin(lineage: Lineage) -> dict[str, Any]:
    """What a later study records of the one that trained its base model; that one's own base model among it."""
    metric = str(lineage.metric["name"])
    known = {
        "study": lineage.study,
        "task": lineage.task,
        "trial_number": lineage.trial_number,
        "step": lineage.step,
        "seed": lineage.seed,
        "metric": metric,
        "score": lineage.validation.get(metric),
        "is_confirmed": lineage.verdict is not None,
        "begun_with": dict(lineage.data.get("base_model") or {}) or lineage.base_model,
    }
    return {key: value for key, value in known.items() if value is not None}
