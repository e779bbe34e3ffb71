"""YAML text as a tree that remembers where each value was written.

Nothing is typed here: a scalar keeps its text, and what it means is decided where it is used. So ``2e-5``
or ``no`` mean what they say, however a YAML version would type them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from sweep.spec.problems import Place, Problems, one_line, shortened

MAX_DEPTH = 20
MAX_NODES = 10_000
_PLAIN_TAGS = frozenset(
    f"tag:yaml.org,2002:{name}"
    for name in ("str", "int", "float", "bool", "null", "map", "seq", "timestamp", "merge", "value")
)


@dataclass(frozen=True, slots=True)
class Scalar:
    """A single value, as text.

    Attributes:
        written: What messages show in its place, if it was written otherwise.
    """

    place: Place
    text: str
    quoted: bool = False
    written: str = ""

    @property
    def is_null(self) -> bool:
        """Whether it is YAML's way to say nothing."""
        return not self.quoted and self.text in ("", "~", "null", "Null", "NULL")


@dataclass(frozen=True, slots=True)
class Items:
    """A list."""

    place: Place
    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """A mapping; each value's place is that of its key."""

    place: Place
    entries: Mapping[str, Node]


Node = Scalar | Items | Table


def shown(node: Node) -> str:
    """A node as it reads in a message."""
    return shortened(_flow(node))


def _flow(node: Node) -> str:
    if isinstance(node, Scalar) and node.written:
        return node.written
    if isinstance(node, Scalar):
        return node.text if node.text and not node.is_null else "''" if node.quoted else "null"
    if isinstance(node, Items):
        return "[" + ", ".join(_flow(item) for item in node.items[:20]) + "]"
    return "{" + ", ".join(f"{key}: {_flow(value)}" for key, value in list(node.entries.items())[:20]) + "}"


class _Refused(yaml.YAMLError):
    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line, self.message = line, message


class BoundedLoader(yaml.SafeLoader):
    """Composes a bounded tree without aliases: no text makes it run for long or grow large."""

    depth = 0
    nodes = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """A node within the bounds; called by PyYAML."""
        event = self.peek_event()  # type: ignore[no-untyped-call]
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent):
            raise _Refused(line, f"alias *{event.anchor} is not supported. Write the value out.")
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise _Refused(line, f"more than {MAX_NODES} values are too many for a spec. Is this the right file?")
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise _Refused(line, f"nesting is deeper than {MAX_DEPTH}. A spec needs 5 levels at most.")
        node: yaml.Node | None = super().compose_node(parent, index)
        self.depth -= 1
        return node


def read_yaml(text: str, place: Place, problems: Problems) -> Node | None:
    """Read one YAML document.

    Args:
        text: The document.
        place: Of the document; its line is the document's first one, or 0 to leave lines out.
        problems: Receives what cannot be read.

    Returns:
        The tree; None where there is nothing to read, or nothing that could be read.
    """

    def at(line: int) -> Place:
        return Place(place.rank, line if place.line else 0, place.name)

    try:
        loader = BoundedLoader(text)
        try:
            root = loader.get_single_node()
        finally:
            loader.dispose()
    except _Refused as refused:
        problems.add(at(refused.line), refused.message)
        return None
    except yaml.reader.ReaderError as error:
        line = text[: error.position].count("\n") + 1
        problems.add(at(line), "holds a character that text cannot have. Save the file as plain UTF-8 text.")
        return None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = "; ".join(part for part in (error.context, error.problem) if part)
        remedy = "Mind indentation, colons, brackets and quotes."
        problems.add(at(mark.line + 1 if mark else 1), f"is not valid YAML: {one_line(what)}. {remedy}")
        return None
    except (
        yaml.YAMLError,
        ValueError,
        OverflowError,
    ) as error:  # chr() of a wild \\U escape, an odd directive
        problems.add(place, f"is not valid YAML: {one_line(str(error))}. Mind escapes and directives.")
        return None
    return None if root is None else _node(root, at(root.start_mark.line + 1), at, problems)


