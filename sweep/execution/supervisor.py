"""Supervises one trial process: turns its messages, its death and what it takes beyond its limits into events."""

from __future__ import annotations

import contextlib
import signal
import time
from pathlib import Path
from typing import Any

from sweep.domain import AttemptEnd, Decision
from sweep.errors import ExecutionError
from sweep.execution.child import TrialProcess
from sweep.execution.memory import kernel_kills
from sweep.execution.messages import Json, report_from_json
from sweep.execution.stacks import STACKS_SIGNAL, StackDump
from sweep.execution.warm_client import TRIAL_MODULE, WarmParent
from sweep.execution.watchdog import Watchdog
from sweep.ports import AttemptLimits, Ended, Event, Progressed, Reported, Started

KILLED = "killed by the driver"
_EXIT_SECONDS = 10.0


class Supervisor:
    """Watches one attempt in its trial process.

    Args:
        process: The process, just spawned.
        trial_number: The trial.
        attempt: Its fencing number.
        worker: Name of the worker, for :class:`~sweep.ports.Started`.
        watchdog: Holds it against its limits.
        artifacts: The trial's folder of files to show; its stacks are kept there when it exceeds a limit of time.
    """

    def __init__(
        self,
        process: TrialProcess,
        *,
        trial_number: int,
        attempt: int,
        worker: str,
        watchdog: Watchdog,
        artifacts: Path,
    ) -> None:
        self.trial_number = trial_number
        self.attempt = attempt
        self.is_over = False
        self._process = process
        self._worker = worker
        self._watchdog = watchdog
        self._artifacts = artifacts
        self._stacks: StackDump | None = None
        self._stacks_descriptor: int | None = None
        self._kernel_kills = kernel_kills()
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
        limits: AttemptLimits,
    ) -> Supervisor:
        """Spawn the trial process of an order ``{"objective", "loader", "train_request"}``.

        Raises:
            ExecutionError: If there is no warm parent to fork from.
        """
        process = parent.spawn(f"{TRIAL_MODULE}:train", order, log, env)
        assignment = order["train_request"]["assignment"]
        return cls(
            process,
            trial_number=assignment["trial_number"],
            attempt=assignment["attempt"],
            worker=worker,
            watchdog=Watchdog(limits, log),
            artifacts=Path(order["train_request"]["artifacts"]),
        )

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
            self._watchdog.begin(self._process.pid)
            found.append(Started(**self._key, worker=self._worker, pid=self._process.pid))
        found += self._said()
        if has_exited:
            self.is_over = True
            self._process.close()
            found.append(self._end or self._unexpected_end())
        else:
            self._watch()
        return found

    def decide(self, decision: Decision) -> None:
        """Answer the report the process waits on, if it does; one that is gone will say so by its end."""
        if not self._waits:
            return
        self._waits = False
        self._watchdog.wait(False)
        with contextlib.suppress(ExecutionError):
            self._process.send({"decision": decision})

    def leave(self) -> None:
        """Ask it to commit a checkpoint at its next step and to end."""
        self._watchdog.leave()
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

    def _watch(self) -> None:
        """End the process if it lingers after its end, or takes more than it may."""
        if self._exit_deadline is not None:
            if time.monotonic() > self._exit_deadline:
                self._process.begin_kill()
                self._exit_deadline = None
        elif self._end is not None:
            return
        elif self._stacks is not None:
            if self._stacks.is_complete():
                self._end = self._timeout(self._stacks)
                self._process.begin_kill()
        elif (excess := self._watchdog.excess()) is not None:
            if excess.end is not AttemptEnd.TIMEOUT:
                self._end = Ended(**self._key, end=excess.end, detail=excess.reason)
                self._process.begin_kill()
                return
            self._stacks = StackDump(self._process.pid, self._stacks_descriptor, excess.reason)
            if self._stacks_descriptor is not None:
                self._process.signal(STACKS_SIGNAL)

    def _timeout(self, stacks: StackDump) -> Ended:
        detail = stacks.keep(self._artifacts / f"stacks-attempt-{self.attempt}.txt")
        return Ended(**self._key, end=AttemptEnd.TIMEOUT, detail=detail)

    def _unexpected_end(self) -> Ended:
        if self._stacks is not None:
            return self._timeout(self._stacks)
        was_killed = self._process.exit_code == -signal.SIGKILL
        if was_killed and kernel_kills() > self._kernel_kills:
            detail = f"{self._process.ending}: by the kernel, for want of host memory"
            return Ended(**self._key, end=AttemptEnd.OOM, detail=detail)
        return Ended(**self._key, end=AttemptEnd.LOST, detail=self._process.ending)

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
                self._watchdog.hear(int(message["report"]["step"]))
                self._watchdog.wait(True)
                found.append(Reported(report=report_from_json(message["report"])))
            elif "end" in message:
                end = Ended(**self._key, end=AttemptEnd(message["end"]), detail=message["detail"])
                self._end = self._end or end
                self._exit_deadline = time.monotonic() + _EXIT_SECONDS
            elif "progress" in message:
                if found and isinstance(found[-1], Progressed):
                    found.pop()  # only the newest of a burst is of interest
                found.append(Progressed(**self._key, **message["progress"]))
                self._watchdog.hear(message["progress"]["step"])
            elif "stacks" in message:
                self._stacks_descriptor = message["stacks"]
        return found
