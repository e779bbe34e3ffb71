"""The end of a driver's session, on real models in this process: what is kept, a stop, and a storage that was moved."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sweep.clock import SystemClock
from sweep.deployable import deployable
from sweep.domain import Assignment, Planned, Trial, TrialState, trial_seed
from sweep.engine.control import StopCause
from sweep.engine.loop import LoopResult
from sweep.finale import Finale
from sweep.layout import StudyLayout
from sweep.objective_jobs import request_maker
from sweep.ports import ModelKept, StudyOver
from sweep.redaction import Redactor
from sweep.search import OptunaStore
from sweep.selection.test_split import openings
from sweep.spec import parse_spec
from sweep.spec.model import StudySpec
from sweep.study_files import read_facts, read_spec, write_facts
from sweep.testing.checkpointing_objective import QuickObjective
from sweep.testing.doubles import MemoryRecorder
from tests.quick_study import SPEC


class Searched:
    """A search of three trials that is over but for its finale."""

    def __init__(self, spec: StudySpec) -> None:
        self.spec = spec
        self.recorder = MemoryRecorder()
        self.evaluated: list[int] = []

    @classmethod
    def trained_in(cls, folder: Path) -> Searched:
        spec = parse_spec(SPEC, place="study.yaml", folder=folder, overrides=("budget.trials=3",))
        data = {**QuickObjective().prepare(spec.objective_settings(), spec.layout.prepared), "model": "none"}
        write_facts(spec.layout, spec.resolved(), data, {})
        store = OptunaStore.create(spec)
        for number, rate in enumerate((0.001, 0.1, 0.2)):
            trial = store.ask(Planned(hyperparameters={"learning_rate": rate}))
            seed = trial_seed(spec.search.seed, number)
            drawn = trial.hyperparameters
            assignment = Assignment(trial_number=number, attempt=1, hyperparameters=drawn, seed=seed)
            reports = list(QuickObjective().train(request_maker(spec, data)(assignment)))
            store.tell(number, TrialState.COMPLETE, spec.rule.chosen(reports))
        store.close()
        return cls(spec)

    def end(self, stops: Iterator[bool] | None = None) -> LoopResult:
        store = OptunaStore.open(self.spec)
        finale = Finale(
            spec=self.spec,
            store=store,
            recorder=self.recorder,
            clock=SystemClock(),
            data=read_facts(self.spec.layout, "data"),
            environment={},
            redactor=Redactor.from_environment({}),
            is_stopping=lambda: stops is not None and next(stops),
        )

        def evaluate(model: Path, trial: Trial) -> dict[str, float]:
            assert model.is_dir()
            self.evaluated.append(trial.number)
            return {"accuracy": 0.5}

        try:
            return finale.run(LoopResult(state="COMPLETE"), evaluate=evaluate, note=lambda line: None)
        finally:
            store.close()

    def kept(self) -> list[ModelKept]:
        return [record for record in self.recorder.records if isinstance(record, ModelKept)]


def test_a_moved_search_keeps_and_exports_its_models_where_they_lie_now(tmp_path: Path) -> None:
    Searched.trained_in(tmp_path / "here")
    (tmp_path / "here").rename(tmp_path / "there")
    moved = Searched(read_spec(StudyLayout(tmp_path / "there", "quick")))
    assert moved.end().state == "COMPLETE"
    assert sorted(moved.evaluated) == [0, 2]
    assert {kept.trial_number for kept in moved.kept()} == {0, 1, 2}
    for number in (None, 1):
        chosen, lineage = deployable(moved.spec, number)
        assert chosen.trial_number == (2 if number is None else number)
        assert chosen.model.is_relative_to(tmp_path / "there")
        assert (chosen.model / "model.safetensors").is_file()
        assert Path(lineage.data["folder"]).is_relative_to(tmp_path / "there")
    assert not (tmp_path / "here").exists()


@pytest.mark.parametrize(("before", "kept", "opened"), [(0, 0, 0), (1, 0, 1), (3, 2, 1)])
def test_a_stop_is_heeded_between_the_steps_of_a_finale_and_the_next_session_goes_on(
    tmp_path: Path, before: int, kept: int, opened: int
) -> None:
    study = Searched.trained_in(tmp_path)
    result = study.end(iter([False] * before + [True]))
    assert (result.state, result.cause) == ("PAUSED", StopCause.REQUEST)
    assert (len(study.kept()), len(openings(study.spec.layout))) == (kept, opened)
    assert study.end().state == "COMPLETE"
    assert len(study.kept()) == 3
    assert sorted(study.evaluated) == [0, 2]
    assert [record.state for record in study.recorder.records if isinstance(record, StudyOver)] == [
        "PAUSED",
        "COMPLETE",
    ]
