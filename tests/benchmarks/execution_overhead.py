"""Prints what an executor costs for each trial that does nothing but report three times, on two slots.

Run: python tests/benchmarks/execution_overhead.py [--trials 200]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from sweep.domain import Decision
from sweep.execution.local import LocalExecutor
from sweep.execution.ray_workers import RayExecutor
from sweep.execution.warm_client import WarmParent
from sweep.ports import Ended, Executor, Reported
from sweep.testing.executor import toy_request
from sweep.testing.toy_objectives import LOADER

TOYS = ("sweep.testing.toy_objectives",)
SLOTS = 2


def measure(name: str, make: Callable[[], Executor], trials: int, folder: Path) -> None:
    began = time.perf_counter()
    executor = make()
    while executor.free_slots < SLOTS:
        executor.wait(1)
    up = time.perf_counter()
    started = ended = 0
    latencies = []
    while ended < trials:
        while started < trials and executor.free_slots:
            executor.start(toy_request(folder, reports=3), folder / f"log-{started}")
            started += 1
        for event in executor.wait(1):
            if isinstance(event, Reported):
                latencies.append(time.time() - event.report.reported_at)
                executor.decide(event.report.trial_number, event.report.attempt, Decision.CONTINUE)
            ended += isinstance(event, Ended)
    done = time.perf_counter()
    executor.close()
    latency = statistics.median(latencies) * 1e3
    print(
        f"{name:>6}: start {up - began:5.2f} s, {(done - up) / trials * 1e3:6.1f} ms per trial, "
        f"report to driver {latency:5.2f} ms median, close {time.perf_counter() - done:4.2f} s"
    )


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--trials", type=int, default=200)
    trials = arguments.parse_args().trials
    parent = WarmParent(TOYS)
    parent.start()
    with tempfile.TemporaryDirectory() as folder:
        measure("local", lambda: LocalExecutor(SLOTS, parent, "toy", loader=LOADER), trials, Path(folder))
        measure(
            "ray",
            lambda: RayExecutor.open("toy", parent=parent, workers=SLOTS, loader=LOADER, modules=TOYS),
            trials,
            Path(folder),
        )
    parent.close()


if __name__ == "__main__":
    main()
