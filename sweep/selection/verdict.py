"""The verdict on a study's finalists: values, and how they are written down."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

Interval = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gain:
    """How much better than the baseline a finalist is, over the seeds that both have.

    Attributes:
        mean: Mean paired difference in the metric's unit; positive is better, whatever the direction.
        interval: Two-sided t interval of the mean, not corrected for the number of finalists; None below two seeds.
        p_value: One-sided p-value of "not better than the baseline", corrected for the number of finalists;
            where the interval does not lie above 0, two-sided at least. None below two seeds.
        probability_better: Posterior probability that it is better in the mean (flat prior, so not corrected for
            having been chosen as the best); None below two seeds.
    """

    mean: float
    interval: Interval | None
    p_value: float | None
    probability_better: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finalist:
    """A configuration in the final. The fields from ``mean`` on are the judge's; leave them out before.

    Attributes:
        label: Unique name, e.g. ``trial 3``.
        kind: ``baseline`` is trial 0, whatever else got it into the final; at most one.
        trial_number: Of the searched study; None for a soup.
        hyperparameters: The drawn values.
        search_score: The score that got it into the final.
        scores: Objective value by seed index; the same index is the same seed for all finalists. Failed and
            dropped runs are missing.
        dropped_after: Complete seed rounds after which racing dropped it, or None.
        model_bytes: Size of its weights on disk, if known.
        latency_ms: Time for one input, if measured; see :mod:`sweep.selection.latency`.
        mean: Mean of ``scores``; None without any.
        spread: Sample standard deviation of ``scores``; None below two.
        interval: Two-sided t interval of the mean; None below two seeds.
        rank: 1 is the best confirmed mean; the dropped come after the others.
        gain: None for the baseline, and without a pair of scores.
        optimism: By how much the search score was too good; None for the baseline and for a soup.
        recipes: Of a soup, by seed index: numbers of the trials whose weights are averaged; else empty.
    """

    label: str
    kind: Literal["finalist", "baseline", "soup"] = "finalist"
    trial_number: int | None = None
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    search_score: float | None = None
    scores: Mapping[int, float] = field(default_factory=dict)
    dropped_after: int | None = None
    model_bytes: int | None = None
    latency_ms: float | None = None
    mean: float | None = None
    spread: float | None = None
    interval: Interval | None = None
    rank: int | None = None
    gain: Gain | None = None
    optimism: float | None = None
    recipes: Mapping[int, Sequence[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, value in (("search_score", self.search_score), *((f"seed {i}", v) for i, v in self.scores.items())):
            if value is not None and not math.isfinite(value):
                raise ValueError(f"{self.label}: {name} is {value}; scores are finite numbers, leave out failed runs")


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the final says of the finalists.

    Attributes:
        metric: Its name.
        direction: Of the metric.
        level: Bound on the probability that a winner is called significant when no finalist beats the baseline.
        seeds: Fresh seeds the final was planned with.
        finalists: By rank.
        winner: Label of the winner; None while no finalist has a score.
        tied: Labels of the finalists that cannot be told apart from the best, by rank.
        is_significant: Whether the winner beats the baseline at the level.
        probability_winner_beats_baseline: The winner's ``gain.probability_better``.
        sentence: All that in plain words.
        deploy: Model chosen for deployment, once models are kept.
        test: Scores on the test split, once it was opened.
    """

    metric: str
    direction: Literal["minimize", "maximize"]
    level: float
    seeds: int
    finalists: Sequence[Finalist]
    winner: str | None
    tied: Sequence[str]
    is_significant: bool
    probability_winner_beats_baseline: float | None
    sentence: str
    deploy: Mapping[str, Any] | None = None
    test: Mapping[str, Any] | None = None

    def finalist(self, label: str) -> Finalist:
        """The finalist of a label.

        Raises:
            KeyError: If there is none.
        """
        for finalist in self.finalists:
            if finalist.label == label:
                return finalist
        raise KeyError(label)

    @property
    def baseline(self) -> Finalist | None:
        """Trial 0, if it is in the final."""
        return next((finalist for finalist in self.finalists if finalist.kind == "baseline"), None)

    def to_json(self) -> dict[str, Any]:
        """The JSON-able form; scores are keyed by the seed index as text."""
        written = asdict(self)
        name, direction = written.pop("metric"), written.pop("direction")
        for finalist in written["finalists"]:
            for by_seed in ("scores", "recipes"):
                finalist[by_seed] = {str(index): value for index, value in finalist[by_seed].items()}
        written["finalists"], written["tied"] = list(written["finalists"]), list(self.tied)
        return {"metric": {"name": name, "direction": direction}, **written}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Verdict:
        """Read what :meth:`to_json` wrote; keys of a later version are left out.

        Raises:
            ValueError: If it is no verdict.
        """
        try:
            metric = data["metric"]
            own = {
                **data,
                "metric": metric["name"],
                "direction": metric["direction"],
                "finalists": tuple(_finalist(entry) for entry in data["finalists"]),
                "tied": tuple(data["tied"]),
            }
            return cls(**_known(cls, own))
        except (KeyError, TypeError, AttributeError) as err:
            raise ValueError(f"not a verdict: {err!r}") from err


def _finalist(data: Mapping[str, Any]) -> Finalist:
    gain = data.get("gain")
    if gain is not None:
        gain = Gain(**_known(Gain, {**gain, "interval": _interval(gain["interval"])}))
    scores = {int(index): float(score) for index, score in data.get("scores", {}).items()}
    recipes = {int(index): tuple(trials) for index, trials in data.get("recipes", {}).items()}
    interval = _interval(data.get("interval"))
    own = {**data, "scores": scores, "interval": interval, "gain": gain, "recipes": recipes}
    return Finalist(**_known(Finalist, own))


def _interval(bounds: Sequence[float] | None) -> Interval | None:
    return None if bounds is None else (float(bounds[0]), float(bounds[1]))


def _known(kind: type[Any], data: Mapping[str, Any]) -> dict[str, Any]:
    names = {one.name for one in fields(kind)}
    return {name: value for name, value in data.items() if name in names}
