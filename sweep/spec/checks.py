"""Rules between values, and between values and the disk; paths become absolute here."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweep.layout import CONFIRMATION_SUFFIX, LONGEST_NAME, StudyLayout
from sweep.spec import fidelity, rules
from sweep.spec.problems import BrokenRule, nearest
from sweep.spec.reading import Reader
from sweep.spec.source import Items, Node
from sweep.spec.space import Choices, top
from sweep.spec.tasks import sheet_of, task_sheets

DEFAULT_TASK = "text-classification"
_BUNDLED_COLUMNS = ("text", "label")
_FILE_KEYS = ("train", "validation", "test")


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a spec is checked against.

    Attributes:
        folder: Absolute folder that relative paths start from.
        must_exist: Whether files and folders have to be there; not so for a stored study.
    """

    folder: Path
    must_exist: bool = True

    def absolute(self, path: str) -> str:
        """``path`` without ``~`` and ``..``, from the folder."""
        return os.path.normpath(self.folder / os.path.expanduser(path))


def check_study(found: dict[str, Any], reader: Reader, around: Surroundings) -> None:
    """Check what was read; resolve paths and what follows from other values.

    Args:
        found: Nested values as :meth:`Reader.study` gives them; changed in place.
        reader: Receives the problems.
        around: Where the spec lies.
    """
    objective = found.get("objective", {})
    task = objective.get("task", DEFAULT_TASK)
    if "task" in objective:
        _apply(reader, "objective.task", lambda: rules.known_task(task, tuple(task_sheets())))
    if "objective" not in reader.failed and "objective" in reader.nodes:
        _model(objective, reader, around)
        _data(objective.setdefault("data", {}), reader, around, task)
    space = found.get("search", {}).get("space", {})
    _length(objective.get("training", {}), space, reader)
    if not rules.is_own(task):
        _precision(found, space, reader)
    searched = any(path.startswith("search.") and path not in _SEARCH_KEYS for path in reader.nodes)
    if "search" in reader.nodes and "search" not in reader.failed and not searched:
        broken = BrokenRule("names no hyperparameter: nothing to search", "Add learning_rate: 1e-5..1e-3 log")
        reader.problems.add(reader.nodes["search"].place, f"search {broken.rule}. {broken.remedy}.")
    _devices(found.get("resources", {}), objective.get("data") or {}, reader)
    if found.get("resources", {}).get("strategy") == "fsdp" and not rules.is_own(task):
        _sharding(objective.get("training", {}), space, reader)
    _metric(found.setdefault("metric", {}), task, reader)
    _confirm(found, reader)
    _stores(found, reader, around)


_SEARCH_KEYS = frozenset(
    {"search.seed", "search.sampler", "search.pruner", "search.sampler.name"}
    | {f"search.pruner.{key}" for key in ("name", "first_rung", "reduction_factor")}
)


def _apply(reader: Reader, path: str, rule: Any, node: Node | None = None) -> Any:
    try:
        return rule()
    except BrokenRule as broken:
        reader.blame(path, broken, node)
        return None


def _model(objective: dict[str, Any], reader: Reader, around: Surroundings) -> None:
    model = objective.get("model")
    if model is None:
        return

    def resolve() -> str:
        if model.startswith(rules.RANDOM):
            return rules.model_reference(_shape(model.removeprefix(rules.RANDOM), around))
        path = around.absolute(model)
        looks_like_path = model.startswith(("/", "./", "../", "~")) or model in (".", "..")
        if os.path.isdir(path) and (looks_like_path or around.must_exist):
            return path
        if looks_like_path and around.must_exist:
            what = "is a file" if os.path.isfile(path) else "does not exist"
            remedy = "Name the folder that holds config.json and the weights"
            raise BrokenRule(f"{what} ({path})" if path != model else what, remedy)
        return rules.model_reference(model)

    objective["model"] = _apply(reader, "objective.model", resolve)


