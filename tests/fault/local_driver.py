"""A driver of toy trials, as a process of its own: the study's loop, stop signals and view, without Ray and MLflow."""

from __future__ import annotations

import sys
from pathlib import Path

from sweep.cli.watching import watching
from sweep.engine.control import StopSignals
from sweep.execution.warm_client import WarmParent
from tests.fault.local_study import LocalStudy


def main(folder: Path) -> None:
    """Run one trial that trains until it is told to leave, with a process that escapes its group and session."""
    signals = StopSignals(folder)
    parent = WarmParent(("sweep.testing.toy_objectives",))
    study = LocalStudy(folder, parent, "budget.trials=1")
    with signals.listening(), watching(study.spec) as view:
        study.observer, study.stop_requested = view, signals.requested
        study.plans[0] = {"reports": 1, "then": "escape"}
        result = study.run()
    parent.close()
    (folder / "result").write_text(f"{result.state} {study.trials[0].state} {study.trials[0].setbacks}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
