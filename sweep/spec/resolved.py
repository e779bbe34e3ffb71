"""Specs as plain values and back to text: what is stored, shown and sent to objectives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import BaseModel

from sweep.spec.references import with_references
from sweep.spec.space import AUTO, Choices, listed
from sweep.spec.values import is_plain

if TYPE_CHECKING:
    from sweep.spec.model import DataSpec, StudySpec, TrainingSpec


def plain(value: object) -> Any:
    """A value or a section of a spec, JSON-able, by its YAML keys."""
    if isinstance(value, BaseModel):
        return {key: listed(item) for key, item in value.model_dump(by_alias=True).items()}
    return listed(value)


def plain_data(data: DataSpec) -> dict[str, Any]:
    """Where the rows come from, JSON-able; the columns lie beside the others."""
    values: dict[str, Any] = plain(data)
    columns = values.pop("columns")
    return {**values, **columns}


def plain_training(training: TrainingSpec) -> dict[str, Any]:
    """Training settings, JSON-able; those of a user's own objective lie beside the others."""
    values: dict[str, Any] = plain(training)
    extra = values.pop("extra")
    return {**values, **{key: listed(value) for key, value in extra.items()}}


def resolved(spec: StudySpec) -> dict[str, Any]:
    """A spec in the shape of its YAML, every default filled in, JSON-able; ``${NAME}`` stays as written."""
    space: dict[str, Any] = {
        name: {"choices": listed(distribution.values)} if isinstance(distribution, Choices) else asdict(distribution)
        for name, distribution in spec.search.space.items()
    }
    if spec.search.finds_rate:
        space["learning_rate"] = AUTO
    data = plain_data(spec.objective.data)
    if spec.objective.data.validation or spec.objective.data.folds:
        del data["validation_fraction"]  # splits nothing
    values = {
        "study": spec.study,
        "objective": {
            "task": spec.objective.task,
            "model": spec.objective.model,
            "trust_remote_code": spec.objective.trust_remote_code,
            "data": data,
            "training": plain_training(spec.objective.training),
        },
        "search": {
            **space,
            "seed": spec.search.seed,
            "sampler": plain(spec.search.sampler),
            "pruner": plain(spec.search.pruner),
        },
        "metric": plain(spec.metric),
        "budget": plain(spec.budget),
        "confirm": plain(spec.confirm) if spec.confirm else None,
        "resources": plain(spec.resources),
        "limits": plain(spec.limits),
        "on": {name: plain(getattr(spec.on, name)) for name in type(spec.on).model_fields},
        "tracking": plain(spec.tracking),
        "storage": spec.storage,
        "history": spec.history,
        "keep": spec.keep,
    }
    return with_references(values, spec.references)


class _Dumper(yaml.SafeDumper):
    """Quotes a text that would otherwise be read as something else, such as ``1e-5``."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: _Dumper, value: str) -> yaml.ScalarNode:
    style = None if is_plain(value) else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)


def spec_text(values: Mapping[str, Any]) -> str:
    """A resolved spec as YAML; :func:`~sweep.spec.load_spec` loads it to an equal spec."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
