"""The final on scripted curves: who trains on which seed, in which order, and when it is over."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from sweep.domain import (
    Assignment,
    AttemptEnd,
    HyperparameterValue,
    Spent,
    TrainRequest,
    Trial,
    TrialState,
    confirmation_seed,
    trial_seed,
)
from sweep.engine.control import StopRequest
from sweep.engine.loop import LoopResult, StudyLoop
from sweep.errors import InvalidSpecError
from sweep.execution.simulated import Fate, SimulatedExecutor, VirtualClock
from sweep.finale import lineage_of
from sweep.redaction import Redactor
from sweep.search import OptunaStore
from sweep.selection.final import Final, entrants_of, runs_of, to_be_tried_again
from sweep.spec.model import ConfirmSpec
from sweep.testing.checkpointing_objective import QuickObjective
from sweep.testing.doubles import MemoryKeeper, MemoryRecorder, SilentObserver
from tests.simulated import SPEC, Study, spec_in

_NOTHING = Spent()
BASE = {0: 0.80, 1: 0.84, 2: 0.84, 3: 0.60}


def searched(scores: Mapping[int, float]) -> list[Trial]:
    return [
        Trial(
            number=number,
            state=TrialState.COMPLETE,
            value=score,
            hyperparameters={"learning_rate": 10.0 ** -(number + 2), "dropout": 0.1 * number},
        )
        for number, score in scores.items()
    ]


class Finals:
    """One driver's session after another on the final of a study with given scores."""

    def __init__(self, folder: Path, confirm: ConfirmSpec, *, slots: int = 2) -> None:
        self.spec = spec_in(folder, "search.pruner.name=none", "search.seed=7")
        self.final = Final(
            entrants=entrants_of(searched(BASE), self.spec.rule, count=confirm.finalists),
            rule=self.spec.rule,
            confirm=confirm,
        )
        self.study = Study(folder)
        self.slots = slots
        self.recorder = MemoryRecorder()
        self.store: OptunaStore | None = None
        self.trials: list[Trial] = []
        self.seeds: dict[int, int] = {}
        self.fate: Fate = lambda number, attempt, step: None

    def curve(
        self, hyperparameters: Mapping[str, HyperparameterValue], seed: int, fidelity: float
    ) -> Mapping[str, float]:
        rate = hyperparameters["learning_rate"]
        assert isinstance(rate, float)
        noise = 0.001 * math.sin(seed + 1000 * rate)
        return {"accuracy": BASE[round(-math.log10(rate)) - 2] + noise, "loss": 0.0}

    def run(self, *, stop_after: int | None = None, spent_before: Spent = _NOTHING) -> LoopResult:
        self.store = OptunaStore.open(self.spec) if self.store else OptunaStore.create(self.spec)
        clock, observer = VirtualClock(), SilentObserver()
        executor = SimulatedExecutor(clock=clock, curve=self.curve, max_fidelity=4.0, slots=self.slots, fate=self.fate)
        loop = StudyLoop(
            spec=self.spec,
            store=self.store,
            executor=executor,
            recorder=self.recorder,
            keeper=MemoryKeeper(),
            clock=clock,
            observer=observer,
            request_for=self._request,
            log_of=self.spec.layout.log,
            artifacts_of=self.spec.layout.artifacts,
            stop_requested=lambda: (
                StopRequest.NOW if stop_after is not None and observer.reports >= stop_after else StopRequest.NONE
            ),
            agenda=self.final,
            spent_before=spent_before,
        )
        try:
            return loop.run()
        finally:
            self.trials = list(self.store.trials())
            self.store.close()

    def _request(self, assignment: Assignment) -> TrainRequest:
        self.seeds[assignment.trial_number] = assignment.seed
        return self.study.request(assignment)

    def order(self) -> list[tuple[int | None, int | None]]:
        return [(trial.confirms, trial.seed_index) for trial in self.trials]


def test_the_baseline_and_the_best_train_one_seed_after_another_all_on_the_same_fresh_seeds(tmp_path: Path) -> None:
    final = Finals(tmp_path, ConfirmSpec(finalists=2, seeds=3, racing=False))
    assert final.run().state == "COMPLETE"
    assert final.order() == [(number, index) for index in range(3) for number in (0, 1, 2)]
    seeds = [{final.seeds[t.number] for t in final.trials if t.seed_index == index} for index in range(3)]
    assert seeds == [{confirmation_seed(7, index)} for index in range(3)]
    assert set.union(*seeds).isdisjoint({trial_seed(7, number) for number in range(1000)})
    assert all(t.hyperparameters == searched(BASE)[t.confirms or 0].hyperparameters for t in final.trials)


def test_a_final_that_was_stopped_goes_on_with_what_is_missing(tmp_path: Path) -> None:
    whole = Finals(tmp_path / "whole", ConfirmSpec(finalists=2, seeds=4))
    whole.run()
    broken = Finals(tmp_path / "broken", ConfirmSpec(finalists=2, seeds=4))
    for _ in range(20):
        if broken.run(stop_after=7).state == "COMPLETE":
            break
    assert broken.order() == whole.order()
    assert [t.value for t in broken.trials] == [t.value for t in whole.trials]
    assert broken.final.standings(broken.trials) == whole.final.standings(whole.trials)


