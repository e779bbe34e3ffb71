"""Many simulated finals: errors stay under their level, and a gain that is there is found.

The random numbers are fixed. On others, each bound would fail by chance with probability 1e-6 at most, where the rate
is what the docstrings of :mod:`sweep.selection.judging` and :mod:`sweep.selection.racing` say.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from sweep.domain import MetricRule
from sweep.selection import Finalist
from sweep.selection.racing import clearly_behind
from tests.finals import RULE, tally

FINALS = 1000
CHANCE = 1e-6


def most(rate: float) -> int:
    """Hits that no more than one in a million runs exceeds, if they happen at ``rate`` or less."""
    return int(binom.isf(CHANCE, FINALS, rate))


def least(rate: float) -> int:
    """Hits that no more than one in a million runs stays below, if they happen at ``rate`` or more."""
    return int(binom.ppf(CHANCE, FINALS, rate))


@pytest.mark.parametrize("racing", [False, True])
@pytest.mark.parametrize(
    ("finalists", "seeds", "noise", "correlation"),
    [(1, 3, "normal", 0.0), (12, 8, "normal", 0.5), (3, 8, "unequal", 0.0), (3, 5, "steps", 0.0)],
)
def test_pure_noise_has_a_winner_no_more_often_than_the_level_says(
    finalists: int, seeds: int, noise: str, correlation: float, racing: bool
) -> None:
    generator = np.random.default_rng(1)
    found = tally(generator, FINALS, [0.0] * finalists, seeds, noise=noise, correlation=correlation, racing=racing)
    assert found.claimed <= most(0.05)


@pytest.mark.parametrize(("finalists", "seeds"), [(3, 3), (3, 8)])
def test_a_greedy_soup_wins_on_pure_noise_no_more_often_than_the_level_says(finalists: int, seeds: int) -> None:
    found = tally(np.random.default_rng(6), FINALS, [0.0] * finalists, seeds, soup=True)
    assert found.claimed <= most(0.05)


def test_a_planted_gain_is_found_and_the_claimed_winner_is_the_best() -> None:
    found = tally(np.random.default_rng(2), FINALS, [3.0, 0.0, 0.0], 5)
    assert found.claimed >= least(0.80)
    assert found.claimed_best >= 0.98 * found.claimed


def test_the_truly_best_is_in_the_tied_set_as_often_as_it_says() -> None:
    found = tally(np.random.default_rng(3), FINALS, [0.02, 0.01, 0.0, 0.0], 4)
    assert found.tied_best >= least(0.95)


def test_racing_saves_runs_and_keeps_the_best() -> None:
    gains = [3.0, 0.0, -3.0]
    plain, raced = (tally(np.random.default_rng(4), FINALS, gains, 6, racing=is_on) for is_on in (False, True))
    assert raced.runs < 0.85 * raced.all_runs
    assert plain.runs == plain.all_runs
    assert raced.won_best >= least(0.95)
    assert raced.claimed >= 0.98 * plain.claimed


@pytest.mark.parametrize(("noise", "rate"), [("normal", 0.05), ("unequal", 0.10)])
def test_racing_drops_the_truly_best_no_more_often_than_it_says(noise: str, rate: float) -> None:
    found = tally(np.random.default_rng(5), FINALS, [0.02, 0.01, 0.0, 0.0], 6, noise=noise, racing=True)
    assert found.dropped_best <= most(rate)


def racers(*rows: list[float], dropped: int | None = None) -> list[Finalist]:
    return [
        Finalist(
            label=f"trial {i}",
            kind="finalist" if i else "baseline",
            scores=dict(enumerate(row)),
            dropped_after=1 if i == dropped else None,
        )
        for i, row in enumerate(rows)
    ]


BEHIND = racers([0.80, 0.81, 0.80], [0.90, 0.91, 0.91], [0.70, 0.72, 0.71], [0.90, 0.90, 0.91])


def test_the_clearly_behind_are_dropped_and_the_baseline_never_is() -> None:
    assert clearly_behind(BEHIND, RULE, seeds=5) == ("trial 2",)
    minimize = MetricRule(name="loss", direction="minimize")
    assert clearly_behind(BEHIND, minimize, seeds=5) == ("trial 1", "trial 3")


@pytest.mark.parametrize("seeds", [1, 2, 3])
def test_nobody_is_dropped_after_the_last_round(seeds: int) -> None:
    assert clearly_behind(BEHIND, RULE, seeds=seeds) == ()


def test_one_round_drops_nobody_and_seeds_without_effect_neither() -> None:
    assert clearly_behind(racers([0.9], [0.1]), RULE, seeds=5) == ()
    assert clearly_behind(racers([0.9] * 3, [0.1] * 3), RULE, seeds=5) == ()


def test_who_is_out_is_not_dropped_again_and_who_has_no_score_is_behind() -> None:
    scores = [0.80, 0.81, 0.80]
    assert clearly_behind(racers(scores, scores, [0.1, 0.2, 0.1], dropped=2), RULE, seeds=5) == ()
    assert clearly_behind(racers(scores, scores, []), RULE, seeds=5) == ("trial 2",)
    assert clearly_behind(racers([], scores), RULE, seeds=5) == ()
