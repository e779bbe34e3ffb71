"""A study of the quick objective on this host: real history, spool, checkpoints and trial processes; no tracker."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from sweep.checkpoints import FolderKeeper
from sweep.checkpoints.garbage import committed_bytes
from sweep.checkpoints.space import disk_use
from sweep.clock import SystemClock
from sweep.domain import Report, Trial
from sweep.engine.control import StopRequest
from sweep.engine.lock import driver_lock
from sweep.engine.loop import LoopResult, StudyLoop
from sweep.execution.local import LocalExecutor
from sweep.execution.warm_client import WarmParent
from sweep.objective_jobs import request_maker
from sweep.ports import Record, TrialOver
from sweep.search import OptunaStore
from sweep.spec import parse_spec, spec_text
from sweep.spec.model import StudySpec
from sweep.study_files import write_atomically
from sweep.testing.checkpointing_objective import QuickObjective
from sweep.testing.doubles import SilentObserver
from sweep.tracking.spool import Spool, read_entries

TASK = "sweep.testing.checkpointing_objective:QuickObjective"
SPEC = f"""
study: quick
objective:
  task: {TASK}
  model: none
  data: bundled:tweets
  training: {{steps: 40, batch_size: 16}}
search:
  learning_rate: 1e-3..1.0 log
metric: {{name: accuracy, from: best}}
budget: {{trials: 4}}
storage: .
"""


@pytest.fixture(scope="module")
def parent() -> Iterator[WarmParent]:
    """A warm parent that knows the quick objective."""
    parent = WarmParent((TASK.partition(":")[0], "objectives.loading"))
    parent.start()
    yield parent
    parent.close()


@dataclass(slots=True)
class SpoolOnly:
    """Takes records as the product's recorder does; delivers nothing."""

    spool: Spool

    def record(self, record: Record) -> None:
        self.spool.append([record])

    def close(self, timeout_seconds: float) -> int:
        self.spool.close()
        return 0


class Traced:
    """Stands before a port and says the name of each method before it is called."""

    def __init__(self, inner: Any, before: Callable[[str], None]) -> None:
        self._inner, self._before = inner, before

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._inner, name)
        if not callable(value):
            return value

        def call(*arguments: Any, **named: Any) -> Any:
            self._before(name)
            return value(*arguments, **named)

        return call


@dataclass
class QuickStudy:
    """One driver's session after another on the same study."""

    storage: Path
    parent: WarmParent | None
    overrides: tuple[str, ...] = ()
    slots: int = 1
    trials: list[Trial] = field(default_factory=list)

    @property
    def spec(self) -> StudySpec:
        return parse_spec(SPEC, place="study.yaml", folder=self.storage, overrides=list(self.overrides))

    def session(
        self,
        *,
        before: Callable[[str], None] = lambda name: None,
        executor: Callable[[LocalExecutor], Any] = lambda executor: executor,
        space: Callable[[], str | None] = lambda: None,
        stop: Callable[[SilentObserver], bool] = lambda seen: False,
    ) -> LoopResult:
        """Drive the study until it is over or stops.

        Args:
            before: Called before each durable write, with the name of the port's method.
            executor: Wraps the executor.
            space: The loop's.
            stop: Polled; whether to stop at once.
        """
        spec, layout = self.spec, self.spec.layout
        data = {**QuickObjective().prepare({"data": {"split_seed": 0}}, layout.prepared), "model": "none"}
        is_new = not layout.spec.exists()
        observer = SilentObserver()
        with driver_lock(layout.lock, study=spec.study, now=time.time()):
            write_atomically(layout.spec, spec_text(spec.resolved()))
            store = OptunaStore.create(spec) if is_new else OptunaStore.open(spec)
            local = LocalExecutor(self.slots, cast(WarmParent, self.parent), TASK)
            with Spool.open(layout.spool) as spool:
                loop = StudyLoop(
                    spec=spec,
                    store=Traced(store, before),
                    executor=executor(local),
                    recorder=Traced(SpoolOnly(spool), before),
                    keeper=Traced(FolderKeeper(layout.checkpoints), before),
                    clock=SystemClock(),
                    observer=observer,
                    request_for=request_maker(spec, data),
                    log_of=layout.log,
                    artifacts_of=layout.artifacts,
                    stop_requested=lambda: StopRequest.NOW if stop(observer) else StopRequest.NONE,
                    space=space,
                )
                try:
                    return loop.run()
                finally:
                    local.close()
                    self.trials = list(store.trials())
                    store.close()

    def metrics(self) -> dict[tuple[int, int], dict[str, float]]:
        """What each trial reported at each step, as the spool holds it; fails if a step is there twice."""
        reports = [e.record for e in read_entries(self.spec.layout.spool) if isinstance(e.record, Report)]
        assert len({(report.trial_number, report.step) for report in reports}) == len(reports)
        return {(report.trial_number, report.step): dict(report.metrics) for report in reports}

    def check_complete(self) -> None:
        """Exactly the budget, each trial ended once; the disk holds what the manifests say and nothing else."""
        layout = self.spec.layout
        assert [trial.number for trial in self.trials] == list(range(self.spec.budget.trials))
        assert all(trial.state.is_finished for trial in self.trials)
        ends = [e.record.trial_number for e in read_entries(layout.spool) if isinstance(e.record, TrialOver)]
        assert sorted(ends) == list(range(self.spec.budget.trials))
        assert disk_use(layout)["checkpoints"] == committed_bytes(layout)
        assert [path for path in layout.storage.rglob(".*") if path.name != ".ballast"] == []
