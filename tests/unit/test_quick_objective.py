"""The quick objective keeps the contract that the storm and the fault tests rely on."""

from __future__ import annotations

import itertools
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sweep.checkpoints import FolderKeeper, model_folder, step_folder, step_of
from sweep.domain import GAP, Assignment, MetricRule, Report, TrainRequest
from sweep.errors import CheckpointError
from sweep.ports import DivergedError, LeftEarly
from sweep.spec import parse_spec
from sweep.testing.checkpointing_objective import QuickObjective

SPEC = """
study: quick
objective:
  task: sweep.testing.checkpointing_objective:QuickObjective
  model: softmax-regression
  data: {}
  training: {steps: 12, batch_size: 16, evaluate_every: 4, sleep_seconds: 0}
search: {learning_rate: 1e-3..1.0 log, weight_decay: 1e-5..0.1 log}
metric: {name: accuracy}
storage: .
"""


def request_in(folder: Path, *, start_from: Path | None = None, attempt: int = 1, **settings: Any) -> TrainRequest:
    spec = parse_spec(SPEC, place="study.yaml", folder=folder)
    hyperparameters = spec.defaults()
    prepared = QuickObjective().prepare(spec.objective_settings(), folder / "prepared")
    return TrainRequest(
        assignment=Assignment(
            trial_number=0,
            attempt=attempt,
            hyperparameters=hyperparameters,
            seed=7,
            start_from=str(start_from) if start_from else None,
        ),
        prepared=str(prepared["folder"]),
        model="none",
        settings={**spec.settings(hyperparameters), "learning_rate": 0.05, **settings},
        metric=MetricRule(name="accuracy", direction="maximize"),
        evaluate_at=spec.evaluate_at,
        fidelity_unit="steps",
        checkpoints=str(folder / "checkpoints"),
        artifacts=str(folder / "artifacts"),
    )


def told(reports: list[Report]) -> list[tuple[int, float, float, float]]:
    return [(r.step, r.fidelity, r.metrics["accuracy"], r.metrics["loss"]) for r in reports]


def left_after(steps: int, request: TrainRequest) -> list[Report]:
    objective, asked = QuickObjective(), itertools.count()
    objective.leaving = lambda: next(asked) >= steps
    reports: list[Report] = []
    with pytest.raises(LeftEarly):
        reports.extend(objective.train(request))
    return reports


def test_it_learns_and_evaluates_to_what_it_reported(tmp_path: Path) -> None:
    request = request_in(tmp_path)
    objective = QuickObjective()
    reports = list(objective.train(request))
    assert [report.step for report in reports] == [1, 3, 9, 12]
    assert reports[-1].metrics["accuracy"] > 0.6
    again = objective.evaluate(
        model_folder(Path(reports[-1].checkpoint or "")), Path(request.prepared), "validation", request.settings
    )
    assert again == {name: value for name, value in reports[-1].metrics.items() if name != GAP}
    assert set(objective.check(request)["metrics"]) == set(again)


@pytest.mark.parametrize("steps", range(1, 12))
def test_leaving_at_any_step_and_going_on_changes_nothing(tmp_path: Path, steps: int) -> None:
    whole = list(QuickObjective().train(request_in(tmp_path / "whole")))
    before = left_after(steps, request_in(tmp_path / "parts"))
    newest = FolderKeeper(lambda _: tmp_path / "parts/checkpoints").newest(0)
    assert newest is not None
    assert step_of(Path(newest)) == steps, "not one step is lost"
    after = list(QuickObjective().train(request_in(tmp_path / "parts", start_from=Path(newest), attempt=2)))
    if before:
        assert replace(after[0], attempt=1) == before[-1], "the newest report again, with its time"
        after = after[1:]
    assert told(before + after) == told(whole)
    assert {report.attempt for report in after} == {2}


def test_a_step_that_was_committed_before_keeps_its_time(tmp_path: Path) -> None:
    first = list(QuickObjective().train(request_in(tmp_path)))
    second = list(QuickObjective().train(request_in(tmp_path, attempt=2)))
    assert [replace(report, attempt=1) for report in second] == first


def test_weights_that_overflow_are_a_divergence(tmp_path: Path) -> None:
    with pytest.raises(DivergedError, match="not finite"):
        list(QuickObjective().train(request_in(tmp_path, learning_rate=1e308, weight_decay=1e10)))


def test_a_checkpoint_without_state_is_refused(tmp_path: Path) -> None:
    reports = list(QuickObjective().train(request_in(tmp_path)))
    folder = step_folder(tmp_path / "checkpoints", reports[0].step)
    shutil.rmtree(folder / "state")
    with pytest.raises(CheckpointError):
        list(QuickObjective().train(request_in(tmp_path, start_from=folder, attempt=2)))
