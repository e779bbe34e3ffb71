"""A driver to be killed: a real journal, spool and executor, on a toy objective; run as a program.

``python -m tests.fault.killable_driver FOLDER`` forks a new driver of the study in FOLDER for each line on stdin,
so that only the first one pays for its imports. On stdout it names the driver, then each trial that has finished,
then how the driver ended.
"""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path

from sweep.clock import SystemClock
from sweep.domain import Assignment, TrainRequest, Trial
from sweep.engine.control import StopRequest
from sweep.engine.lock import driver_lock
from sweep.engine.loop import StudyLoop
from sweep.engine.view import StudySnapshot
from sweep.errors import StudyNotFoundError
from sweep.execution.local import LocalExecutor
from sweep.execution.warm_client import WarmParent
from sweep.ports import Record
from sweep.search import OptunaStore
from sweep.spec.model import StudySpec
from sweep.testing.doubles import MemoryKeeper, SilentObserver
from sweep.testing.toy_objectives import LOADER
from sweep.tracking.spool import Spool
from tests.simulated import spec_in

SLOTS = 4
EVALUATIONS = 2


def study_in(folder: Path, trials: int = 100) -> StudySpec:
    return spec_in(folder, f"budget.trials={trials}", "search.pruner.name=none")


class SpoolOnly:
    """The real spool, whose records nobody delivers yet."""

    def __init__(self, folder: Path) -> None:
        self._spool = Spool.open(folder)

    def record(self, record: Record) -> None:
        self._spool.append([record])

    def close(self, timeout_seconds: float) -> int:
        self._spool.close()
        return 0


class Telling(SilentObserver):
    def trial_over(self, trial: Trial, snapshot: StudySnapshot) -> None:
        print("over", trial.number, flush=True)


def drive(folder: Path) -> str:
    spec = study_in(folder)
    layout = spec.layout

    def request(assignment: Assignment) -> TrainRequest:
        return TrainRequest(
            assignment=assignment,
            prepared=str(folder),
            model="none",
            settings={"reports": EVALUATIONS, "sleep_seconds": 0.01},
            metric=spec.rule,
            evaluate_at=spec.evaluate_at,
            fidelity_unit=spec.fidelity_unit,
            checkpoints=str(layout.checkpoints(assignment.trial_number)),
            artifacts=str(layout.artifacts(assignment.trial_number)),
        )

    with driver_lock(layout.lock, study=spec.study, now=SystemClock().now()):
        parent = WarmParent(("sweep.testing.toy_objectives",))
        executor = LocalExecutor(SLOTS, parent, "toy", loader=LOADER)
        try:
            try:
                store = OptunaStore.open(spec)
            except StudyNotFoundError:
                store = OptunaStore.create(spec)
            loop = StudyLoop(
                spec=spec,
                store=store,
                executor=executor,
                recorder=SpoolOnly(layout.spool),
                keeper=MemoryKeeper(),
                clock=SystemClock(),
                observer=Telling(),
                request_for=request,
                log_of=layout.log,
                artifacts_of=layout.artifacts,
                stop_requested=lambda: StopRequest.NONE,
            )
            return loop.run().state
        finally:
            executor.close()
            parent.close()


def main() -> None:
    import scipy.stats.qmc  # noqa: F401  # else every driver imports it

    for _ in sys.stdin:
        child = os.fork()
        if child == 0:
            try:
                print("driver", os.getpid(), flush=True)
                print("ended", drive(Path(sys.argv[1])), flush=True)
            except BaseException:  # noqa: BLE001  # told to the test, and this process must not go on below
                print("ended", traceback.format_exc().encode(), flush=True)
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        print("gone", flush=True)


if __name__ == "__main__":
    main()
