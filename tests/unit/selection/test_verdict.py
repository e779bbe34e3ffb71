"""The judge says what the scores on fresh seeds bear out, and no more."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_1samp, ttest_rel

from sweep.domain import MetricRule
from sweep.selection import Finalist, Verdict, judge
from sweep.selection.paired import holm

MAXIMIZE = MetricRule(name="accuracy", direction="maximize")
MINIMIZE = MetricRule(name="loss", direction="minimize")


def finalist(number: int, scores: Sequence[float] | dict[int, float], **others: Any) -> Finalist:
    by_seed = scores if isinstance(scores, dict) else dict(enumerate(scores))
    kind = "baseline" if number == 0 else "finalist"
    return Finalist(label=f"trial {number}", kind=kind, trial_number=number, scores=by_seed, **others)


def test_a_clear_gain_is_called_significant_and_the_numbers_are_those_of_the_t_distribution() -> None:
    base, better = [0.90, 0.91, 0.90, 0.92, 0.91], [0.94, 0.94, 0.95, 0.95, 0.93]
    verdict = judge([finalist(0, base), finalist(3, better, search_score=0.96)], MAXIMIZE)
    winner = verdict.finalist("trial 3")
    assert verdict.winner == "trial 3"
    assert verdict.is_significant
    assert verdict.tied == ("trial 3",)
    assert winner.gain is not None
    assert winner.gain.interval is not None
    assert winner.interval is not None
    assert winner.optimism == pytest.approx(0.96 - 0.942)
    told = ttest_rel(better, base, alternative="greater")
    both = ttest_rel(better, base).confidence_interval(0.95)
    alone = ttest_1samp(better, 0).confidence_interval(0.95)
    assert winner.gain.mean == pytest.approx(0.034)
    assert winner.gain.p_value == pytest.approx(told.pvalue)
    assert winner.gain.interval == pytest.approx((both.low, both.high))
    assert winner.gain.probability_better == pytest.approx(1 - told.pvalue)
    assert winner.interval == pytest.approx((alone.low, alone.high))
    assert verdict.probability_winner_beats_baseline == winner.gain.probability_better
    assert verdict.sentence.startswith("trial 3 wins: accuracy 0.9420 over 5 fresh seeds, gain over the defaults")


def test_no_p_value_below_the_level_stands_beside_an_interval_that_holds_0() -> None:
    base, better = [0.9203, 0.9227], [0.9517, 0.9469]
    assert ttest_rel(better, base, alternative="greater").pvalue < 0.05, "one-sided it would look like a win"
    gain = judge([finalist(0, base), finalist(1, better)], MAXIMIZE).finalist("trial 1").gain
    assert gain is not None
    assert gain.interval is not None
    assert gain.interval[0] < 0
    assert gain.p_value == pytest.approx(ttest_rel(better, base).pvalue)


def test_the_winner_is_by_the_mean_over_fresh_seeds_never_by_the_search_score() -> None:
    lucky = finalist(1, [0.90, 0.91, 0.90], search_score=0.99)
    solid = finalist(2, [0.93, 0.94, 0.93], search_score=0.95)
    verdict = judge([finalist(0, [0.90, 0.90, 0.90]), lucky, solid], MAXIMIZE)
    assert [one.label for one in verdict.finalists] == ["trial 2", "trial 1", "trial 0"]
    assert verdict.winner == "trial 2"
    assert verdict.finalist("trial 1").optimism == pytest.approx(0.99 - 0.90333, abs=1e-4)


def test_less_is_better_where_the_metric_is_minimized() -> None:
    verdict = judge(
        [finalist(0, [0.50, 0.52, 0.51, 0.49]), finalist(1, [0.40, 0.41, 0.39, 0.40], search_score=0.35)], MINIMIZE
    )
    winner = verdict.finalist("trial 1")
    assert verdict.winner == "trial 1"
    assert verdict.is_significant
    assert winner.gain is not None
    assert winner.gain.mean == pytest.approx(0.105)
    assert winner.optimism == pytest.approx(0.05)


def test_p_values_are_corrected_for_the_number_of_finalists() -> None:
    base, better = [0.90, 0.91, 0.90, 0.92], [0.92, 0.92, 0.93, 0.93]
    alone = judge([finalist(0, base), finalist(1, better)], MAXIMIZE)
    same = [finalist(number, base) for number in (2, 3, 4)]
    among = judge([finalist(0, base), finalist(1, better), *same], MAXIMIZE)
    p_values = [one.finalist("trial 1").gain.p_value for one in (alone, among)]  # type: ignore[union-attr]
    assert p_values[1] == pytest.approx(4 * p_values[0])  # type: ignore[operator]
    assert alone.is_significant
    assert not among.is_significant
    assert among.sentence.startswith("No significant winner: trial 1 is the best")


def test_holm_corrects_as_the_paper_does() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def test_one_seed_cannot_tell_a_gain_from_luck() -> None:
    verdict = judge([finalist(0, [0.5]), finalist(1, [0.9])], MAXIMIZE)
    winner = verdict.finalist("trial 1")
    assert verdict.winner == "trial 1"
    assert not verdict.is_significant
    assert verdict.tied == ("trial 1", "trial 0")
    assert winner.gain is not None
    assert (winner.interval, winner.spread, winner.gain.p_value, winner.gain.interval) == (None, None, None, None)
    assert "one seed cannot tell a gain from luck" in verdict.sentence


def test_equal_scores_at_every_seed_are_no_gain() -> None:
    verdict = judge([finalist(0, [0.9] * 5), finalist(1, [0.9] * 5)], MAXIMIZE)
    gain = verdict.finalist("trial 1").gain
    assert gain is not None
    assert (gain.mean, gain.interval, gain.probability_better) == (0.0, (0.0, 0.0), 0.5)
    assert not verdict.is_significant
    assert verdict.winner == "trial 0"
    assert set(verdict.tied) == {"trial 0", "trial 1"}
    assert verdict.sentence.startswith("No significant winner: the defaults (trial 0) hold")


def test_a_deterministic_gain_is_believed_when_it_has_been_seen_often_enough() -> None:
    def significant(seeds: int) -> bool:
        return judge([finalist(0, [0.90] * seeds), finalist(1, [0.93] * seeds)], MAXIMIZE).is_significant

    # Two constants of n scores each: chance alone does that in one of (2n choose n) orders.
    assert [significant(seeds) for seeds in (2, 3, 4)] == [False, True, True]


def test_identical_differences_are_judged_by_their_signs_not_by_their_absent_variance() -> None:
    base = [0.90, 0.91, 0.89, 0.92, 0.90]
    for seeds, p_value in ((2, 1 / 4), (4, 1 / 16), (5, 1 / 32)):
        better = [score + 0.02 for score in base[:seeds]]
        gain = judge([finalist(0, base[:seeds]), finalist(1, better)], MAXIMIZE).finalist("trial 1").gain
        assert gain is not None
        assert gain.p_value == pytest.approx(p_value)
        assert gain.mean == pytest.approx(0.02)


def test_mostly_equal_differences_are_no_measure_of_chance() -> None:
    base = [0.90] * 4 + [0.91]
    gain = judge([finalist(0, base), finalist(1, [0.91] * 5)], MAXIMIZE).finalist("trial 1").gain
    assert gain is not None
    assert gain.p_value == pytest.approx(1 / 16)  # four of four; the t test alone would say 0.008


def test_a_failed_run_makes_no_winner_by_sparing_it_a_hard_seed() -> None:
    hard = {0: 0.95, 1: 0.95, 2: 0.70}
    steady = finalist(1, {index: score + 0.01 for index, score in hard.items()})
    spared = finalist(2, {0: 0.951, 1: 0.951})
    verdict = judge([finalist(0, hard), steady, spared], MAXIMIZE, seeds=3)
    assert verdict.winner == "trial 1"
    assert verdict.finalist("trial 2").mean == pytest.approx(0.951)
    assert "Runs without a score: trial 2 (1 of 3)." in verdict.sentence


def test_dropped_finalists_cannot_win_and_still_count_in_the_correction() -> None:
    base, better = [0.90, 0.91, 0.90, 0.92], [0.92, 0.92, 0.93, 0.93]
    dropped = finalist(2, [0.99, 0.80], dropped_after=2)
    verdict = judge([finalist(0, base), finalist(1, better), dropped], MAXIMIZE)
    alone = judge([finalist(0, base), finalist(1, better)], MAXIMIZE)
    assert verdict.winner == "trial 1"
    assert verdict.finalists[-1].label == "trial 2"
    assert "trial 2" not in verdict.tied
    p_values = [one.finalist("trial 1").gain.p_value for one in (alone, verdict)]  # type: ignore[union-attr]
    assert p_values[1] == pytest.approx(2 * p_values[0])  # type: ignore[operator]


def test_without_any_score_there_is_no_winner() -> None:
    verdict = judge([finalist(0, []), finalist(1, [])], MAXIMIZE, seeds=3)
    assert verdict.winner is None
    assert verdict.tied == ()
    assert verdict.sentence == "No winner: no finalist has a score on a fresh seed."


def test_without_the_defaults_nothing_is_significant() -> None:
    verdict = judge([finalist(1, [0.9, 0.91, 0.9]), finalist(2, [0.5, 0.5, 0.51])], MAXIMIZE)
    assert verdict.winner == "trial 1"
    assert verdict.tied == ("trial 1",)
    assert not verdict.is_significant
    assert "the defaults are not in the final" in verdict.sentence


BASE = [0.900, 0.905, 0.895, 0.902]
BEST = [0.944, 0.952, 0.946, 0.950]
CLOSE = [0.946, 0.946, 0.950, 0.947]


def three(*, best: dict[str, Any], close: dict[str, Any], scores: Sequence[float] = CLOSE) -> Verdict:
    return judge([finalist(0, BASE), finalist(1, BEST, **best), finalist(2, scores, **close)], MAXIMIZE)


@pytest.mark.parametrize(
    ("best", "close", "winner"),
    [
        ({}, {}, "trial 1"),
        ({"model_bytes": 100, "latency_ms": 4.0}, {"model_bytes": 100, "latency_ms": 3.9}, "trial 1"),
        ({"model_bytes": 100, "latency_ms": 4.0}, {"model_bytes": 96, "latency_ms": 3.3}, "trial 1"),
        ({"model_bytes": 100, "latency_ms": 4.0}, {"model_bytes": 50, "latency_ms": 4.0}, "trial 2"),
        ({"model_bytes": 100, "latency_ms": 4.0}, {"model_bytes": 100, "latency_ms": 2.0}, "trial 2"),
        ({"model_bytes": 50, "latency_ms": 4.0}, {"model_bytes": 100, "latency_ms": 1.0}, "trial 1"),
        ({"model_bytes": 100}, {"latency_ms": 1.0}, "trial 1"),
    ],
)
def test_a_tie_goes_to_the_best_mean_unless_another_is_clearly_smaller_or_faster(
    best: dict[str, Any], close: dict[str, Any], winner: str
) -> None:
    verdict = three(best=best, close=close)
    assert verdict.tied == ("trial 1", "trial 2")
    assert verdict.winner == winner
    assert ("cheaper to deploy" in verdict.sentence) == (winner == "trial 2")


def test_a_small_model_that_is_tied_only_for_want_of_seeds_does_not_win() -> None:
    far = [0.92, 0.94, 0.95, 0.93]
    verdict = three(best={"model_bytes": 100}, close={"model_bytes": 10}, scores=far)
    assert verdict.tied == ("trial 1", "trial 2")
    assert verdict.winner == "trial 1"


def test_equal_means_go_to_the_flatter_one() -> None:
    verdict = judge(
        [finalist(0, BASE), finalist(1, [0.93, 0.97, 0.93, 0.97]), finalist(2, [0.95, 0.95, 0.94, 0.96])], MAXIMIZE
    )
    assert verdict.winner == "trial 2"


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_scores_that_are_no_numbers_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match="trial 1: seed 1 is"):
        finalist(1, [0.5, value])


def test_what_cannot_be_judged_is_refused() -> None:
    with pytest.raises(ValueError, match="no finalists"):
        judge([], MAXIMIZE)
    with pytest.raises(ValueError, match="unique"):
        judge([finalist(1, [0.5]), finalist(1, [0.5])], MAXIMIZE)
    with pytest.raises(ValueError, match="level 2"):
        judge([finalist(1, [0.5])], MAXIMIZE, level=2)


def test_a_verdict_comes_back_from_json_also_when_a_later_version_wrote_more() -> None:
    verdict = judge([finalist(0, BASE), finalist(1, BEST, hyperparameters={"learning_rate": 1e-3})], MAXIMIZE)
    written = json.loads(json.dumps(verdict.to_json(), allow_nan=False))
    assert Verdict.from_json(written) == verdict
    written["novelty"] = written["finalists"][0]["novelty"] = written["finalists"][0]["gain"]["novelty"] = 1
    assert Verdict.from_json(written) == verdict
    assert written["metric"] == {"name": "accuracy", "direction": "maximize"}
    assert set(written["finalists"][0]["scores"]) == {"0", "1", "2", "3"}
    with pytest.raises(ValueError, match="not a verdict"):
        Verdict.from_json({"metric": "accuracy"})


SCORE = st.one_of(st.floats(-1e6, 1e6), st.sampled_from([0.0, 0.5, 0.9, 1.0]))


@given(st.lists(st.dictionaries(st.integers(0, 4), SCORE, max_size=5), min_size=1, max_size=4), st.booleans())
def test_any_scores_give_a_verdict_without_nan_that_comes_back_from_json(
    scores: list[dict[int, float]], is_maximized: bool
) -> None:
    finalists = [finalist(number, by_seed, search_score=0.5) for number, by_seed in enumerate(scores)]
    verdict = judge(finalists, MAXIMIZE if is_maximized else MINIMIZE)
    text = json.dumps(verdict.to_json(), allow_nan=False)
    assert Verdict.from_json(json.loads(text)) == verdict
    assert (verdict.winner is None) == (not any(scores))
    assert verdict.winner is None or verdict.winner in verdict.tied
    assert sorted(one.rank or 0 for one in verdict.finalists) == list(range(1, len(scores) + 1))
    for one in verdict.finalists:
        assert one.gain is None or one.gain.p_value is None or 0 <= one.gain.p_value <= 1
