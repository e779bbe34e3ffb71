"""The study's real loop and store over real trial processes of this host, without Ray, MLflow or a model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from sweep.clock import SystemClock
from sweep.domain import Assignment, TrainRequest, Trial
from sweep.engine.control import StopRequest
from sweep.engine.loop import LoopResult, StudyLoop
from sweep.engine.view import Observer
from sweep.execution.local import LocalExecutor
from sweep.execution.warm_client import WarmParent
from sweep.ports import AttemptLimits, Executor
from sweep.search import OptunaStore
from sweep.spec import parse_spec
from sweep.testing.doubles import MemoryKeeper, MemoryRecorder, SilentObserver
from sweep.testing.toy_objectives import LOADER

SPEC = """
study: local
objective: {model: bundled:minilm-l6, data: bundled:tweets, training: {epochs: 2}}
search: {learning_rate: 1e-6..1e-2 log, pruner: {name: none}}
metric: {name: accuracy, from: best}
storage: .
"""


class LocalStudy:
    """A study of toy trials; ``plans`` says what the attempts of a trial do, by trial number."""

    def __init__(self, folder: Path, parent: WarmParent, *overrides: str, limits: AttemptLimits | None = None) -> None:
        self.folder = folder
        self.spec = parse_spec(SPEC, place="study.yaml", folder=folder, overrides=overrides)
        self.executor: Executor = LocalExecutor(1, parent, "toy", loader=LOADER, limits=limits)
        self.recorder = MemoryRecorder()
        self.observer: Observer = SilentObserver()
        self.stop_requested: Callable[[], StopRequest] = lambda: StopRequest.NONE
        self.plans: dict[int, dict[str, Any]] = {}
        self.trials: list[Trial] = []

    def run(self) -> LoopResult:
        store = OptunaStore.create(self.spec)
        loop = StudyLoop(
            spec=self.spec,
            store=store,
            executor=self.executor,
            recorder=self.recorder,
            keeper=MemoryKeeper(),
            clock=SystemClock(),
            observer=self.observer,
            request_for=self._request,
            log_of=lambda number: self.folder / f"trial-{number}.log",
            artifacts_of=self._artifacts,
            stop_requested=self.stop_requested,
        )
        try:
            result = loop.run()
            self.trials = list(store.trials())
        finally:
            store.close()
            self.executor.close()
        return result

    def _artifacts(self, number: int) -> Path:
        return self.folder / f"artifacts-{number}"

    def _request(self, assignment: Assignment) -> TrainRequest:
        return TrainRequest(
            assignment=assignment,
            prepared="",
            model="",
            settings=self.plans.get(assignment.trial_number, {}),
            metric=self.spec.rule,
            evaluate_at=self.spec.evaluate_at,
            fidelity_unit=self.spec.fidelity_unit,
            checkpoints=str(self.folder / "checkpoints"),
            artifacts=str(self._artifacts(assignment.trial_number)),
        )
