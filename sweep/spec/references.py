"""``${NAME}`` in the texts of a spec: a value that the environment holds, and that the spec need not tell."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sweep.redaction.patterns import REFERENCE
from sweep.spec.problems import Problems
from sweep.spec.source import Items, Node, Scalar, Table, shown

Keys = tuple[str | int, ...]
"""Where a text stands: keys and positions, from the top."""


def has_reference(text: str) -> bool:
    """Whether a text names a variable."""
    return REFERENCE.search(text) is not None


def expanded(
    tree: Table, environ: Mapping[str, str], problems: Problems, may_lack: Callable[[Keys], bool]
) -> tuple[Table, dict[Keys, str]]:
    """A tree with the values of variables in the place of their names.

    Args:
        tree: The tree; it is left as it is.
        environ: The variables.
        problems: Receives names of variables that are not set.
        may_lack: Whether the text there may keep the name of a variable that is not set.

    Returns:
        The tree, and the texts as they were written.
    """
    written: dict[Keys, str] = {}

    def walk(node: Node, keys: Keys) -> Node:
        if isinstance(node, Table):
            return Table(node.place, {key: walk(child, (*keys, key)) for key, child in node.entries.items()})
        if isinstance(node, Items):
            return Items(node.place, tuple(walk(item, (*keys, i)) for i, item in enumerate(node.items)))
        names = REFERENCE.findall(node.text)
        if not names:
            return node
        missing = next((name for name in names if name not in environ), None)
        if missing is not None and not may_lack(keys):
            rule = f"names the environment variable {missing}, which is not set"
            problems.add(node.place, f"{'.'.join(map(str, keys))}={shown(node)} {rule}. Set it, or write the value.")
        written[keys] = node.text
        # Always a text: digits of a password are no number.
        return Scalar(node.place, with_values(node.text, environ), quoted=True, written=node.text)

    entries = {key: walk(child, (key,)) for key, child in tree.entries.items()}
    return Table(tree.place, entries), written


def still_meant(values: Mapping[str, Any], tree: Table, written: Mapping[Keys, str]) -> dict[Keys, str]:
    """References whose value was taken as it is; what became a number or an absolute path is no longer one.

    Args:
        values: The resolved spec.
        tree: The tree with the variables' values.
        written: The texts as they were written.
    """
    return {keys: text for keys, text in written.items() if _value_at(values, keys) == _text_at(tree, keys)}


def with_references(values: dict[str, Any], references: Mapping[Keys, str]) -> dict[str, Any]:
    """A resolved spec, changed to have the texts as they were written."""
    for keys, text in references.items():
        place: Any = values
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = text
    return values


def with_values(values: Any, environ: Mapping[str, str]) -> Any:
    """Plain data with the values of variables in the place of their names, for those that are set."""
    if isinstance(values, Mapping):
        return {key: with_values(value, environ) for key, value in values.items()}
    if isinstance(values, list | tuple):
        return [with_values(value, environ) for value in values]
    if not isinstance(values, str):
        return values
    return REFERENCE.sub(lambda match: environ.get(match[1], match[0]), values)


def _value_at(values: Any, keys: Keys) -> Any:
    for key in keys:
        try:
            values = values[key]
        except (KeyError, IndexError, TypeError):  # it has another shape there: shorthands, single files
            return None
    return values


def _text_at(node: Node, keys: Keys) -> str:
    for key in keys:
        if isinstance(node, Table):
            node = node.entries[str(key)]
        elif isinstance(node, Items):
            node = node.items[int(key)]
    return node.text if isinstance(node, Scalar) else ""
