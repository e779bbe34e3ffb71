"""Writers forked from a process that has imported MLflow already: cheap, and mortal if a test wants so."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import warnings
from collections.abc import Sequence
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any

from sweep.layout import StudyLayout
from sweep.tracking.spool import spool_size


class _Finished:
    """No more records will come."""

    is_driven = False

    def __init__(self, spool: Path) -> None:
        self.size = spool_size(spool)
        self.event = threading.Event()
        self.event.set()


def _deliver(layout: StudyLayout, uri: str, kill_after: int, note_seconds: float) -> None:
    """A writer that is gone right after its n-th request has worked: the answer never reached it."""
    warnings.simplefilter("ignore")
    from mlflow import MlflowClient

    from sweep.tracking import delivery, tailing
    from sweep.tracking.settings import quiet_mlflow

    quiet_mlflow(delivering=True)

    class Mortal(MlflowClient):  # type: ignore[misc]
        _left = kill_after

        def __getattribute__(self, name: str) -> Any:
            value = super().__getattribute__(name)
            if name.startswith("_") or not callable(value):
                return value

            def call(*arguments: Any, **named: Any) -> Any:
                result = value(*arguments, **named)
                Mortal._left -= 1
                if Mortal._left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                return result

            return call

    tailing.MlflowClient = Mortal
    delivery.NOTE_SECONDS = note_seconds
    tailing.Tailing(layout, uri, _Finished(layout.spool)).run()


class Writers:
    """Starts them."""

    def __init__(self) -> None:
        self._context: ForkServerContext = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["tests.fault.tracking.preload"])

    def start(
        self, layout: StudyLayout, *, uri: str | None = None, kill_after: int = 0, note_seconds: float = 5.0
    ) -> ForkServerProcess:
        """Deliver what the study's spool holds, in a process of its own."""
        process = self._context.Process(
            target=_deliver, args=(layout, uri or layout.tracking_uri, kill_after, note_seconds)
        )
        process.start()
        return process

    def run(self, layout: StudyLayout, **options: Any) -> int | None:
        """The same, to its end; returns the exit code."""
        return self.join([self.start(layout, **options)])[0]

    def join(self, processes: Sequence[ForkServerProcess]) -> list[int | None]:
        """Exit codes, once all have ended."""
        for process in processes:
            process.join()
        return [process.exitcode for process in processes]
