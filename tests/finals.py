"""Finals on simulated scores: what the judge and racing make of noise, and of a gain that is there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sweep.domain import MetricRule
from sweep.selection import Finalist, Verdict, judge
from sweep.selection.racing import clearly_behind
from sweep.selection.soup import Recipe, greedy_recipes

RULE = MetricRule(name="accuracy", direction="maximize")
Scores = NDArray[np.float64]

NOISES = {
    "normal": "normal",
    "unequal": "one finalist four times as noisy",
    "collapses": "normal, one run in ten collapses by 10 sd",
    "steps": "rounded to steps of 1 sd",
}


def draw(
    generator: np.random.Generator, finalists: int, seeds: int, *, noise: str = "normal", correlation: float = 0.0
) -> Scores:
    """Noise of sd 1, [finalists + 1, seeds]: the baseline first; a seed moves all scores alike by ``correlation``."""
    own = generator.normal(size=(finalists + 1, seeds))
    if noise == "unequal":
        own[-1] *= 4
    shared = generator.normal(size=seeds)
    scores = math.sqrt(1 - correlation) * own + math.sqrt(correlation) * shared
    if noise == "collapses":
        scores -= 10.0 * (generator.random(scores.shape) < 0.1)
    return np.round(scores) if noise == "steps" else scores


@dataclass(frozen=True, slots=True, kw_only=True)
class Final:
    """A final that was held, and the runs it took."""

    verdict: Verdict
    runs: int


def greedy_soup(scores: Scores, generator: np.random.Generator) -> Finalist:
    """A soup of all finalists, whose averages have as much noise of their own as there is most to choose from."""
    averages: dict[tuple[Recipe, int], float] = {}

    def score(recipe: Recipe, index: int) -> float:
        if len(recipe) == 1:
            return float(scores[recipe[0], index])
        if (recipe, index) not in averages:
            mean, own = scores[list(recipe), index].mean(), math.sqrt(1 - 1 / len(recipe))
            averages[recipe, index] = float(mean + own * generator.normal())
        return averages[recipe, index]

    recipes = greedy_recipes(range(1, len(scores)), scores.shape[1], score)
    return Finalist(
        label="soup", kind="soup", scores={index: score(recipe, index) for index, recipe in recipes.items()}
    )


def hold(
    scores: Scores, *, racing: bool = False, level: float = 0.05, cook: np.random.Generator | None = None
) -> Final:
    """The final on these scores, seed by seed; finalist i is ``trial i``, trial 0 the baseline; a cook adds a soup."""
    seeds = scores.shape[1]
    finalists = [
        Finalist(label=f"trial {i}", kind="finalist" if i else "baseline", trial_number=i) for i in range(len(scores))
    ]
    runs = 0
    for index in range(seeds):
        racers = [i for i, one in enumerate(finalists) if one.dropped_after is None]
        runs += len(racers)
        for i in racers:
            finalists[i] = replace(finalists[i], scores={**finalists[i].scores, index: float(scores[i, index])})
        for label in clearly_behind(finalists, RULE, seeds=seeds, level=level) if racing else ():
            i = int(label.removeprefix("trial "))
            finalists[i] = replace(finalists[i], dropped_after=index + 1)
    if cook is not None:
        finalists.append(greedy_soup(scores, cook))
    return Final(verdict=judge(finalists, RULE, seeds=seeds, level=level), runs=runs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """What a number of finals came to.

    Attributes:
        finals: How many were held.
        claimed: In how many a significant winner was claimed.
        claimed_best: In how many of those the winner is truly the best.
        won_best: In how many the winner, claimed or not, is truly the best.
        tied_best: In how many the truly best is in the tied set.
        dropped_best: In how many racing dropped the truly best.
        runs: Runs they took, of ``all_runs``.
    """

    finals: int
    claimed: int
    claimed_best: int
    won_best: int
    tied_best: int
    dropped_best: int
    runs: int
    all_runs: int


def tally(
    generator: np.random.Generator,
    finals: int,
    gains: Sequence[float],
    seeds: int,
    *,
    noise: str = "normal",
    correlation: float = 0.0,
    racing: bool = False,
    soup: bool = False,
) -> Tally:
    """Hold finals in which finalist i is better than the baseline by ``gains[i - 1]`` sd."""
    effects = np.array([0.0, *gains])
    best = f"trial {int(effects.argmax())}"
    counts = dict.fromkeys(("claimed", "claimed_best", "won_best", "tied_best", "dropped_best", "runs"), 0)
    for _ in range(finals):
        scores = draw(generator, len(gains), seeds, noise=noise, correlation=correlation) + effects[:, None]
        final = hold(scores, racing=racing, cook=generator if soup else None)
        verdict = final.verdict
        counts["claimed"] += verdict.is_significant
        counts["claimed_best"] += verdict.is_significant and verdict.winner == best
        counts["won_best"] += verdict.winner == best
        counts["tied_best"] += best in verdict.tied
        counts["dropped_best"] += verdict.finalist(best).dropped_after is not None
        counts["runs"] += final.runs
    return Tally(finals=finals, all_runs=finals * effects.size * seeds, **counts)
