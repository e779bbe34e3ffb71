"""Attempts as child processes of this host alone, without Ray: small, quick, the same trial processes."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from sweep.domain import Decision, TrainRequest
from sweep.errors import ExecutionError
from sweep.execution.jobs import LOADER
from sweep.execution.messages import request_to_json
from sweep.execution.supervisor import Supervisor
from sweep.execution.warm_client import WarmParent
from sweep.ports import AttemptLimits, Event

_TICK_SECONDS = 1.0


class LocalExecutor:
    """Runs attempts on slots of this host; satisfies :class:`sweep.ports.Executor`.

    Args:
        slots: Attempts side by side; at least 1.
        parent: Where trial processes are forked from; stays the caller's.
        objective: Name of the objective, as the loader knows it.
        loader: ``module:function`` that gives the objective of a name.
        env: Variables set in each trial process.
        limits: What each attempt may take.
    """

    def __init__(
        self,
        slots: int,
        parent: WarmParent,
        objective: str,
        *,
        loader: str = LOADER,
        env: Mapping[str, str] | None = None,
        limits: AttemptLimits | None = None,
    ) -> None:
        if slots < 1:
            raise ExecutionError(f"slots={slots}: at least one is needed. Set resources.workers to 1 or more")
        self._slots = slots
        self._parent = parent
        self._objective = objective
        self._loader = loader
        self._env = dict(env or {})
        self._limits = limits or AttemptLimits()
        self._running: dict[tuple[int, int], Supervisor] = {}
        self._unused_names = [f"{socket.gethostname()}-{slot}" for slot in reversed(range(slots))]
        self._names: dict[tuple[int, int], str] = {}
        parent.start()

    @property
    def slots(self) -> int:
        """How many attempts can run at once."""
        return self._slots

    @property
    def free_slots(self) -> int:
        """How many attempts could start now."""
        return self._slots - len(self._running)

    def start(self, request: TrainRequest, log: Path) -> None:
        """Begin an attempt on a free slot.

        Raises:
            ExecutionError: If no slot is free, or nothing can be forked.
        """
        if not self.free_slots:
            raise ExecutionError(f"all {self._slots} slots are taken; wait for an attempt to end")
        key = (request.assignment.trial_number, request.assignment.attempt)
        order = {
            "objective": self._objective,
            "loader": self._loader,
            "train_request": request_to_json(request),
        }
        worker = self._unused_names[-1]
        self._running[key] = Supervisor.begin(
            self._parent, order, log, env=self._env, worker=worker, limits=self._limits
        )
        self._names[key] = self._unused_names.pop()

    def wait(self, timeout_seconds: float) -> Sequence[Event]:
        """Events since the last call, in the order they came; empty after the timeout.

        Raises:
            ExecutionError: If no trial process can be forked at all.
        """
        deadline = time.monotonic() + timeout_seconds
        while True:
            found = self._collect()
            remaining = deadline - time.monotonic()
            if found or remaining <= 0:
                return found
            waiting = select.poll()
            for supervisor in self._running.values():
                for descriptor in supervisor.filenos():
                    waiting.register(descriptor, select.POLLIN)
            waiting.poll(min(remaining, _TICK_SECONDS) * 1000)

    def decide(self, trial_number: int, attempt: int, decision: Decision) -> None:
        """Answer the report an attempt waits on; unknown attempts are ignored."""
        if (trial_number, attempt) in self._running:
            self._running[trial_number, attempt].decide(decision)

    def leave(self, trial_number: int, attempt: int) -> None:
        """Ask an attempt to commit a checkpoint at its next step and to end; unknown ones are ignored."""
        if (trial_number, attempt) in self._running:
            self._running[trial_number, attempt].leave()

    def kill(self, trial_number: int, attempt: int) -> None:
        """End an attempt at once; an ``Ended(LOST)`` follows. Unknown ones are ignored."""
        if (trial_number, attempt) in self._running:
            self._running[trial_number, attempt].begin_kill()

    def settle(self) -> None:
        """Kill what still runs; its events are dropped."""
        self.close()
        self._unused_names += self._names.values()
        self._names.clear()

    def close(self) -> None:
        """Kill what still runs; idempotent. The warm parent stays."""
        for supervisor in self._running.values():
            supervisor.begin_kill()
        for supervisor in self._running.values():
            supervisor.kill()
        self._running.clear()

    def _collect(self) -> list[Event]:
        found: list[Event] = []
        for key, supervisor in list(self._running.items()):
            try:
                found += supervisor.events()
            finally:
                if supervisor.is_over:
                    del self._running[key]
                    self._unused_names.append(self._names.pop(key))
        return found