def test_a_finalist_clearly_behind_gets_no_further_seeds_and_the_final_is_complete_without(tmp_path: Path) -> None:
    final = Finals(tmp_path, ConfirmSpec(finalists=3, seeds=5), slots=8)  # idle rather than trained in vain
    assert final.run().state == "COMPLETE"
    (dropped,) = [one for one in final.final.standings(final.trials) if one.dropped_after is not None]
    assert (dropped.label, dropped.dropped_after) == ("trial 3", 2)
    assert set(dropped.scores) == {0, 1}
    assert len(final.trials) == 3 * 5 + 2
    without = Finals(tmp_path / "all", ConfirmSpec(finalists=3, seeds=5, racing=False))
    without.run()
    assert len(without.trials) == 4 * 5


def test_more_seeds_and_more_finalists_train_only_what_is_new(tmp_path: Path) -> None:
    final = Finals(tmp_path, ConfirmSpec(finalists=1, seeds=2, racing=False))
    final.run()
    before = {pair: run.value for pair, run in runs_of(final.trials).items()}
    final.final = replace(
        final.final,
        entrants=entrants_of(searched(BASE), final.spec.rule, count=2),
        confirm=ConfirmSpec(finalists=2, seeds=3, racing=False),
    )
    assert final.run().state == "COMPLETE"
    after = {pair: run.value for pair, run in runs_of(final.trials).items()}
    assert len(final.trials) == 9
    assert before.items() <= after.items()


def test_a_run_that_failed_is_trained_again_in_the_next_session_and_its_record_stays(tmp_path: Path) -> None:
    whole = Finals(tmp_path / "whole", ConfirmSpec(finalists=2, seeds=3))
    whole.run()
    final = Finals(tmp_path / "mended", ConfirmSpec(finalists=2, seeds=3))
    final.fate = lambda number, attempt, step: AttemptEnd.FAILED if number in (1, 5) else None
    assert final.run().state == "COMPLETE"
    assert [trial.number for trial in final.trials if trial.state is TrialState.FAILED] == [1, 5]
    assert to_be_tried_again(final.trials) == {1, 5}
    final.fate = lambda number, attempt, step: None
    final.final = replace(final.final, again=to_be_tried_again(final.trials))
    assert final.run().state == "COMPLETE"
    assert [(trial.confirms, trial.seed_index) for trial in final.trials[9:]] == [(1, 0), (2, 1)]
    assert [trial.state for trial in final.trials if trial.number in (1, 5)] == [TrialState.FAILED] * 2
    assert to_be_tried_again(final.trials) == set()
    assert final.final.standings(final.trials) == whole.final.standings(whole.trials)
    final.final = replace(final.final, again=to_be_tried_again(final.trials))
    assert final.run().state == "COMPLETE"
    assert len(final.trials) == 11


def test_who_diverged_is_not_tried_again() -> None:
    ends = {
        TrialState.FAILED: True,
        TrialState.OOM: True,
        TrialState.TIMEOUT: True,
        TrialState.DIVERGED: False,
        TrialState.COMPLETE: False,
        TrialState.PAUSED: False,
    }
    runs = [Trial(number=i, state=state, hyperparameters={}, confirms=i, seed_index=0) for i, state in enumerate(ends)]
    assert to_be_tried_again(runs) == {i for i, is_wanted in enumerate(ends.values()) if is_wanted}


def test_a_final_counts_the_hours_that_the_search_has_spent(tmp_path: Path) -> None:
    final = Finals(tmp_path, ConfirmSpec(finalists=2, seeds=3))
    final.spec = spec_in(tmp_path, "search.pruner.name=none", "budget.hours=1")
    result = final.run(spent_before=Spent(seconds=3600.0))
    assert (result.state, final.trials) == ("PAUSED", [])


def test_fresh_splits_draw_training_and_validation_rows_anew_and_leave_the_test_rows(tmp_path: Path) -> None:
    def rows(**more: int) -> dict[str, set[tuple[float, ...]]]:
        data = QuickObjective().prepare({"data": {"split_seed": 0, **more}}, tmp_path)
        tables = load_file(Path(data["folder"]) / "rows.safetensors")
        return {split: {tuple(row) for row in table} for split, table in tables.items()}

    usual, first, second = rows(), rows(validation_seed=1), rows(validation_seed=2)
    assert usual["test"] == first["test"] == second["test"]
    assert usual["validation"] != first["validation"] != second["validation"]
    assert usual["train"] | usual["validation"] == first["train"] | first["validation"]
    assert first["train"].isdisjoint(first["validation"])


def test_a_model_on_a_fresh_split_says_how_to_prepare_that_split_again(tmp_path: Path) -> None:
    run = Trial(number=3, state=TrialState.COMPLETE, hyperparameters={}, confirms=0, seed_index=1)

    def written(splits: str) -> Mapping[str, object]:
        spec = spec_in(tmp_path, "search.seed=7", f"confirm.splits={splits}")
        origin = lineage_of(spec, run, data={}, environment={}, run_id=None, now=0.0, redactor=Redactor())
        data: Mapping[str, object] = origin.objective["data"]
        return data

    assert written("fresh") == {**written("same"), "validation_seed": confirmation_seed(7, 1)}


def test_fresh_splits_are_refused_where_the_validation_rows_are_a_file(tmp_path: Path) -> None:
    for name in ("train", "validation"):
        (tmp_path / f"{name}.csv").write_text("text,label\na,b\n")
    text = SPEC.replace("data: bundled:tweets", "data: {train: train.csv, validation: validation.csv}")
    with pytest.raises(InvalidSpecError, match=r"confirm\.splits=fresh cannot draw validation rows anew"):
        spec_in(tmp_path, "confirm.splits=fresh", text=text)
