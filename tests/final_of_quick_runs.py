"""A final whose runs are over, with real models of the quick objective, judged in this process."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sweep.checkpoints import model_folder
from sweep.clock import SystemClock
from sweep.confirmation import confirmation_spec
from sweep.domain import Assignment, Planned, Report, TrialState, confirmation_seed
from sweep.judgement import Judgement
from sweep.objective_jobs import request_maker
from sweep.redaction import Redactor
from sweep.search import OptunaStore
from sweep.selection import Verdict
from sweep.selection.assessment import ModelOnSplit, assess
from sweep.selection.final import Final, entrants_of, runs_of
from sweep.selection.latency import latencies
from sweep.spec import parse_spec
from sweep.study_files import write_facts
from sweep.testing.checkpointing_objective import QuickObjective
from sweep.testing.doubles import MemoryRecorder
from tests.quick_study import SPEC

RATES = {0: 0.001, 1: 0.1, 2: 0.2, 3: 0.4}
"""Learning rates of the search's trials; trial 0, the defaults, hardly learns."""


@dataclass
class InProcessBench:
    """Evaluates in this process, and counts; ``bonus`` is what soups are better on the validation split."""

    task: str
    metric: str
    evaluated: list[Path] = field(default_factory=list)
    timed: int = 0
    bonus: float = 0.0
    milliseconds: Callable[[Path], float] | None = None
    before_evaluating: Callable[[], None] = lambda: None

    def assess(self, models: Sequence[ModelOnSplit]) -> Mapping[str, Any]:
        with TemporaryDirectory() as folder:
            rows = [one.to_json() for one in models]
            return assess(QuickObjective(), self.task, rows, "test", self.metric, 0.05, Path(folder))

    def evaluate(self, model: ModelOnSplit) -> Mapping[str, float]:
        self.before_evaluating()
        self.evaluated.append(model.model)
        found = QuickObjective().evaluate(model.model, Path(model.prepared), "validation", model.settings)
        return {**found, self.metric: found[self.metric] + self.bonus}

    def latencies(self, models: Sequence[ModelOnSplit]) -> Sequence[float] | None:
        self.timed += 1
        if self.milliseconds is not None:
            return [self.milliseconds(one.model) for one in models]
        found: Sequence[float] = latencies(QuickObjective(), [one.to_json() for one in models])["milliseconds"]
        return found


class FinalOfQuickRuns:
    """A final of ``finalists`` besides the defaults, on real histories; each run is trained when it is made."""

    def __init__(
        self,
        folder: Path,
        *,
        finalists: int = 2,
        seeds: int = 3,
        soup: str = "none",
        rates: Mapping[int, float] = RATES,
        layers: Sequence[Sequence[int]] = (),
    ) -> None:
        confirm = f"confirm={{finalists: {finalists}, seeds: {seeds}, racing: false, soup: {soup}}}"
        space = (f"search.keep_layers={[list(kept) for kept in layers]}",) if layers else ()
        self.spec = parse_spec(SPEC, place="study.yaml", folder=folder, overrides=(confirm, *space))
        assert self.spec.confirm is not None
        self.spec.layout.folder.mkdir(parents=True)
        search = OptunaStore.create(self.spec)
        for number, rate in rates.items():
            kept = {"keep_layers": tuple(layers[number % len(layers)])} if layers else {}
            search.ask(Planned(hyperparameters={"learning_rate": rate, **kept}))
            search.tell(number, TrialState.COMPLETE, _searched(number, rate))
        self.trials = search.trials()
        search.close()
        entrants = entrants_of(self.trials, self.spec.rule, count=finalists)
        self.final = Final(entrants=entrants, rule=self.spec.rule, confirm=self.spec.confirm)
        self.final_spec = confirmation_spec(self.spec, len(entrants) * seeds)
        self.data = QuickObjective().prepare(self.spec.objective_settings(), self.spec.layout.prepared)
        for spec in (self.spec, self.final_spec):
            write_facts(spec.layout, spec.resolved(), {**self.data, "model": "none"}, {})
        self.store = OptunaStore.create(self.final_spec)
        for index in range(seeds):
            for one in entrants:
                self._train(one.trial_number or 0, index)
        self.bench = InProcessBench(self.spec.objective.task, self.spec.rule.name)
        self.recorder, self.final_recorder = MemoryRecorder(), MemoryRecorder()
        self.notes: list[str] = []
        self.is_stopping: Callable[[], bool] = lambda: False

    def judge(self) -> Verdict:
        return Judgement(
            spec=self.spec,
            final_spec=self.final_spec,
            final=self.final,
            prepared=[self.data] * self.final.confirm.seeds,
            environment={},
            redactor=Redactor.from_environment({}),
            store=self.store,
            recorder=self.recorder,
            final_recorder=self.final_recorder,
            clock=SystemClock(),
            bench=self.bench,
            note=self.notes.append,
            is_stopping=self.is_stopping,
        ).run()

    def model(self, trial: int, seed_index: int) -> Path:
        return model_folder(Path(runs_of(self.store.trials())[trial, seed_index].checkpoint or ""))

    def _train(self, confirms: int, seed_index: int) -> None:
        drawn = self.trials[confirms].hyperparameters
        run = self.store.ask(Planned(confirms=confirms, seed_index=seed_index, hyperparameters=drawn))
        seed = confirmation_seed(self.spec.search.seed, seed_index)
        assignment = Assignment(trial_number=run.number, attempt=1, hyperparameters=drawn, seed=seed)
        request = request_maker(self.final_spec, {**self.data, "model": "none"})(assignment)
        chosen = self.spec.rule.chosen(list(QuickObjective().train(request)))
        self.store.tell(run.number, TrialState.COMPLETE, chosen)


def _searched(number: int, value: float) -> Report:
    metrics = {"accuracy": value}
    return Report(
        trial_number=number,
        attempt=1,
        step=1,
        fidelity=1.0,
        metrics=metrics,
        checkpoint=None,
        wall_seconds=1.0,
        reported_at=1e9,
    )
