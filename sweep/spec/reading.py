"""From a tree to the typed values of the spec's sections, each checked by its own rules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import annotated_types
from pydantic import AfterValidator, BaseModel

from sweep.domain import HyperparameterValue
from sweep.spec import rules, values
from sweep.spec.model import SearchSpec, StudySpec, TrainingSpec
from sweep.spec.problems import BrokenRule, Place, Problems, nearest, shortened
from sweep.spec.source import Items, Node, Scalar, Table, shown
from sweep.spec.space import Choices, Distribution, FloatRange, IntRange, choices_fault, range_fault
from sweep.spec.values import Shape, shape_of

SHORTHANDS = {
    "objective.data": "source",
    "search.sampler": "name",
    "search.pruner": "name",
    "metric": "name",
}
_OUTSIDE_YAML = frozenset({"extra", "space"})
_NOT_SEARCHED = frozenset({"evaluate_every", "evaluation_batch_size"})
_EXAMPLES = {
    "study": "study: my-study",
    "objective": "objective: {model: bundled:minilm-l6, data: bundled:tweets}",
    "objective.model": "model: bundled:minilm-l6",
    "objective.data": "data: {train: train.csv, text: text, label: label}",
    "search": "search: {learning_rate: 1e-5..1e-3 log}",
}
_RANGE_KEYS = ("low", "high", "log", "step", "choices")


class Reader:
    """Reads sections; collects problems instead of raising.

    Attributes:
        nodes: Where each key was found, by dotted path.
        failed: Paths whose value broke a rule; they have no value.
    """

    def __init__(self, problems: Problems, own: bool) -> None:
        self.problems = problems
        self.own = own
        self.nodes: dict[str, Node] = {}
        self.failed: set[str] = set()

    def study(self, root: Table) -> dict[str, Any]:
        """Values of the whole spec, nested like its sections; what failed or was left out is missing."""
        return self._part(StudySpec, root, "")

    def blame(self, path: str, broken: BrokenRule, node: Node | None = None) -> None:
        """Add a problem with the value at ``path``, or with the part of it that ``broken.key`` names."""
        self.failed.add(path)
        node = node or self.nodes.get(path)
        key = broken.key if broken.key.startswith("[") or not broken.key else f".{broken.key}"
        value = f"={shown(node)}" if node is not None else ""
        remedy = broken.remedy if broken.remedy.endswith(("?", ".")) else f"{broken.remedy}."
        self.problems.add(self._place(path, node), f"{path}{key}{value} {broken.rule}. {remedy}")

    def _place(self, path: str, node: Node | None = None) -> Place:
        if node is not None:
            return node.place
        while path and path not in self.nodes:
            path = path.rpartition(".")[0]
        return self.nodes[path].place

    def _part(self, part: type[BaseModel], node: Node, path: str) -> dict[str, Any]:
        self.nodes[path] = node
        if isinstance(node, Scalar) and node.is_null and path not in ("search.pruner", "search.sampler"):
            node = Table(node.place, {})
        if isinstance(node, Scalar) and path in SHORTHANDS:
            node = Table(node.place, {SHORTHANDS[path]: node})
        if not isinstance(node, Table):
            self.blame(path, BrokenRule("is not a mapping", "Write keys with values below it"), node)
            return {}
        fields = {
            info.alias or name: (name, info)
            for name, info in part.model_fields.items()
            if name not in _OUTSIDE_YAML
        }
        found: dict[str, Any] = {}
        others: dict[str, Node] = {}
        for key, child in node.entries.items():
            below = f"{path}.{key}" if path else key
            if key not in fields:
                others[key] = child
                continue
            name, info = fields[key]
            shape = shape_of(info.annotation)
            if shape.kind == "part" and isinstance(info.annotation, type):
                found[name] = self._part(info.annotation, child, below)
            else:
                self.nodes[below] = child
                self._value(found, name, child, below, shape, info.metadata)
        for key, (_, info) in fields.items():
            below = f"{path}.{key}" if path else key
            is_own_data = self.own and below == "objective.data"
            if info.is_required() and key not in node.entries and not is_own_data:
                self.failed.add(below)
                self.problems.add(node.place, f"{below} is missing. Add '{_EXAMPLES[below]}'.")
        self._others(part, others, path, found, fields)
        return found

    def _value(
        self, found: dict[str, Any], name: str, node: Node, path: str, shape: Shape, metadata: list[Any]
    ) -> None:
        try:
            value = values.value_of(node, shape)
            check(value, metadata)
        except BrokenRule as broken:
            if path.startswith("objective.training."):
                broken = _perhaps_searched(node, shape, path) or broken
            self.blame(path, broken, node)
        else:
            found[name] = value

    def _others(
        self,
        part: type[BaseModel],
        others: Mapping[str, Node],
        path: str,
        found: dict[str, Any],
        fields: Mapping[str, Any],
    ) -> None:
        if part is SearchSpec:
            found["space"] = {}
            for key, node in others.items():
                self._hyperparameter(found["space"], key, node, [*fields, *_searchable()])
            return
        for key, node in others.items():
            below = f"{path}.{shortened(key)}" if path else shortened(key)
            if part is TrainingSpec and self.own:
                self._extra(found.setdefault("extra", {}), key, node, below)
            else:
                remedy = _remedy_for(key, path, list(fields))
                self.problems.add(node.place, f"{below} is not a known key. {remedy}")

    def _extra(self, extra: dict[str, HyperparameterValue], key: str, node: Node, path: str) -> None:
        self.nodes[path] = node
        try:
            rules.identifier(key)
            extra[key] = values.untyped_value(node)
        except BrokenRule as broken:
            self.blame(path, broken, node)

    def _hyperparameter(self, space: dict[str, Distribution], key: str, node: Node, known: list[str]) -> None:
        path = f"search.{shortened(key)}"
        self.nodes[path] = node
        try:
            if key in _NOT_SEARCHED:
                remedy = "Set it under objective.training"
                raise BrokenRule("cannot be searched: it changes how trials are measured", remedy)
            if key not in _searchable():
                if not self.own:
                    self.failed.add(path)
                    remedy = _remedy_for(key, "search", known)
                    self.problems.add(node.place, f"{path} is not a known setting. {remedy}")
                    return
                rules.identifier(key)
            space[key] = self._distribution(key, node, path)
        except BrokenRule as broken:
            self.blame(path, broken, node)
        except _Told:
            self.failed.add(path)

    def _distribution(self, key: str, node: Node, path: str) -> Distribution:
        info = TrainingSpec.model_fields.get(key) if key != "extra" else None
        shape = shape_of(info.annotation) if info else Shape("other")
        metadata = info.metadata if info else []
        if isinstance(node, Table):
            unknown = [name for name in node.entries if name not in _RANGE_KEYS]
            for name in unknown:
                remedy = _remedy_for(name, path, list(_RANGE_KEYS))
                child = node.entries[name]
                self.problems.add(child.place, f"{path}.{shortened(name)} is not a known key. {remedy}")
            if unknown:
                raise _Told
            given = {
                name: child
                for name, child in node.entries.items()
                if not isinstance(child, Scalar) or not child.is_null
            }
            if "choices" in given:
                if len(given) > 1:
                    raise BrokenRule("has choices and a range", "Keep one of them")
                return self._choices(given["choices"], f"{path}.choices", shape, metadata)
            for name in ("low", "high"):
                if name not in given:
                    raise BrokenRule(f"has no {name}", "Give low and high, or choices")
            return self._range(given, path, shape, metadata)
        if isinstance(node, Items):
            return self._choices(node, path, shape, metadata)
        if node.is_null:
            raise BrokenRule("has no value", "Give a range such as 1e-5..1e-3 log, or choices such as [1, 2]")
        if ".." not in node.text:
            remedy = "Write low..high or [a, b], or move it to objective.training"
            raise BrokenRule("is one fixed value", remedy)
        parts = values.range_parts(node.text)
        return self._range(
            {name: Scalar(node.place, text) for name, text in parts.items()}, path, shape, metadata
        )

    def _range(self, given: Mapping[str, Node], path: str, shape: Shape, metadata: list[Any]) -> Distribution:
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
                    self.blame(f"{path}.{name}", broken, given[name])
        if len(found) < len(given):
            raise _Told
        log, step = found.get("log", False), found.get("step")
        if kind == "int" and log and step == 1:
            step = None
        fault = range_fault(found["low"], found["high"], log, step, lambda name: shown(given[name]))
        if fault is not None:
            blamed = given[fault.key]
            self.blame(f"{path}.{fault.key}", BrokenRule(fault.rule, fault.remedy), blamed)
            raise _Told
        if kind == "int":
            return IntRange(low=found["low"], high=found["high"], log=log, step=1 if step is None else step)
        return FloatRange(low=found["low"], high=found["high"], log=log, step=step)

    def _choices(self, node: Node, path: str, shape: Shape, metadata: list[Any]) -> Choices:
        if not isinstance(node, Items):
            raise BrokenRule("has choices that are no list", "Write choices: [a, b]")
        found: list[HyperparameterValue] = []
        for index, item in enumerate(node.items):
            try:
                if shape.kind == "other":
                    found.append(values.untyped_value(item))
                elif shape.kind == "list" and not isinstance(item, Items) and not item.is_null:
                    raise BrokenRule("is not a list", f"Each choice is a list, such as [[{shown(item)}], …]")
                else:
                    value = values.value_of(item, shape)
                    check(value, metadata)
                    found.append(value)
            except BrokenRule as broken:
                self.blame(f"{path}[{index}]", broken, item)
        if len(found) < len(node.items):
            raise _Told
        fault = choices_fault(tuple(found))
        if fault is not None:
            self.blame(path, fault, node)
            raise _Told
        return Choices(tuple(found))


class _Told(Exception):
    """The problem is already collected."""


def check(value: Any, metadata: list[Any]) -> None:
    """Apply a field's own bounds and rules, as pydantic would.

    Raises:
        BrokenRule: If the value breaks one.
    """
    for rule in metadata:
        if isinstance(rule, AfterValidator):
            rule.func(value)  # type: ignore[call-arg]
        elif value is None:
            continue
        elif isinstance(rule, annotated_types.Ge) and value < rule.ge:  # type: ignore[operator]
            raise BrokenRule(f"is below {rule.ge}", f"Use {rule.ge} or more")
        elif isinstance(rule, annotated_types.Gt) and value <= rule.gt:  # type: ignore[operator]
            raise BrokenRule(f"is not above {rule.gt}", f"Use a value above {rule.gt}")
        elif isinstance(rule, annotated_types.Lt) and value >= rule.lt:  # type: ignore[operator]
            raise BrokenRule(f"is not below {rule.lt}", f"Use a value below {rule.lt}")


def _searchable() -> list[str]:
    return [name for name in TrainingSpec.model_fields if name not in _OUTSIDE_YAML | _NOT_SEARCHED]


def _perhaps_searched(node: Node, shape: Shape, path: str) -> BrokenRule | None:
    """A range or choices among the fixed values: meant for the search."""
    setting = path.rpartition(".")[2]
    if isinstance(node, Scalar) and values.is_range(node.text) and shape.kind in ("float", "int"):
        return BrokenRule("is a range", f"Write it as search.{setting}")
    if isinstance(node, Items) and shape.kind in ("float", "int", "word"):
        return BrokenRule("is a list", f"Write it as search.{setting} to search it, or give one value")
    if isinstance(node, Table) and set(node.entries) & set(_RANGE_KEYS):
        return BrokenRule("is a range", f"Write it as search.{setting}")
    return None


def _homes() -> dict[str, str]:
    """Section of each key, for keys that live in one section only."""
    homes: dict[str, list[str]] = {}

    def walk(part: type[BaseModel], path: str) -> None:
        for name, info in part.model_fields.items():
            if name in _OUTSIDE_YAML:
                continue
            key = info.alias or name
            homes.setdefault(key, []).append(path)
            if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
                walk(info.annotation, f"{path}.{key}" if path else key)

    walk(StudySpec, "")
    return {key: paths[0] for key, paths in homes.items() if len(paths) == 1}


def _remedy_for(key: str, path: str, known: list[str]) -> str:
    meant = nearest(key, known)
    home = _homes().get(key)
    if home is not None and home != path and path.count(".") < 2:
        return f"Move it to {home}." if home else "Move it to the top level."
    return f"Did you mean {meant}?" if meant else f"Known keys: {', '.join(known)}."
