"""What textual values mean: numbers, ranges, lists, words."""

from __future__ import annotations

import math
import re
import types
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from sweep.domain import HyperparameterValue
from sweep.spec.problems import BrokenRule, suggestion
from sweep.spec.source import Items, Node, Scalar, shown

RANGE_FORM = "Write low..high, low..high log, or low..high step s"
_WHOLE = re.compile(r"[+-]?[0-9]+(?:_[0-9]+)*")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:_[0-9]+)*(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,4})?")
_LONGEST_NUMBER = 64
_LARGEST_WHOLE = 2**63
_TRUE, _FALSE = frozenset({"true", "True", "TRUE"}), frozenset({"false", "False", "FALSE"})
_YES = frozenset(form for word in ("yes", "on", "no", "off") for form in (word, word.capitalize(), word.upper()))


@dataclass(frozen=True, slots=True)
class Shape:
    """What a key may hold.

    Attributes:
        kind: Of the value, or of the items of a list.
        optional: Whether null is a value.
        options: The words of a ``word``.
        items: Shape of the items, for a list.
    """

    kind: Literal["float", "int", "text", "bool", "word", "list", "part", "other"]
    optional: bool = False
    options: tuple[str, ...] = ()
    items: Shape | None = None


def shape_of(annotation: Any) -> Shape:
    """The shape that a field's annotation asks for."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return shape_of(arguments[0])
    if origin in (Union, types.UnionType):
        inner = [argument for argument in arguments if argument is not type(None)]
        shape = shape_of(inner[0]) if len(inner) == 1 else Shape("other")
        return Shape(shape.kind, len(inner) < len(arguments), shape.options, shape.items)
    if origin is Literal:
        return Shape("word", options=tuple(str(argument) for argument in arguments))
    if origin is tuple:
        return Shape("list", items=shape_of(arguments[0]))
    kinds: dict[Any, Any] = {float: "float", int: "int", str: "text", bool: "bool"}
    if annotation in kinds:
        return Shape(kinds[annotation])
    return Shape("part" if isinstance(annotation, type) and hasattr(annotation, "model_fields") else "other")


def is_number(text: str) -> bool:
    """Whether ``text`` is a decimal number, ``_`` between digits allowed."""
    return len(text) <= _LONGEST_NUMBER and _NUMBER.fullmatch(text) is not None


def to_float(text: str) -> float:
    """The finite number that ``text`` says.

    Raises:
        BrokenRule: If it says none.
    """
    text = text.strip()
    if text.lower().lstrip("+-.") in ("inf", "nan", "infinity"):
        raise BrokenRule("is not a finite number", "Write a finite number")
    if not is_number(text):
        raise BrokenRule("is not a number", "Write a number, such as 0.1 or 2e-5")
    value = float(text)
    if math.isinf(value):
        raise BrokenRule("is too large a number", "Write a smaller one")
    return value


def to_int(text: str) -> int:
    """The whole number that ``text`` says, exactly; ``1e5`` is one.

    Raises:
        BrokenRule: If it says none.
    """
    if not is_number(text.strip()):
        raise BrokenRule("is not a whole number", "Write a whole number")
    value = to_float(text)
    if abs(value) >= _LARGEST_WHOLE:
        raise BrokenRule("is too large a number", "Write a smaller one")
    exact = Decimal(text.strip())
    if not value.is_integer() or exact != int(exact):
        raise BrokenRule("is not a whole number", "Write a whole number")
    return int(exact)


def to_bool(text: str) -> bool:
    """Whether ``text`` says true or false, in any of YAML's words.

    Raises:
        BrokenRule: If it says neither.
    """
    word = text.strip().lower()
    if word in ("true", "yes", "on"):
        return True
    if word in ("false", "no", "off"):
        return False
    raise BrokenRule("is neither true nor false", "Write true or false")


def untyped(text: str) -> HyperparameterValue:
    """A plain value where nothing says which type is wanted.

    Raises:
        BrokenRule: For words that are a truth value in one YAML version and text in another, and for characters
            that cannot be seen.
    """
    text = text.strip()
    if text in ("", "~", "null", "Null", "NULL"):
        return None
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    if text in _YES:
        raise BrokenRule("may mean a truth value or a word", "Write true or false, or put it in quotes")
    if is_number(text):
        return to_int(text) if _WHOLE.fullmatch(text) else to_float(text)
    return to_text(text)


def is_plain(text: str) -> bool:
    """Whether ``text`` without quotes is read as itself, wherever it stands."""
    try:
        return untyped(text) == text and ".." not in text
    except BrokenRule:
        return False


def to_word(text: str, options: tuple[str, ...]) -> str:
    """One of a few words.

    Raises:
        BrokenRule: If it is none of them.
    """
    if text not in options:
        known = f"is not {options[0]}" if len(options) == 1 else f"is not one of {', '.join(options)}"
        remedy = suggestion(text, options)
        raise BrokenRule(
            known, remedy if remedy.startswith("Did") else "Use one of them" if len(options) > 1 else "Use it"
        )
    return text


def to_text(text: str) -> str:
    """A text with something in it, on one line.

    Raises:
        BrokenRule: If it is empty or holds control characters.
    """
    if not text.strip():
        raise BrokenRule("is empty", "Write a value, or leave the key out")
    if any(not c.isprintable() for c in text):
        raise BrokenRule("holds a line break or an invisible character", "Remove it")
    return text


def value_of(node: Node, shape: Shape) -> Any:
    """The typed value of a node; tuples for lists.

    Raises:
        BrokenRule: If it has another shape; ``key`` names the item that is to blame, as ``[2]``.
    """
    if isinstance(node, Scalar) and node.is_null:
        if shape.optional:
            return None
        if shape.kind == "list":
            return ()
        raise BrokenRule("has no value", "Give one, or leave the key out")
    if shape.kind == "list" and shape.items is not None:
        return _list_of(node, shape.items)
    if not isinstance(node, Scalar):
        what = "list" if isinstance(node, Items) else "mapping"
        wanted = {"float": "number", "int": "whole number", "bool": "truth value"}.get(shape.kind, "word")
        raise BrokenRule(f"is a {what}", f"Write a single {wanted}")
    if shape.kind == "float":
        return to_float(node.text)
    if shape.kind == "int":
        return to_int(node.text)
    if shape.kind == "bool":
        return to_bool(node.text)
    if shape.kind == "word":
        return to_word(node.text, shape.options)
    return to_text(node.text)


def _list_of(node: Node, shape: Shape) -> tuple[Any, ...]:
    if not isinstance(node, Items):
        if shape.kind == "text" and isinstance(node, Scalar):  # a file may stand for a list of files
            return (to_text(node.text),)
        raise BrokenRule("is not a list", f"Write [{shown(node) if isinstance(node, Scalar) else '…'}]")
    values = []
    for index, item in enumerate(node.items):
        try:
            values.append(value_of(item, shape))
        except BrokenRule as broken:
            raise BrokenRule(broken.rule, broken.remedy, f"[{index}]{broken.key}") from broken
    return tuple(values)


def untyped_value(node: Node) -> HyperparameterValue:
    """The value of a node where nothing says which type is wanted.

    Raises:
        BrokenRule: If it is a mapping, or an unclear word.
    """
    if isinstance(node, Scalar):
        return to_text(node.text) if node.quoted and node.text else node.text if node.quoted else untyped(node.text)
    if isinstance(node, Items):
        return tuple(untyped_value(item) for item in node.items)
    raise BrokenRule("is a mapping", "Write a single value or a list")


def is_range(text: str) -> bool:
    """Whether ``text`` looks like ``low..high``."""
    return ".." in text and re.match(r"\s*[+-]?\.?[0-9]", text) is not None


def range_parts(text: str) -> Mapping[str, str]:
    """Texts of ``low``, ``high`` and, where given, ``log`` and ``step`` of ``low..high log step s``.

    Raises:
        BrokenRule: If it has another form.
    """
    left, dots, right = text.partition("..")
    if right.startswith("."):
        raise BrokenRule("has three dots", RANGE_FORM)
    words = right.split()
    parts = {"low": left.strip(), "high": words[0] if words else ""}
    rest = words[1:]
    while rest:
        if rest[0] == "log" and "log" not in parts:
            parts["log"], rest = "true", rest[1:]
        elif rest[0] == "step" and len(rest) > 1 and "step" not in parts:
            parts["step"], rest = rest[1], rest[2:]
        else:
            raise BrokenRule("is not a range", RANGE_FORM)
    if not dots or not all(is_number(parts[key]) and not parts[key].endswith(".") for key in ("low", "high")):
        raise BrokenRule("is not a range", RANGE_FORM)
    return parts
