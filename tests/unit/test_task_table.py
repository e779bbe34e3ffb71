"""The README's table of tasks is what the script makes of what it measured, for every task as its example is now."""

from __future__ import annotations

from dataclasses import replace

import pytest

from objectives.loading import task_names
from sweep.spec.tasks import sheet_of
from tests.benchmarks.task_table import BEGIN, END, ROOT, Gain, Result, Scores, read_results, rendered, replaced
from tests.benchmarks.tasks import study_of
from tests.benchmarks.trivial import ANSWERS

README = (ROOT / "README.md").read_text(encoding="utf-8")
REMEDY = "run `make task-table`"


def test_the_readme_holds_the_table_of_the_results() -> None:
    assert README.count(BEGIN) == README.count(END) == 1
    assert replaced(README, rendered(read_results())) == README, REMEDY


@pytest.mark.parametrize("task", task_names())
def test_every_task_has_a_row_that_was_measured_on_its_example_as_it_is_now(task: str) -> None:
    assert task in ANSWERS
    result = read_results().get(task)
    assert result is not None, REMEDY
    assert result.spec_sha256 == study_of(task).spec_sha256, REMEDY
    assert list(result.commands) == study_of(task).commands, REMEDY
    assert f"| `{task}` | {result.metric}" in README


def test_results_are_of_tasks_and_metrics_that_there_are() -> None:
    results = read_results()
    assert set(results) == set(task_names())
    for result in results.values():
        assert sheet_of(result.task).metrics[result.metric] == result.direction
        assert min(result.rows.values()) >= 50
        sign = 1 if result.direction == "maximize" else -1
        assert sign * result.winner.validation >= sign * result.defaults.validation, "trial 0 is in the ranking"
        assert (result.gain is None) == (result.winner == result.defaults)
        if result.gain is not None:
            assert result.gain.mean == pytest.approx(sign * (result.winner.test - result.defaults.test), abs=1e-3)


def _result(**changes: object) -> Result:
    made = Result(
        task="text-classification",
        commands=["sweep run"],
        data="tweets",
        licence="MIT",
        spec_sha256="",
        rows={"train": 1200, "validation": 60, "test": 50},
        metric="loss",
        direction="minimize",
        trivial_answer="mean",
        trivial=Scores(validation=1.5, test=1.25),
        defaults=Scores(validation=1.0, test=1.1),
        winner=Scores(validation=0.5, test=0.75),
        winner_is={"learning_rate": 1e-3},
        gain=Gain(mean=0.35, low=0.2, high=0.5),
        trials=3,
        cpu_minutes=2.25,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def _table(**changes: object) -> str:
    return rendered({"text-classification": _result(**changes)})


def test_a_row_tells_every_score_of_both_splits() -> None:
    row = "| loss ↓ | 1.500 / 1.250 (mean) | 1.000 / 1.100 | 0.500 / 0.750 | +0.350 [+0.200, +0.500] | 3 | 2.2 |"
    assert row in _table()
    large = {"trivial": Scores(validation=31.06, test=28), "gain": Gain(mean=0.35, low=-0.26, high=1)}
    assert "| 31.1 / 28.0 (mean) | 1.0 / 1.1 | 0.5 / 0.8 | +0.3 [−0.3, +1.0] |" in _table(**large)
    assert "tweets, MIT (1,200 / 60 / 50) | `sweep run` |" in _table()


def test_what_is_not_gained_or_not_learnt_is_said() -> None:
    assert "cannot tell" not in _table()
    assert "cannot tell winner and defaults apart for `text-classification`" in _table(
        gain=Gain(mean=0.1, low=-0.1, high=0.3)
    )
    defaults = _result().defaults
    won = _table(gain=None, winner=defaults)
    assert "| defaults won |" in won
    assert "nothing better than the defaults for `text-classification`" in won
    assert "worse there than the defaults" in _table(gain=Gain(mean=-0.3, low=-0.5, high=-0.1))
    assert "the trivial answer is as good" in _table(winner=Scores(validation=0.5, test=1.3))
