"""Supervises one trial process: turns its messages and its death into events."""

from __future__ import annotations

import contextlib
import signal
import time
from pathlib import Path
from typing import Any

from sweep.domain import AttemptEnd, Decision
from sweep.errors import ExecutionError
from sweep.execution.child import TrialProcess
from sweep.execution.messages import Json, report_from_json
from sweep.execution.warm_client import TRIAL_MODULE, WarmParent
from sweep.ports import Ended, Event, Progressed, Reported, Started

KILLED = "killed by the driver"
_EXIT_SECONDS = 10.0


class Supervisor:
    """Watches one attempt in its trial process.

    Args:
        process: The process, just spawned.
        trial_number: The trial.
        attempt: Its fencing number.
        worker: Name of the worker, for :class:`~sweep.ports.Started`.
    """

    def __init__(self, process: TrialProcess, *, trial_number: int, attempt: int, worker: str) -> None:
        self.trial_number = trial_number
        self.attempt = attempt
        self.is_over = False
        self._process = process
        self._worker = worker
        self._is_started = False
        self._waits = False
        self._end: Ended | None = None
        self._exit_deadline: float | None = None

    @classmethod
    def begin(
        cls,
        parent: WarmParent,
        order: Json,
        log: Path | None,
        *,
        env: dict[str, str],
        worker: str,
    ) -> Supervisor:
        """Spawn the trial process of an order ``{"objective", "loader", "train_request"}``.

        Raises:
            ExecutionError: If there is no warm parent to fork from.
        """
        process = parent.spawn(f"{TRIAL_MODULE}:train", order, log, env)
        assignment = order["train_request"]["assignment"]
        return cls(process, trial_number=assignment["trial_number"], attempt=assignment["attempt"], worker=worker)

    def filenos(self) -> tuple[int, ...]:
        """Descriptors to select on."""
        return self._process.filenos()

    def events(self) -> list[Event]:
        """What happened since the last call, without waiting; the last one of all is the end.

        The end comes once the process is gone and what it held is free.

        Raises:
            ExecutionError: If no process can be forked at all; the attempt is over then.
        """
        if self.is_over:
            return []
        try:
            has_exited = self._process.poll()
        except ExecutionError:
            self.is_over = True
            raise
        found: list[Event] = []
        if not self._is_started and self._process.pid is not None:
            self._is_started = True
            found.append(Started(**self._key, worker=self._worker, pid=self._process.pid))
        found += self._said()
        if not has_exited and self._exit_deadline is not None and time.monotonic() > self._exit_deadline:
            self._process.begin_kill()
            self._exit_deadline = None
        if has_exited:
            self.is_over = True
            self._process.close()
            found.append(self._end or Ended(**self._key, end=AttemptEnd.LOST, detail=self._process.ending))
        return found

    def decide(self, decision: Decision) -> None:
        """Answer the report the process waits on, if it does; one that is gone will say so by its end."""
        if not self._waits:
            return
        self._waits = False
        with contextlib.suppress(ExecutionError):
            self._process.send({"decision": decision})

    def leave(self) -> None:
        """Ask it to commit a checkpoint at its next step and to end."""
        self._process.signal(signal.SIGTERM)

    def begin_kill(self) -> None:
        """Have it killed; its end will be LOST."""
        self._end = Ended(**self._key, end=AttemptEnd.LOST, detail=KILLED)
        self._process.begin_kill()

    def kill(self) -> None:
        """Kill it and wait until it is gone; no more events."""
        self.is_over = True
        self._process.kill()

    @property
    def _key(self) -> dict[str, Any]:
        return {"trial_number": self.trial_number, "attempt": self.attempt}

    def _said(self) -> list[Event]:
        found: list[Event] = []
        try:
            messages = self._process.messages.drain()
        except ExecutionError as error:
            self._end = Ended(**self._key, end=AttemptEnd.LOST, detail=str(error))
            self._process.begin_kill()
            return found
        for message in messages:
            if "report" in message:
                self._waits = True
                found.append(Reported(report=report_from_json(message["report"])))
            elif "end" in message:
                end = Ended(**self._key, end=AttemptEnd(message["end"]), detail=message["detail"])
                self._end = self._end or end
                self._exit_deadline = time.monotonic() + _EXIT_SECONDS
            elif "progress" in message:
                if found and isinstance(found[-1], Progressed):
                    found.pop()  # only the newest of a burst is of interest
                found.append(Progressed(**self._key, **message["progress"]))
        return found
