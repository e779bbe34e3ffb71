"""Counts and order of a study's trials, kept up as they change, are those of looking at all of them."""

from __future__ import annotations

from collections import Counter
from typing import Literal

from hypothesis import given, settings
from hypothesis import strategies as st

from sweep.domain import MetricRule, Trial, TrialState, kept_numbers, ranked
from sweep.engine.retention import trim_models
from sweep.engine.standings import Standings
from sweep.testing.doubles import MemoryKeeper

VALUES = st.one_of(st.none(), st.sampled_from([0.25, 0.5, 0.75]), st.just(float("nan")))


@settings(max_examples=200, deadline=None)
@given(
    changes=st.lists(st.tuples(st.integers(0, 7), st.sampled_from(TrialState), VALUES), max_size=30),
    direction=st.sampled_from(["minimize", "maximize"]),
    keep=st.integers(0, 4),
)
def test_standings_agree_with_counting_and_ranking_anew(
    changes: list[tuple[int, TrialState, float | None]], direction: Literal["minimize", "maximize"], keep: int
) -> None:
    rule = MetricRule(name="accuracy", direction=direction)
    standings, trials = Standings(rule, keep), dict[int, Trial]()
    for number, state, value in changes:
        trials[number] = Trial(number=number, state=state, hyperparameters={}, value=value)
        standings.put(trials[number])
        order = ranked(list(trials.values()), rule)
        assert standings.counts == dict(Counter(trial.state.value for trial in trials.values()))
        assert standings.finished == sum(trial.state.is_finished for trial in trials.values())
        assert standings.best is (order[0] if order else None)
        kept = kept_numbers(trials.values(), rule, keep=keep)
        assert {trial.number for trial in standings if standings.keeps(trial)} == kept & trials.keys()


@settings(max_examples=200, deadline=None)
@given(
    ends=st.lists(st.tuples(st.sampled_from([TrialState.COMPLETE, TrialState.PRUNED]), VALUES), max_size=20),
    keep=st.integers(0, 4),
)
def test_after_each_end_the_kept_trials_alone_have_a_checkpoint(
    ends: list[tuple[TrialState, float | None]], keep: int
) -> None:
    rule = MetricRule(name="accuracy", direction="maximize")
    standings, keeper = Standings(rule, keep), MemoryKeeper()
    for number, (state, value) in enumerate(ends):
        trial = Trial(number=number, state=state, hyperparameters={}, value=value, step=1, checkpoint="folder")
        standings.put(trial)
        trim_models(standings, keeper, trial)
        kept = kept_numbers(list(standings), rule, keep=keep)
        assert {trial.number for trial in standings if trial.checkpoint is not None} == kept