def _shape(shape: str, around: Surroundings) -> str:
    """The reference of a model with random weights, with an absolute path where it names a configuration file."""
    if not shape.startswith(("/", "./", "../", "~")) and not shape.endswith(".json"):
        return rules.RANDOM + shape
    path = around.absolute(shape)
    if around.must_exist and not os.path.exists(path):
        raise BrokenRule(f"names a configuration that does not exist ({path})", "Name a config.json or its folder")
    return rules.RANDOM + path


def _data(data: dict[str, Any], reader: Reader, around: Surroundings, task: str) -> None:
    path = "objective.data"
    if path in reader.failed:
        return
    own, sheet = rules.is_own(task), sheet_of(task)
    source = data.get("source")
    usual = {part: name for part, name in sheet.columns.items() if name is not None}
    data["columns"] = {**usual, **data.get("columns", {})}
    for key in _FILE_KEYS:
        if source is not None and data.get(key):
            reader.blame(
                f"{path}.{key}",
                BrokenRule(f"goes with source={source}", "Keep the files or source, not both"),
            )
    read = not {f"{path}.{key}" for key in ("source", *_FILE_KEYS)} & reader.failed
    if read and source is None and not data.get("train") and not own:
        place = reader.nodes[path].place
        remedy = "Add source: bundled:tweets, or train: with a csv, tsv, jsonl or parquet file"
        reader.problems.add(place, f"{path} names no rows to train on. {remedy}.")
    seen: dict[str, str] = {}
    for key in _FILE_KEYS:
        if source is None and data.get(key):
            data[key] = _files(f"{path}.{key}", data[key], seen, reader, around, sheet.extensions)
    if not own and around.must_exist:  # a stored study goes on, whatever it was once allowed to say
        _data_settings(data, reader)
        _bundled(data, usual, task, reader)
    total = data.get("validation_fraction", 0.1) + data.get("test_fraction", 0.0)
    if data.get("validation") or data.get("test"):
        total = 0.0  # at least one of the fractions splits nothing
    if total >= 1:
        keys = [key for key in ("test_fraction", "validation_fraction") if f"{path}.{key}" in reader.nodes]
        rule = f"leaves no rows to train on: both fractions make {total:g}"
        reader.blame(f"{path}.{keys[0]}", BrokenRule(rule, "Lower them until their sum is below 1"))


def _data_settings(data: dict[str, Any], reader: Reader) -> None:
    """Refuse columns that are one, and fractions of what is not split."""
    path = "objective.data"
    for first, second in itertools.combinations(data["columns"], 2):
        if data["columns"][first] != data["columns"][second] or {f"{path}.{first}", f"{path}.{second}"} & reader.failed:
            continue
        blamed, other = (second, first) if f"{path}.{second}" in reader.nodes else (first, second)
        reader.blame(f"{path}.{blamed}", BrokenRule(f"is the {other} column too", "Name two columns"))
    if data.get("test_fraction") and (data.get("test") or data.get("source") in rules.BUNDLED_DATA):
        rule = (
            "goes with no test file" if data.get("test") else f"does not fit {data['source']}, which has its test rows"
        )
        reader.blame(f"{path}.test_fraction", BrokenRule(rule, "Leave it out"))
    if "validation_fraction" in data and data.get("validation"):
        reader.blame(f"{path}.validation_fraction", BrokenRule("goes with no validation file", "Leave it out"))


def _bundled(data: Mapping[str, Any], usual: Mapping[str, str], task: str, reader: Reader) -> None:
    """Refuse bundled rows for a task that needs other columns than they have."""
    lacking = [part for part in usual if part not in _BUNDLED_COLUMNS]
    if data.get("source") in rules.BUNDLED_DATA and lacking:
        rule = f"has {' and '.join(_BUNDLED_COLUMNS)} only, and {task} reads {', '.join(usual)}"
        reader.blame("objective.data.source", BrokenRule(rule, "Name files under train, or a data set of the Hub"))


