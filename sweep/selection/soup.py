"""Which finalists' weights to average: the recipes of a soup (Wortsman et al. 2022, arXiv:2203.05482).

A soup has one model, and one score, for each seed of the final: the average of its ingredients' models on that seed.

- ``uniform`` averages all ingredients, whatever their scores.
- ``greedy`` takes the ingredients in the order of their validation scores, best first, and adds each that does not
  make the average score less.

The paper chooses a greedy soup and scores it on the same held-out rows. On each seed it is then at least as good as the
best ingredient there, by the choice alone: where nobody beats the defaults, a final of three finalists and five seeds
calls such a soup the significant winner in 24 % of cases, one of ten seeds in 65 %. So the recipe of a seed is chosen
here by the scores on all other seeds, and the score on it has no part in the choice: false winners stay as rare as
without a soup (``tests/benchmarks/verdict_simulation.py`` measures it). What remains is that the recipes are chosen on
the validation rows that score them, as the finalists are by the search; the test split alone shares no row with that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

Recipe = tuple[int, ...]
"""Trial numbers of the searched study, in the order of the search; the first gives the files besides the weights."""

Score = Callable[[Recipe, int], float]
"""Score of a recipe's average on a seed; more is better. Asked of a recipe of one as well."""


def uniform_recipes(ingredients: Sequence[int], seeds: int) -> dict[int, Recipe]:
    """The recipe of each seed: all ingredients."""
    return dict.fromkeys(range(seeds), tuple(ingredients))


def greedy_recipes(ingredients: Sequence[int], seeds: int, score: Score) -> dict[int, Recipe]:
    """The recipe of each seed, chosen by the scores on the others.

    Args:
        ingredients: Trial numbers in the order of the search, each with a model on every seed.
        seeds: How many there are; at least 2.
        score: Asked for the averages that are tried.
    """
    return {index: _greedy(ingredients, [one for one in range(seeds) if one != index], score) for index in range(seeds)}


def _greedy(ingredients: Sequence[int], seeds: Sequence[int], score: Score) -> Recipe:
    def mean(recipe: Recipe) -> float:
        return math.fsum(score(recipe, index) for index in seeds) / len(seeds)

    first, *others = sorted(ingredients, key=lambda number: -mean((number,)))
    recipe: Recipe = (first,)
    best = mean(recipe)
    for number in others:
        # In one order, so that what was averaged for another seed's recipe is known.
        richer = tuple(one for one in ingredients if one in (*recipe, number))
        found = mean(richer)
        if found >= best:
            recipe, best = richer, found
    return recipe
