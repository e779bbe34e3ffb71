"""Rules of k-fold validation: what follows from it, and what does not go with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sweep.spec import rules
from sweep.spec.problems import BrokenRule
from sweep.spec.reading import Reader

_WITHIN_A_RUN = ("successive-halving", "median")
_EVALUATIONS = ("patience", "evaluate_every")


def check_folds(found: dict[str, Any], reader: Reader, task: str) -> None:
    """Check what k-fold validation goes with; without another word, trials are compared fold by fold.

    Args:
        found: Nested values of the spec; changed in place.
        reader: Receives the problems.
        task: What is trained.
    """
    data = found.get("objective", {}).get("data") or {}
    pruner = found.setdefault("search", {}).setdefault("pruner", {})
    if not data.get("folds"):
        if pruner.get("name") == "wilcoxon" and "objective.data.folds" not in reader.failed:
            rule = "compares trials fold by fold, and there are no folds"
            reader.blame("search.pruner.name", BrokenRule(rule, "Add objective.data.folds: 5, or name another pruner"))
        return
    pruner.setdefault("name", "wilcoxon")
    found.setdefault("metric", {}).setdefault("source", "last")
    if pruner["name"] in _WITHIN_A_RUN:
        rule = "compares trials within a run, and with folds they are compared fold by fold"
        reader.blame("search.pruner.name", BrokenRule(rule, "Use wilcoxon or none"))
    if found["metric"]["source"] == "best":
        rule = "chooses an evaluation by the rows it is scored on, and a fold counts by the end of its training"
        reader.blame("metric.from", BrokenRule(rule, "Write last, or leave it out"))
    if rules.is_own(task):
        rule = "is for the tasks that come with Sweep, and this objective splits its data itself"
        reader.blame("objective.data.folds", BrokenRule(rule, "Leave it out"))
    for key in ("validation", "validation_fraction"):
        if f"objective.data.{key}" in reader.nodes and data.get(key):
            rule = "goes with no folds: these validate on the training rows in turn"
            reader.blame(f"objective.data.{key}", BrokenRule(rule, "Leave it out, or leave folds out"))
    if (found.get("resources") or {}).get("devices_per_trial", 1) != 1:
        rule = "goes with no folds: each of a trial's models is trained on one device"
        reader.blame("resources.devices_per_trial", BrokenRule(rule, "Leave it out, or leave data.folds out"))
    _evaluations(found, reader)
    if (found.get("confirm") or {}).get("soup", "none") != "none":
        rule = "goes with no folds: there are no validation rows that an average could be chosen by"
        reader.blame("confirm.soup", BrokenRule(rule, "Write none"))


def _evaluations(found: Mapping[str, Any], reader: Reader) -> None:
    """Refuse what needs evaluations within a run."""
    training, space = found["objective"].get("training") or {}, found["search"].get("space") or {}
    for key in _EVALUATIONS:
        rule = "needs evaluations within a run, and a fold is evaluated at its end"
        if training.get(key) is not None:
            reader.blame(f"objective.training.{key}", BrokenRule(rule, "Leave it out"))
        if key in space:
            reader.blame(f"search.{key}", BrokenRule(rule, "Leave it out"))