def _node(node: yaml.Node, place: Place, at: Any, problems: Problems) -> Node:
    if node.tag not in _PLAIN_TAGS:
        problems.add(place, f"tag {shortened(node.tag)} is not supported. Leave it out.")
    if isinstance(node, yaml.ScalarNode):
        if any(c == "\0" or "\ud800" <= c <= "\udfff" for c in node.value):
            problems.add(place, f"{shortened(node.value)} holds a character that text cannot have. Remove it.")
        return Scalar(place, node.value, quoted=node.style is not None)
    if isinstance(node, yaml.SequenceNode):
        children = (_node(item, at(item.start_mark.line + 1), at, problems) for item in node.value)
        return Items(place, tuple(children))
    entries: dict[str, Node] = {}
    for key, value in node.value:
        line = at(key.start_mark.line + 1)
        if not isinstance(key, yaml.ScalarNode):
            problems.add(line, "a list or mapping is no key. Write 'key: value'.")
        elif key.value in entries:
            first = entries[key.value].place.line
            where = f", first in line {first}" if first else ""
            problems.add(line, f"{shortened(key.value)} is given twice{where}. Remove one.")
        else:
            entries[key.value] = _node(value, line, at, problems)
    return Table(place, entries)


def tree_of(data: Any, place: Place) -> Node:
    """Plain Python values, as stored, as a tree."""
    if isinstance(data, Mapping):
        return Table(place, {str(key): tree_of(value, place) for key, value in data.items()})
    if isinstance(data, Sequence) and not isinstance(data, str):
        return Items(place, tuple(tree_of(item, place) for item in data))
    if isinstance(data, str):
        return Scalar(place, data, quoted=True)
    if data is None or isinstance(data, bool):
        return Scalar(place, {None: "null", True: "true", False: "false"}[data])
    if isinstance(data, float) and math.isfinite(data):
        return Scalar(place, repr(float(data)))  # a numpy scalar's own repr is no number
    return Scalar(place, str(data))


def with_overrides(tree: Table, overrides: Sequence[str], shorthands: Mapping[str, str], problems: Problems) -> Table:
    """Lay ``a.b=c`` overrides over a tree, in their order.

    Args:
        tree: The tree; it is left as it is.
        overrides: Dotted key, ``=``, value as YAML.
        shorthands: Key inside a mapping for which its single value stands, by dotted path.
        problems: Receives what cannot be read or placed.
    """
    for rank, override in enumerate(overrides, 1):
        place = Place(rank, 0, f"--set {shortened(override)}")
        dotted, equals, text = override.partition("=")
        keys = [key.strip() for key in dotted.split(".")]
        if not equals or not all(keys):
            problems.add(place, "is not of the form a.b=c. Write --set search.seed=1, for example.")
            continue
        if len(keys) > MAX_DEPTH:
            problems.add(place, f"nesting is deeper than {MAX_DEPTH}. A spec needs 5 levels at most.")
            continue
        told = len(problems)
        value = read_yaml(text, place, problems)
        if len(problems) > told:
            continue
        value = value or Scalar(place, "")
        tree = _with(tree, keys, value, "", shorthands, problems)
    return tree


def _with(
    table: Table,
    keys: Sequence[str],
    value: Node,
    path: str,
    shorthands: Mapping[str, str],
    problems: Problems,
) -> Table:
    key, rest = keys[0], keys[1:]
    if not rest:
        return Table(table.place, {**table.entries, key: value})
    below = f"{path}.{key}" if path else key
    child = table.entries.get(key, Table(value.place, {}))
    if isinstance(child, Scalar) and child.is_null:
        child = Table(value.place, {})
    if isinstance(child, Scalar) and below in shorthands:
        child = Table(child.place, {shorthands[below]: child})
    if not isinstance(child, Table):
        problems.add(value.place, f"{below}={shown(child)} has no keys inside. Set {below} as a whole.")
        return table
    child = _with(child, rest, value, below, shorthands, problems)
    return Table(table.place, {**table.entries, key: child})
