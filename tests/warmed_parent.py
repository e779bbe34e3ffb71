"""A warm parent that has imported what it will need, however long that takes on a busy machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sweep.execution.jobs import run_job
from sweep.execution.warm_client import WarmParent


@contextmanager
def warmed_parent() -> Iterator[WarmParent]:
    """Yield it once it has answered a first job; nobody waits so long for an attempt."""
    parent = WarmParent()
    parent.start()
    try:
        job = {"model": "", "prepared": "", "split": "", "settings": {}}
        run_job(parent, "sweep.testing.toy_objectives:ToyObjective", "evaluate", job)
        yield parent
    finally:
        parent.close()