def _files(
    path: str,
    files: tuple[str, ...],
    seen: dict[str, str],
    reader: Reader,
    around: Surroundings,
    extensions: tuple[str, ...],
) -> tuple[str, ...]:
    node = reader.nodes[path]
    absolute = []
    for index, name in enumerate(files):
        item = node.items[index] if isinstance(node, Items) else node
        below = f"{path}[{index}]" if isinstance(node, Items) else path
        file = around.absolute(name)
        absolute.append(file)
        fault = _file_fault(name, file, around.must_exist, (*rules.DATA_EXTENSIONS, *extensions))
        if fault is None and file in seen:
            fault = BrokenRule(f"is already in {seen[file]}", "Use each file once: shared rows make scores too good")
        seen.setdefault(file, path)
        if fault is not None:
            reader.blame(below, fault, item)
    return tuple(absolute)


def _file_fault(name: str, file: str, must_exist: bool, extensions: tuple[str, ...]) -> BrokenRule | None:
    if must_exist and os.path.isdir(file):
        return BrokenRule("is a folder", "Name a file in it")
    extension = os.path.splitext(file)[1].lower()
    if extension not in extensions:
        return BrokenRule("has no known extension", f"Use one of {', '.join(extensions)}")
    if must_exist and os.path.exists(file) and not os.path.isfile(file):
        return BrokenRule("is no regular file", "Name a file; a pipe or a device cannot be read twice")
    if must_exist and not os.path.isfile(file):
        where = "" if file == name else f" ({file})"
        return BrokenRule(f"does not exist{where}", "Paths start from the spec's folder")
    return None


def _length(training: dict[str, Any], space: dict[str, Any], reader: Reader) -> None:
    given = {
        unit: [f"search.{unit}"] * (unit in space) + [f"objective.training.{unit}"] * (training.get(unit) is not None)
        for unit in ("epochs", "steps")
    }
    if given["epochs"] and given["steps"]:
        blamed, other = given["steps"][0], given["epochs"][0]
        reader.blame(blamed, BrokenRule(f"goes with {other}", "Keep one of them"))
        return
    for unit in ("epochs", "steps"):
        distribution = space.get(unit)
        if isinstance(distribution, Choices) and None in distribution.values:
            reader.blame(f"search.{unit}", BrokenRule("holds null", "Give each choice a number"))
            return
    unit = "steps" if given["steps"] else "epochs"
    full = training.get(unit) or (0 if unit in space else fidelity.DEFAULT_EPOCHS)
    if unit in space:
        full = max(full, top(space[unit]))
    every = training.get("evaluate_every")
    if every is not None and full / every > fidelity.MAX_EVALUATIONS:
        rule = f"asks for more than {fidelity.MAX_EVALUATIONS} evaluations in {full:g} {unit}"
        remedy = f"Use {full / fidelity.MAX_EVALUATIONS:g} or more"
        reader.blame("objective.training.evaluate_every", BrokenRule(rule, remedy))


def _precision(found: dict[str, Any], space: dict[str, Any], reader: Reader) -> None:
    if "resources" in reader.failed or "resources.gpus_per_trial" in reader.failed:
        return
    if found.get("resources", {}).get("gpus_per_trial"):
        return
    broken = BrokenRule("needs a GPU", "Use auto, bf16 or fp32, or set resources.gpus_per_trial")
    if found.get("objective", {}).get("training", {}).get("precision") == "fp16":
        reader.blame("objective.training.precision", broken)
    searched = space.get("precision")
    if isinstance(searched, Choices) and "fp16" in searched.values:
        reader.blame("search.precision", BrokenRule(f"holds fp16, which {broken.rule}", broken.remedy))


def _devices(resources: Mapping[str, Any], data: Mapping[str, Any], reader: Reader) -> None:
    """Refuse shares that cannot be parted among the devices of a trial, and data that is trained on in turn."""
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
    if data.get("folds"):
        rule = "does not go with objective.data.folds, whose trainings follow each other in one process"
        reader.blame(path, BrokenRule(rule, "Set it to 1, or leave the folds out"))
    if gpus not in (0, devices):
        rule = f"does not fit resources.gpus_per_trial={gpus:g}"
        reader.blame(path, BrokenRule(rule, f"Set that to {devices}, a GPU for each device, or to 0"))


