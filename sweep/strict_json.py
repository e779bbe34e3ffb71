"""JSON as the standard has it: Python's own writes NaN and infinities, which no other reader takes."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any


def strict_json(value: Any, *, ascii_only: bool = True, indent: int | None = 2) -> str:
    """JSON in which what is no finite number becomes null, and what JSON does not know is written as text.

    Args:
        value: What to write.
        ascii_only: Whether other characters are escaped.
        indent: Spaces by level; None writes a single line without any.
    """
    separators = (",", ":") if indent is None else None
    return json.dumps(
        _strict(value), indent=indent, separators=separators, ensure_ascii=ascii_only, default=str, allow_nan=False
    )


def _strict(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(item) for item in value]
    return value
