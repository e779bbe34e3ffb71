"""Events a second of the engine's loop in studies of 10² to 10⁴ trials, apart from what history and disk take.

``python -m tests.benchmarks.engine_events``
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from sweep.domain import HyperparameterValue, Report, Setback, Spent, Trial, TrialState
from sweep.engine.control import StopRequest
from sweep.engine.loop import StudyLoop
from sweep.execution.simulated import SimulatedExecutor, VirtualClock
from sweep.ports import Event, Record
from sweep.testing.doubles import MemoryKeeper, SilentObserver
from tests.simulated import Study


class Recorder:
    """Keeps nothing."""

    def record(self, record: Record) -> None:
        """Forget it."""

    def close(self, timeout_seconds: float) -> int:
        """Nothing is undelivered."""
        return 0


class Store:
    """A history that remembers no more than the loop asks for while it runs."""

    def __init__(self) -> None:
        self._count = 0
        self._attempts: dict[int, int] = {}
        self.spent = Spent()

    def ask(self) -> Trial:
        self._count += 1
        rate = 1e-6 * 1e4 ** ((self._count * 0.618) % 1)
        drawn: Mapping[str, HyperparameterValue] = {"learning_rate": rate, "dropout": 0.1}
        return Trial(number=self._count - 1, state=TrialState.RUNNING, hyperparameters=drawn)

    def begin_attempt(self, trial_number: int) -> int:
        self._attempts[trial_number] = self._attempts.get(trial_number, 0) + 1
        return self._attempts[trial_number]

    def report(self, report: Report, value: float) -> None: ...

    def should_prune(self, trial_number: int) -> bool:
        return False

    def pause(self, trial_number: int, setback: Setback | None = None) -> None: ...

    def tell(self, trial_number: int, state: TrialState, chosen: Report | None, error: str | None = None) -> None: ...

    def keep_test(self, trial_number: int, metrics: Mapping[str, float]) -> None: ...

    def spend(self, spent: Spent) -> None: ...

    def reports(self, trial_number: int) -> Sequence[Report]:
        return []

    def trials(self) -> Sequence[Trial]:
        return []

    def close(self) -> None: ...


class Counting(SimulatedExecutor):
    """Counts what it tells."""

    told: int

    def wait(self, timeout_seconds: float) -> Sequence[Event]:
        events = super().wait(timeout_seconds)
        self.told += len(events)
        return events


def measure(trials: int, folder: Path) -> float:
    """Events a second of a study of so many trials on 16 workers."""
    study = Study(folder, f"budget.trials={trials}")
    clock = VirtualClock()
    # One event a turn: whole minutes would be spent on turns in which nothing happens.
    executor = Counting(clock=clock, curve=study.curve, max_fidelity=4.0, slots=16, seconds_per_fidelity=1.0)
    executor.told = 0
    loop = StudyLoop(
        spec=study.spec,
        store=Store(),
        executor=executor,
        recorder=Recorder(),
        keeper=MemoryKeeper(),
        clock=clock,
        observer=SilentObserver(),
        request_for=study.request,
        log_of=study.spec.layout.log,
        artifacts_of=study.spec.layout.artifacts,
        stop_requested=lambda: StopRequest.NONE,
    )
    began = time.perf_counter()
    assert loop.run().state == "COMPLETE"
    return executor.told / (time.perf_counter() - began)


if __name__ == "__main__":
    for trials in (100, 1_000, 10_000):
        with tempfile.TemporaryDirectory() as folder:
            print(f"{trials:>6} trials: {measure(trials, Path(folder)):>8,.0f} events/s", flush=True)
