"""Rules of trials that train on several devices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sweep.spec import rules
from sweep.spec.problems import BrokenRule
from sweep.spec.reading import Reader
from sweep.spec.space import Choices

_NOT_SHARDED: Mapping[str, tuple[Any, ...]] = {
    "method": ("lora", "dora"),
    "optimizer": ("adafactor",),
    "precision": ("fp16",),
    "compile": (True,),
}


def check_devices(found: Mapping[str, Any], reader: Reader, task: str) -> None:
    """Check what a trial takes, and what goes with a model that is spread over several devices.

    Args:
        found: Nested values of the spec.
        reader: Receives the problems.
        task: What is trained.
    """
    resources = found.get("resources", {})
    _devices(resources, reader)
    if resources.get("strategy") == "fsdp" and not rules.is_own(task):
        training, space = found.get("objective", {}).get("training", {}), found.get("search", {}).get("space", {})
        _sharding(training, space, reader)


def _devices(resources: Mapping[str, Any], reader: Reader) -> None:
    """Refuse shares that cannot be parted among the devices of a trial."""
    path = "resources.devices_per_trial"
    devices = resources.get("devices_per_trial", 1)
    if resources.get("strategy") == "fsdp" and devices == 1:
        rule = "spreads a model over several devices, and resources.devices_per_trial is 1"
        reader.blame("resources.strategy", BrokenRule(rule, "Raise that, or use ddp"))
    if devices == 1 or {"resources", path, "resources.cpus_per_trial", "resources.gpus_per_trial"} & reader.failed:
        return
    cpus, gpus = resources.get("cpus_per_trial", 1.0), resources.get("gpus_per_trial", 0.0)
    if cpus < devices:
        rule = f"needs a CPU for the process of each device, and resources.cpus_per_trial is {cpus:g}"
        reader.blame(path, BrokenRule(rule, f"Set resources.cpus_per_trial to {devices} or more"))
    if gpus not in (0, devices):
        rule = f"does not fit resources.gpus_per_trial={gpus:g}"
        reader.blame(path, BrokenRule(rule, f"Set that to {devices}, a GPU for each device, or to 0"))


def _sharding(training: Mapping[str, Any], space: Mapping[str, Any], reader: Reader) -> None:
    """Refuse settings that do not go with a model spread over several devices."""
    remedy = "Leave it out, or use ddp"
    for name, refused in _NOT_SHARDED.items():
        if training.get(name) in refused:
            reader.blame(f"objective.training.{name}", BrokenRule("does not go with resources.strategy=fsdp", remedy))
        searched = space.get(name)
        for value in searched.values if isinstance(searched, Choices) else ():
            if value in refused:
                rule = f"holds {str(value).lower()}, which does not go with resources.strategy=fsdp"
                reader.blame(f"search.{name}", BrokenRule(rule, remedy))
    if training.get("layer_drop") or "layer_drop" in space:
        place = "search.layer_drop" if "layer_drop" in space else "objective.training.layer_drop"
        rule = "does not go with resources.strategy=fsdp: all processes need each layer at once"
        reader.blame(place, BrokenRule(rule, remedy))
