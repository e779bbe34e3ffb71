"""From a tree to the typed values of the spec's sections, each checked by its own rules."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, get_args

from pydantic import BaseModel

from sweep.domain import HyperparameterValue
from sweep.redaction import is_secret_name
from sweep.spec import rules, values
from sweep.spec.bounds import check
from sweep.spec.distributions import Told, read_distribution
from sweep.spec.keys import NOT_SEARCHED, OUTSIDE_YAML, RANGE_KEYS, SHORTHANDS, remedy_for, searchable
from sweep.spec.model import DataSpec, SearchSpec, StudySpec, TrainingSpec
from sweep.spec.problems import BrokenRule, Place, Problems, shortened
from sweep.spec.source import Items, Node, Scalar, Table, shown
from sweep.spec.space import AUTO, WIDEST_RATES, Distribution
from sweep.spec.tasks import sheet_of
from sweep.spec.values import Shape, shape_of

_EXAMPLES = {
    "study": "study: my-study",
    "objective": "objective: {model: bundled:minilm-l6, data: bundled:tweets}",
    "objective.model": "model: bundled:minilm-l6",
    "objective.data": "data: {train: train.csv, text: text, label: label}",
    "search": "search: {learning_rate: 1e-5..1e-3 log}",
}


class Reader:
    """Reads sections; collects problems instead of raising.

    Attributes:
        nodes: Where each key was found, by dotted path.
        failed: Paths whose value broke a rule; they have no value.
    """

    def __init__(self, problems: Problems, own: bool, task: str) -> None:
        self.problems = problems
        self.own = own
        self.task = task
        self._settings = {} if own else sheet_of(task).settings
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
        if isinstance(node, Items) and re.fullmatch(r"\[\d+\]", key):
            node = node.items[int(key[1:-1])]
        is_nothing = node is None or (isinstance(node, Scalar) and node.is_null)
        value = "" if node is None or is_nothing or is_secret_name(path) else f"={shown(node)}"
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
            info.serialization_alias or name: (name, info)
            for name, info in part.model_fields.items()
            if name not in OUTSIDE_YAML
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
            if shape.kind == "part" and shape.optional and isinstance(child, Scalar) and child.is_null:
                continue
            if shape.kind == "part":
                found[name] = self._part(part_of(info.annotation), child, below)
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
                if key == "learning_rate" and isinstance(node, Scalar) and node.text == AUTO:
                    self.nodes[f"search.{key}"] = node
                    found["space"][key], found["finds_rate"] = WIDEST_RATES, True
                else:
                    self._hyperparameter(found["space"], key, node, [*fields, *searchable(), *self._settings])
            return
        for key, node in others.items():
            below = f"{path}.{shortened(key)}" if path else shortened(key)
            if part is TrainingSpec and self.own:
                self._extra(found.setdefault("extra", {}), key, node, below)
            elif part is TrainingSpec and key in self._settings:
                self.nodes[below] = node
                setting = self._settings[key]
                self._value(found.setdefault("extra", {}), key, node, below, setting.shape, setting.bounds)
            elif part is DataSpec and key in sheet_of("").columns:
                self._column(found.setdefault("columns", {}), key, node, below)
            else:
                others_known = {DataSpec: sheet_of(self.task).columns, TrainingSpec: self._settings}.get(part, {})
                known = [*fields, *others_known]
                remedy = remedy_for(key, path, known)
                self.problems.add(node.place, f"{below} is not a known key. {remedy}")

    def _column(self, columns: dict[str, str], key: str, node: Node, path: str) -> None:
        self.nodes[path] = node
        used = list(sheet_of(self.task).columns)
        if key in used:
            self._value(columns, key, node, path, shape_of(str), [])
            return
        rule = f"is no column that {self.task} reads"
        self.blame(path, BrokenRule(rule, f"It reads {', '.join(used)}: leave {key} out"), node)

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
            if key in NOT_SEARCHED:
                remedy = "Set it under objective.training"
                raise BrokenRule("cannot be searched: it changes how trials are measured", remedy)
            if key not in searchable() and key not in self._settings:
                if not self.own:
                    self.failed.add(path)
                    remedy = remedy_for(key, "search", known)
                    self.problems.add(node.place, f"{path} is not a known setting. {remedy}")
                    return
                rules.identifier(key)
            space[key] = read_distribution(key, node, path, self, self._settings)
            rules.no_secrets(key, space[key])
        except BrokenRule as broken:
            self.blame(path, broken, node)
        except Told:
            self.failed.add(path)


def part_of(annotation: Any) -> type[BaseModel]:
    """The section that a field holds, or may hold."""
    kinds = [annotation, *get_args(annotation)]
    return next(kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel))


def _perhaps_searched(node: Node, shape: Shape, path: str) -> BrokenRule | None:
    """A range or choices among the fixed values: meant for the search."""
    setting = path.rpartition(".")[2]
    if isinstance(node, Scalar) and values.is_range(node.text) and shape.kind in ("float", "int"):
        return BrokenRule("is a range", f"Write it as search.{setting}")
    if isinstance(node, Items) and shape.kind in ("float", "int", "word"):
        return BrokenRule("is a list", f"Write it as search.{setting} to search it, or give one value")
    if isinstance(node, Table) and set(node.entries) & set(RANGE_KEYS):
        return BrokenRule("is a range", f"Write it as search.{setting}")
    return None
