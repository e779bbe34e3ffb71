"""A field's own bounds and rules, applied before pydantic sees a value, for the sake of the message."""

from __future__ import annotations

from typing import Any

import annotated_types
from pydantic import AfterValidator

from sweep.spec.problems import BrokenRule


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
        elif isinstance(rule, annotated_types.Ge) and value < rule.ge:
            raise BrokenRule(f"is below {rule.ge}", f"Use {rule.ge} or more")
        elif isinstance(rule, annotated_types.Gt) and value <= rule.gt:
            raise BrokenRule(f"is not above {rule.gt}", f"Use a value above {rule.gt}")
        elif isinstance(rule, annotated_types.Le) and value > rule.le:
            raise BrokenRule(f"is above {rule.le}", f"Use {rule.le} or less")
        elif isinstance(rule, annotated_types.Lt) and value >= rule.lt:
            raise BrokenRule(f"is not below {rule.lt}", f"Use a value below {rule.lt}")
