"""``LOCAL_SWEEP VERB …``: the real command line, its trials run by processes of this host without Ray.

Everything else is the product's: history, spool, tracker, signals, finale. It saves the seconds that Ray and torch
take to start, so it fits objectives that need neither; ``SWEEP_TESTS_WARM`` names what another needs to be warm.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

from sweep import objective_jobs, wiring
from sweep.cli.main import main
from sweep.execution.local import LocalExecutor
from sweep.execution.warm_client import WarmParent
from sweep.ports import Executor
from sweep.spec.model import StudySpec

LOCAL_SWEEP = [sys.executable, "-P", str(Path(__file__).resolve())]
"""By its path, so that it runs in any folder."""


def start_executor(spec: StudySpec, parent: WarmParent, note: Callable[[str], None]) -> Executor:
    """As many slots as the spec asks for, on this host."""
    limits = wiring.attempt_limits(spec)
    return LocalExecutor(spec.resources.workers or 2, parent, spec.objective.task, limits=limits)


def warm_parent() -> WarmParent:
    """A parent that imports what the quick objective needs, or what the environment says."""
    named = os.environ.get("SWEEP_TESTS_WARM", "sweep.testing.checkpointing_objective objectives.loading")
    return WarmParent(named.split())


if __name__ == "__main__":
    wiring.start_executor = start_executor
    objective_jobs.WarmParent = warm_parent  # type: ignore[misc, assignment]
    main()