_NOT_SHARDED: Mapping[str, tuple[Any, ...]] = {
    "method": ("lora", "dora"),
    "optimizer": ("adafactor",),
    "precision": ("fp16",),
    "compile": (True,),
}


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


def _metric(metric: dict[str, Any], task: str, reader: Reader) -> None:
    if {"metric", "metric.name", "objective.task"} & reader.failed:
        return
    own, directions = rules.is_own(task), sheet_of(task).metrics
    name = metric.setdefault("name", "accuracy" if own else next(iter(directions)))
    path = "metric.name" if "metric.name" in reader.nodes else "metric"
    natural = directions.get(name)
    if natural is None and not own:
        meant = nearest(name, directions)
        remedy = f"Did you mean {meant}?" if meant else f"Use one of: {', '.join(directions)}"
        reader.blame(path, BrokenRule(f"is not a metric of {task}", remedy))
    elif "metric.direction" in reader.failed:
        return
    elif natural is None and "direction" not in metric:
        rule = "has no direction, and only you know which way is better"
        reader.blame(path, BrokenRule(rule, "Add direction: maximize or direction: minimize"))
    elif not own and metric.get("direction", natural) != natural:
        rule = f"does not fit {name}, which is better when {'larger' if natural == 'maximize' else 'smaller'}"
        reader.blame("metric.direction", BrokenRule(rule, f"Use {natural}, or leave direction out"))
    elif natural is not None:
        metric.setdefault("direction", natural)


def _confirm(found: dict[str, Any], reader: Reader) -> None:
    confirm, data = found.get("confirm") or {}, found.get("objective", {}).get("data") or {}
    if confirm.get("splits") == "fresh" and data.get("validation"):
        rule = "cannot draw validation rows anew: objective.data.validation is a file of its own"
        reader.blame("confirm.splits", BrokenRule(rule, "Write same, or leave the validation file out"))
    if confirm.get("soup", "none") != "none" and confirm.get("finalists") == 1:
        reader.blame("confirm.soup", BrokenRule("is the average of two finalists at least", "Raise confirm.finalists"))
    room = LONGEST_NAME - len(CONFIRMATION_SUFFIX)
    if found.get("confirm") is not None and len(found.get("study", "").removesuffix(CONFIRMATION_SUFFIX)) > room:
        rule = f"is too long for a study with a final, which is called <study>{CONFIRMATION_SUFFIX}"
        reader.blame("study", BrokenRule(rule, f"Take at most {room} characters"))


def _stores(found: dict[str, Any], reader: Reader, around: Surroundings) -> None:
    if "storage" not in reader.failed:
        found["storage"] = _apply(reader, "storage", lambda: _folder(found.get("storage", "mlruns"), around))
    if around.must_exist and found.get("storage") and "study" in found:
        _apply(reader, "study", lambda: _inside(found["storage"], found["study"]))
    for section, key in ((found.get("tracking", {}), "uri"), (found, "history")):
        url = section.get(key)
        if url is not None and (relative := re.fullmatch(r"sqlite:///([^/?][^?]*)(\?.*)?", url)):
            section[key] = f"sqlite:///{around.absolute(relative[1])}{relative[2] or ''}"


def _folder(storage: str, around: Surroundings) -> str:
    if "://" in storage:
        raise BrokenRule("is a URL", "Name a folder; a shared record goes to tracking.uri and history")
    folder = around.absolute(storage)
    if around.must_exist and os.path.exists(folder) and not os.path.isdir(folder):
        raise BrokenRule("is a file", "Name a folder")
    return folder


def _inside(storage: str, study: str) -> None:
    folder = StudyLayout(Path(storage), study).folder
    if not Path(os.path.realpath(folder)).is_relative_to(os.path.realpath(storage)):
        raise BrokenRule(f"leads out of the storage: {folder} is a link", "Remove the link, or rename the study")
