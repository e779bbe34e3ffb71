"""The gate before an alias: a model takes the champion's place only if held-out data says that it is better.

By default the gain must be *shown*: the bootstrap interval of the paired difference on the challenger's test split lies
wholly on the better side (:mod:`sweep.selection.bootstrap`). With ``--if-better`` a better score is enough, which noise
alone grants to every second equal model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

LEVEL = 0.05
"""The interval misses the true gain with this probability, half of it on each side."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two models on the same rows.

    Attributes:
        metric: Name of the score.
        direction: ``minimize`` or ``maximize``.
        rows: How many there were.
        challenger: Score of the new model.
        champion: Score of the one in use.
        gain: By how much the challenger is better, in the metric's unit; negative if it is worse.
        interval: Of the gain, two-sided 95 %; None if it could not be had.
        p_value: Two-sided p-value of "it makes no difference which of the two answers"; None likewise.
        note: Why there is no interval, or None.
    """

    metric: str
    direction: str
    rows: int
    challenger: float
    champion: float
    gain: float
    interval: Sequence[float] | None
    p_value: float | None
    note: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What the gate says.

    Attributes:
        passes: Whether the alias may move.
        kind: ``first`` (there is no champion), ``already`` (it is the champion), ``compared`` or ``incomparable``.
        reason: In one sentence.
        comparison: With the champion, if there was one.
    """

    passes: bool
    kind: Literal["first", "already", "compared", "incomparable"]
    reason: str
    comparison: Comparison | None = None


def decide(comparison: Comparison, *, if_better: bool) -> Decision:
    """Whether the challenger takes the champion's place.

    Args:
        comparison: On the challenger's test split.
        if_better: Whether a better score is enough.
    """
    scores = (
        f"{comparison.metric} {comparison.challenger:.4f} against the champion's {comparison.champion:.4f} "
        f"on {comparison.rows} test rows"
    )
    better = comparison.gain > 0
    shown = comparison.interval is not None and comparison.interval[0] > 0
    if better and shown:
        return Decision(passes=True, kind="compared", reason=f"it is better: {scores}", comparison=comparison)
    if better and if_better:
        reason = f"its score is better, which was asked to be enough, but may be luck: {scores}"
        return Decision(passes=True, kind="compared", reason=reason, comparison=comparison)
    if better:
        reason = f"its score is better, but that may be luck: {scores}. --if-better takes the better score"
    else:
        reason = f"it is not better: {scores}"
    return Decision(passes=False, kind="compared", reason=reason, comparison=comparison)
