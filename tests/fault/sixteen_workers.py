"""A driver of 16 Ray workers, to be killed: ``python -m tests.fault.sixteen_workers FOLDER`` begins a study or goes on.

Each configuration of a small space is trained once. On stdout it says ``tell`` for each trial that ends.
"""

from __future__ import annotations

import sys
from pathlib import Path

from sweep.execution.ray_workers import RayExecutor
from sweep.execution.warm_client import WarmParent
from tests.quick_study import TASK, QuickStudy

WORKERS = 16
RATES = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 0.7, 1.0]
DECAYS = [0.0, 1e-4, 1e-3, 1e-2, 0.1]
TRIALS = len(RATES) * len(DECAYS)
OVERRIDES = (
    f"search.learning_rate={RATES}",
    f"search.weight_decay={DECAYS}",
    f"objective.training.learning_rate={RATES[0]}",
    f"objective.training.weight_decay={DECAYS[0]}",
    "objective.training.steps=20",
    "objective.training.evaluate_every=5",
    "objective.training.sleep_seconds=0.02",
    "search.pruner=none",
    "search.sampler=random",
    f"budget.trials={TRIALS}",
    "on.lost.retries=1000",
)


def main() -> None:
    """Drive the study to its end."""
    parent = WarmParent((TASK.partition(":")[0], "objectives.loading"))
    parent.start()
    executor = RayExecutor.open(TASK, parent=parent, workers=WORKERS)
    try:
        study = QuickStudy(Path(sys.argv[1]), parent, overrides=OVERRIDES)
        result = study.session(
            executor=lambda _: executor, before=lambda name: print(name, flush=True) if name == "tell" else None
        )
        print(result.state, result.reason or "", flush=True)
    finally:
        executor.close()
        parent.close()


if __name__ == "__main__":
    main()
