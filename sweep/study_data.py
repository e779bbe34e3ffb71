"""A study's data: prepared before its first trial, found again by a resume, drawn anew for a final."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from sweep import objective_jobs
from sweep.checkpoints import intact
from sweep.domain import confirmation_seed
from sweep.errors import InvalidDataError
from sweep.execution.warm_client import WarmParent
from sweep.redaction import Redactor
from sweep.spec.model import StudySpec
from sweep.study_files import read_facts


def prepare_and_check(spec: StudySpec, parent: WarmParent) -> dict[str, Any]:
    """The data of a study that begins, after one real batch of its defaults, and its rates where they are found."""
    data = objective_jobs.prepare(spec, parent, objective_jobs.objective_settings(spec))
    found = objective_jobs.check(spec, parent, data)
    data["warnings"] = [*data.get("warnings", []), *found.get("warnings", [])]
    if spec.search.finds_rate:
        rates = objective_jobs.find_learning_rate(spec, parent, data)
        data["learning_rate"] = {"low": rates["low"], "high": rates["high"]}
    return data


def prepare_again(spec: StudySpec, parent: WarmParent) -> dict[str, Any]:
    """The data and the base model the study began with, whatever became of their sources since."""
    began = read_facts(spec.layout, "data")
    if not began:
        return prepare_and_check(spec, parent)
    if intact(Path(began["folder"])):
        return began
    began_with = {"model": began["model"], "base_model": began.get("base_model")}
    data = objective_jobs.prepare(spec, parent, {**spec.objective_settings(), **began_with})
    _refuse_other_data(spec, data, began)
    return data


def _refuse_other_data(spec: StudySpec, data: Mapping[str, Any], began: Mapping[str, Any]) -> None:
    if data["data_hash"] != began["data_hash"]:
        raise InvalidDataError(
            f"study {spec.study!r}: its data has changed since it began ({data['data_hash'][:12]} is not "
            f"{began['data_hash'][:12]}), and trials on other data cannot be compared. Restore the data, or start "
            f"another study with `--set study={spec.study}-2`."
        )


def fresh_splits(
    spec: StudySpec, parent: WarmParent, data: Mapping[str, Any], redactor: Redactor, stop: Callable[[], bool]
) -> Callable[[int], dict[str, Any]]:
    """How the study's data is prepared with training and validation rows drawn anew, by seed index of the final."""
    settings = {**spec.objective_settings(), "model": data["model"], "base_model": data.get("base_model")}

    @cache
    def check_source() -> None:
        _refuse_other_data(spec, objective_jobs.prepare(spec, parent, settings, stop=stop), data)

    def fresh(seed_index: int) -> dict[str, Any]:
        # A seed's own rows tell nothing of a source that has changed before they were drawn for the first time.
        check_source()
        seed = confirmation_seed(spec.search.seed, seed_index)
        drawn = {**settings, "data": {**settings["data"], "validation_seed": seed}}
        return shown(objective_jobs.prepare(spec, parent, drawn, stop=stop), redactor)

    return fresh


def shown(data: Mapping[str, Any], redactor: Redactor) -> dict[str, Any]:
    """What is known of the data, without secrets; what trials and a resume go by stays as it is."""
    used = {key: data[key] for key in ("folder", "model", "data_hash") if key in data}
    return {**redactor.values(data), **used}
