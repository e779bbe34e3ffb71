"""Specs as plain values and back to text: what is stored, shown and sent to objectives."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import BaseModel

from sweep.spec.space import Choices, listed
from sweep.spec.values import is_plain

if TYPE_CHECKING:
    from sweep.spec.model import StudySpec, TrainingSpec


def plain(value: object) -> Any:
    """A value or a section of a spec, JSON-able, by its YAML keys."""
    if isinstance(value, BaseModel):
        return {key: listed(item) for key, item in value.model_dump(by_alias=True).items()}
    return listed(value)


def plain_training(training: TrainingSpec) -> dict[str, Any]:
    """Training settings, JSON-able; those of a user's own objective lie beside the others."""
    values: dict[str, Any] = plain(training)
    extra = values.pop("extra")
    return {**values, **{key: listed(value) for key, value in extra.items()}}


def resolved(spec: StudySpec) -> dict[str, Any]:
    """A spec in the shape of its YAML, every default filled in, JSON-able."""
    space = {
        name: {"choices": listed(distribution.values)} if isinstance(distribution, Choices) else asdict(distribution)
        for name, distribution in spec.search.space.items()
    }
    data = plain(spec.objective.data)
    if spec.objective.data.validation:
        del data["validation_fraction"]  # splits nothing
    return {
        "study": spec.study,
        "objective": {
            "task": spec.objective.task,
            "model": spec.objective.model,
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
        "resources": plain(spec.resources),
        "limits": plain(spec.limits),
        "on": {name: plain(getattr(spec.on, name)) for name in type(spec.on).model_fields},
        "tracking": plain(spec.tracking),
        "storage": spec.storage,
        "history": spec.history,
        "keep": spec.keep,
    }


class _Dumper(yaml.SafeDumper):
    """Quotes a text that would otherwise be read as something else, such as ``1e-5``."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: _Dumper, value: str) -> yaml.ScalarNode:
    style = None if is_plain(value) else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)


def spec_text(spec: StudySpec) -> str:
    """The resolved spec as YAML; :func:`~sweep.spec.load_spec` loads it to an equal spec."""
    return yaml.dump(resolved(spec), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
