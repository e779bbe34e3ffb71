"""How values are written for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_BARS = "▁▂▃▄▅▆▇█"
_WIDEST_SPARKLINE = 60


def number(value: float | None) -> str:
    """A score with four decimals, or a dash."""
    return "–" if value is None else f"{value:.4f}"


def sparkline(values: Sequence[float], low: float, high: float) -> str:
    """A curve as one line of bars, at most 60; ``low`` is the lowest bar and ``high`` the highest."""
    if len(values) > _WIDEST_SPARKLINE:
        last = len(values) - 1
        values = [values[round(i * last / (_WIDEST_SPARKLINE - 1))] for i in range(_WIDEST_SPARKLINE)]
    height = high - low
    levels = [round((value - low) / height * (len(_BARS) - 1)) if height else 0 for value in values]
    return "".join(_BARS[level] for level in levels)


def setting(value: Any) -> str:
    """A hyperparameter, short: ``3.1e-04``, ``0.12``, ``[0, 2, 5]``."""
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.2e}" if value and abs(value) < 0.01 else f"{value:.4g}"
    if isinstance(value, tuple):
        return str(list(value))
    return str(value)


def settings(values: Mapping[str, Any]) -> str:
    """Hyperparameters on one line."""
    return " · ".join(f"{name} {setting(value)}" for name, value in values.items())


def duration(seconds: float) -> str:
    """``8 s``, ``1 min 05 s`` or ``2 h 03 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def size(count: float) -> str:
    """Bytes in a unit that fits."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def disk(use: Mapping[str, int]) -> str:
    """``1.2 GB (checkpoints 1.1 GB, logs 80.3 MB)``, the largest first."""
    kinds = sorted((kind for kind in use if use[kind]), key=lambda kind: -use[kind])
    parts = ", ".join(f"{kind} {size(use[kind])}" for kind in kinds)
    return size(sum(use.values())) + (f" ({parts})" if parts else "")


def counts(by_state: Mapping[str, int]) -> str:
    """``5 complete, 7 pruned``."""
    return ", ".join(f"{count} {state.lower()}" for state, count in sorted(by_state.items())) or "none yet"
