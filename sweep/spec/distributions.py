"""From a tree to distributions: ranges and choices, in every way to write them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from sweep.domain import HyperparameterValue
from sweep.spec import values
from sweep.spec.bounds import check
from sweep.spec.keys import RANGE_KEYS, remedy_for
from sweep.spec.model import TrainingSpec
from sweep.spec.problems import BrokenRule, Problems, shortened
from sweep.spec.source import Items, Node, Scalar, Table, shown
from sweep.spec.space import Choices, Distribution, FloatRange, IntRange, choices_fault, range_fault
from sweep.spec.tasks import Setting
from sweep.spec.values import Shape, shape_of


class Blames(Protocol):
    """Receives problems."""

    problems: Problems

    def blame(self, path: str, broken: BrokenRule, node: Node | None = None) -> None:
        """Add a problem with the value at ``path``."""
        ...


class Told(Exception):
    """The problem is already collected."""


def read_distribution(key: str, node: Node, path: str, blames: Blames, settings: Mapping[str, Setting]) -> Distribution:
    """The distribution that ``search`` gives a hyperparameter.

    Args:
        key: The hyperparameter.
        node: What was written.
        path: Its dotted path.
        blames: Receives problems with a part of the value.
        settings: Settings that the task alone has.

    Raises:
        BrokenRule: If the value as a whole is wrong.
        Told: If a part of it is wrong; the problem is collected.
    """
    info = TrainingSpec.model_fields.get(key) if key != "extra" else None
    shape = shape_of(info.annotation) if info else Shape("other")
    metadata = info.metadata if info else []
    if key in settings:
        shape, metadata = settings[key].shape, settings[key].bounds
    if isinstance(node, Table):
        unknown = [name for name in node.entries if name not in RANGE_KEYS]
        for name in unknown:
            remedy = remedy_for(name, path, list(RANGE_KEYS))
            child = node.entries[name]
            blames.problems.add(child.place, f"{path}.{shortened(name)} is not a known key. {remedy}")
        if unknown:
            raise Told
        given = {
            name: child for name, child in node.entries.items() if not isinstance(child, Scalar) or not child.is_null
        }
        if "choices" in given:
            if len(given) > 1:
                raise BrokenRule("has choices and a range", "Keep one of them")
            return _choices(given["choices"], f"{path}.choices", shape, metadata, blames)
        for name in ("low", "high"):
            if name not in given:
                raise BrokenRule(f"has no {name}", "Give low and high, or choices")
        return _range(given, path, shape, metadata, blames)
    if isinstance(node, Items):
        return _choices(node, path, shape, metadata, blames)
    if node.is_null:
        raise BrokenRule("has no value", "Give a range such as 1e-5..1e-3 log, or choices such as [1, 2]")
    if ".." not in node.text:
        remedy = "Write low..high or [a, b], or move it to objective.training"
        raise BrokenRule("is one fixed value", remedy)
    parts = values.range_parts(node.text)
    given = {name: Scalar(node.place, text) for name, text in parts.items()}
    return _range(given, path, shape, metadata, blames)


def _range(given: Mapping[str, Node], path: str, shape: Shape, metadata: list[Any], blames: Blames) -> Distribution:
    if shape.kind in ("word", "list"):
        example = "[[0, 2, 5], [0, 5]]" if shape.kind == "list" else f"[{', '.join(shape.options)}]"
        raise BrokenRule("is a range, where only choices make sense", f"Write choices, such as {example}")
    kind = shape.kind
    if kind == "other":
        numbers = [given[name] for name in ("low", "high", "step") if name in given]
        whole = all(isinstance(n, Scalar) and isinstance(values.untyped(n.text), int) for n in numbers)
        kind = "int" if whole else "float"
    number, found = Shape(kind), {}
    for name in ("low", "high", "step", "log"):
        if name in given:
            try:
                value = values.value_of(given[name], Shape("bool") if name == "log" else number)
                if name in ("low", "high"):
                    check(value, metadata)
                found[name] = value
            except BrokenRule as broken:
                blames.blame(f"{path}.{name}", broken, given[name])
    if len(found) < len(given):
        raise Told
    log, step = found.get("log", False), found.get("step")
    if kind == "int" and log and step == 1:
        step = None
    fault = range_fault(found["low"], found["high"], log, step, lambda name: shown(given[name]))
    if fault is not None:
        blamed = given[fault.key]
        blames.blame(f"{path}.{fault.key}", BrokenRule(fault.rule, fault.remedy), blamed)
        raise Told
    if kind == "int":
        return IntRange(low=found["low"], high=found["high"], log=log, step=1 if step is None else step)
    return FloatRange(low=found["low"], high=found["high"], log=log, step=step)


def _choices(node: Node, path: str, shape: Shape, metadata: list[Any], blames: Blames) -> Choices:
    if not isinstance(node, Items):
        raise BrokenRule("has choices that are no list", "Write choices: [a, b]")
    found: list[HyperparameterValue] = []
    for index, item in enumerate(node.items):
        try:
            if shape.kind == "other":
                found.append(values.untyped_value(item))
            elif shape.kind == "list" and isinstance(item, Scalar) and not item.is_null:
                raise BrokenRule("is not a list", f"Each choice is a list, such as [[{shown(item)}], …]")
            else:
                value = values.value_of(item, shape)
                check(value, metadata)
                found.append(value)
        except BrokenRule as broken:
            blames.blame(f"{path}[{index}]", broken, item)
    if len(found) < len(node.items):
        raise Told
    fault = choices_fault(tuple(found))
    if fault is not None:
        blames.blame(path, fault, node)
        raise Told
    return Choices(tuple(found))
