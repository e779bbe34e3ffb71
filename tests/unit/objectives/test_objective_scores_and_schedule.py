from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from objectives.finetune.artifacts import write_confusion
from objectives.finetune.schedule import learning_rate_factor, plan_run
from objectives.finetune.scores import class_report, confusion_matrix, scores


def test_scores_agree_with_figures_worked_by_hand() -> None:
    truth, predicted = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 1, 1, 1, 0])
    confusion = confusion_matrix(truth, predicted, 3)
    assert confusion.tolist() == [[2, 1, 0], [0, 2, 0], [1, 0, 0]]
    found = scores(confusion)
    assert found["accuracy"] == pytest.approx(4 / 6)
    assert found["macro_f1"] == pytest.approx((2 / 3 + 4 / 5 + 0) / 3)
    assert found["mcc"] == pytest.approx((4 * 6 - (9 + 6 + 0)) / np.sqrt((36 - 18) * (36 - 14)))


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=60))
def test_binary_and_multiclass_scores_stay_in_their_ranges(pairs: list[tuple[int, int]]) -> None:
    truth, predicted = (np.array(column) for column in zip(*pairs, strict=True))
    found = scores(confusion_matrix(truth, predicted, 4))
    assert 0 <= found["accuracy"] <= 1
    assert 0 <= found["macro_f1"] <= 1
    assert -1 - 1e-9 <= found["mcc"] <= 1 + 1e-9


def test_predicting_one_class_alone_gives_zero_correlation() -> None:
    assert scores(np.array([[0, 3], [0, 5]]))["mcc"] == 0.0


def test_class_report_counts_ratios_without_denominator_as_zero() -> None:
    rows = class_report(np.array([[2, 0], [1, 0]]), ["a", "b"])
    assert rows[0] == {"label": "a", "precision": 2 / 3, "recall": 1.0, "f1": 0.8, "support": 2}
    assert rows[1] == {"label": "b", "precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 1}


def test_confusion_is_written_as_json_and_csv(tmp_path: Path) -> None:
    write_confusion(tmp_path / "new", np.array([[2, 1], [0, 3]]), ["a,b", "c"])
    written = json.loads((tmp_path / "new/confusion_matrix.json").read_text())
    assert (written["labels"], written["matrix"]) == (["a,b", "c"], [[2, 1], [0, 3]])
    with (tmp_path / "new/confusion_matrix.csv").open(newline="") as stream:
        assert list(csv.reader(stream))[1:] == [["a,b", "2", "1"], ["c", "0", "3"]]
    assert len(json.loads((tmp_path / "new/classification_report.json").read_text())["classes"]) == 2
    assert not list((tmp_path / "new").glob(".*"))


def test_fidelities_become_the_first_step_that_reaches_them() -> None:
    plan = plan_run(
        batches_per_epoch=10,
        accumulation=3,
        epochs=2.0,
        steps=None,
        unit="epochs",
        evaluate_at=[0.1, 0.2, 0.5, 1, 3],
    )
    assert (plan.steps_per_epoch, plan.total_steps) == (4, 8)
    assert plan.evaluate_at == (1, 2, 4, 8)
    assert [plan.fidelity(s) for s in plan.evaluate_at] == [0.25, 0.5, 1.0, 2.0]


def test_a_run_in_steps_counts_fidelity_in_steps() -> None:
    plan = plan_run(batches_per_epoch=10, accumulation=1, epochs=None, steps=7, unit="steps", evaluate_at=[2, 6.5, 7])
    assert (plan.total_steps, plan.evaluate_at, plan.fidelity(7)) == (7, (2, 7), 7.0)


@given(st.integers(1, 3000), st.integers(1, 400), st.integers(1, 300))
def test_a_reported_fidelity_never_falls_short_of_its_rung(denominator: int, batches: int, epochs: int) -> None:
    rung = epochs / denominator
    plan = plan_run(
        batches_per_epoch=batches,
        accumulation=1,
        epochs=epochs,
        steps=None,
        unit="epochs",
        evaluate_at=[rung],
    )
    assert plan.fidelity(plan.evaluate_at[0]) >= rung - 1e-6


SHAPES = st.sampled_from(["linear", "cosine", "constant", "wsd"])


@given(st.integers(1, 200), st.floats(0, 0.9), SHAPES, st.none() | st.integers(0, 250), st.floats(0.01, 1))
def test_learning_rate_rises_then_falls_and_is_never_zero(
    total: int, warmup: float, shape: str, warmup_steps: int | None, cooldown: float
) -> None:
    factors = [
        learning_rate_factor(step, total, warmup, shape, warmup_steps=warmup_steps, cooldown=cooldown)
        for step in range(total)
    ]
    peak = factors.index(max(factors))
    assert all(0 < factor <= 1 for factor in factors)
    assert factors[: peak + 1] == sorted(factors[: peak + 1])
    assert factors[peak:] == sorted(factors[peak:], reverse=True)


def _factors(shape: str, **settings: Any) -> list[float]:
    return [learning_rate_factor(step, 8, 0.25, shape, **settings) for step in range(8)]


def test_schedules_take_their_shapes_after_the_warm_up() -> None:
    assert _factors("constant") == [0.5, *[1.0] * 7]
    assert _factors("linear") == pytest.approx([0.5, 1, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6])
    cosine = _factors("cosine")
    assert cosine[:3] == pytest.approx([0.5, 1, 1])
    assert cosine[5] == pytest.approx(0.5)  # half of the way down at half of the time
    assert cosine[3] > 5 / 6
    assert cosine[7] < 1 / 6
    assert _factors("wsd", cooldown=0.25) == pytest.approx([0.5, 1, 1, 1, 1, 1, 1, 0.5])
    assert _factors("wsd", cooldown=0.5) == pytest.approx([0.5, 1, 1, 1, 1, 0.75, 0.5, 0.25])


def test_a_warm_up_in_steps_takes_the_place_of_its_share() -> None:
    assert _factors("constant", warmup_steps=4) == [0.25, 0.5, 0.75, *[1.0] * 5]
    assert _factors("constant", warmup_steps=0) == [1.0] * 8


def test_rounding_adds_no_step_to_the_warm_up() -> None:
    # 0.07 * 300 is 21.000000000000004 in floating point.
    assert learning_rate_factor(20, 300, 0.07, "linear") == 1.0
