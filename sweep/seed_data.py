"""The data that each fresh seed of a final is trained on: the study's, or rows drawn anew, once for all sessions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sweep.checkpoints import intact
from sweep.errors import InvalidDataError
from sweep.spec.model import ConfirmSpec, StudySpec
from sweep.study_files import read_facts

_SPLITS = "splits"
"""Where a final's facts hold the data of each seed."""


def data_of_seeds(
    spec: StudySpec, confirm: ConfirmSpec, data: Mapping[str, Any], fresh_data: Callable[[int], Mapping[str, Any]]
) -> list[Mapping[str, Any]]:
    """Summary of the data of each seed index; what a seed began with is found again, or made again alike.

    Args:
        spec: The searched study.
        confirm: Its final.
        data: Summary of the search's data.
        fresh_data: Prepares it with training and validation rows drawn anew, by seed index.

    Raises:
        InvalidDataError: If the source has changed since.
    """
    if confirm.splits == "same":
        return [data] * confirm.seeds
    began = _began(spec)
    return [_fresh(spec, index, data, began.get(str(index)), fresh_data) for index in range(confirm.seeds)]


def facts_of_seeds(spec: StudySpec, data: Mapping[str, Any], prepared: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What is written down of a final's data.

    Args:
        spec: The searched study.
        data: Summary of the search's data.
        prepared: As :func:`data_of_seeds` gives it.
    """
    folders = list(dict.fromkeys(str(own["folder"]) for own in prepared))
    facts = {**data, "prepared": folders}
    if folders != [data["folder"]]:
        # What seeds beyond those of this session began with stays known.
        facts[_SPLITS] = {**_began(spec), **{str(index): own for index, own in enumerate(prepared)}}
    return facts


def _began(spec: StudySpec) -> Mapping[str, Any]:
    began: Mapping[str, Any] = read_facts(spec.layout.confirmation, "data").get(_SPLITS, {})
    return began


def _fresh(
    spec: StudySpec,
    index: int,
    data: Mapping[str, Any],
    began: Mapping[str, Any] | None,
    fresh_data: Callable[[int], Mapping[str, Any]],
) -> Mapping[str, Any]:
    if began is not None:
        folder = spec.layout.prepared / Path(began["folder"]).name
        if intact(folder):
            return {**began, "folder": str(folder)}
    fresh = {**data, **fresh_data(index)}
    if began is not None and fresh["data_hash"] != began["data_hash"]:
        raise InvalidDataError(
            f"study {spec.study!r}: the data of seed {index} of its final has changed since it began "
            f"({fresh['data_hash'][:12]} is not {began['data_hash'][:12]}), and runs on other data cannot be "
            f"compared. Restore the data, then `sweep resume {spec.study}`."
        )
    return fresh
