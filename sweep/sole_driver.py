"""One driver for a study, wherever its history lies."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from sweep.clock import SystemClock
from sweep.engine.lock import driver_lock
from sweep.spec.model import StudySpec


@contextmanager
def sole_driver(spec: StudySpec) -> Iterator[Callable[[], None]]:
    """Hold a study: its folder, and the database that other storages may share.

    Yields:
        A fence, to be called before each write of the history.

    Raises:
        StudyBusyError: If another driver holds it.
        SweepError: If folder or database cannot be locked.
    """
    now = SystemClock().now()
    with ExitStack() as stack:
        stack.enter_context(driver_lock(spec.layout.lock, study=spec.study, now=now))
        if spec.history is None:
            yield lambda: None
            return
        from sweep.search.claims import claimed, database_file

        file = database_file(spec.history)
        if file is not None:
            beside = file.with_name(f"{file.name}.{spec.study}.lock")
            stack.enter_context(driver_lock(beside, study=spec.study, now=now))
        yield stack.enter_context(claimed(spec, now=now))
