"""The Ray actor of one worker slot: supervises one trial process at a time and stays light itself.

It imports neither torch nor the objectives: trials are forked from a warm parent, the driver's own where that is on
the same host, else one this actor starts.
"""

from __future__ import annotations

import os
import queue
import select
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

from sweep.domain import Decision
from sweep.execution.messages import Json
from sweep.execution.supervisor import Supervisor
from sweep.execution.warm_client import WarmAddress, WarmParent
from sweep.ports import AttemptLimits, Event

_DEVICE_VARIABLES = (
    "CUDA_VISIBLE_DEVICES",
    "HIP_VISIBLE_DEVICES",
    "ROCR_VISIBLE_DEVICES",
    "ONEAPI_DEVICE_SELECTOR",
    "ASCEND_RT_VISIBLE_DEVICES",
    "TPU_VISIBLE_CHIPS",
)


CONTROL = "control"
LIFE = "life"
"""Concurrency groups: orders are heard while a poll waits, and ``live`` blocks nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSettings:
    """What a worker is told when it is made.

    Attributes:
        slot: Its number in the study.
        objective: Name of the objective, as the loader knows it.
        loader: ``module:function`` that gives the objective of a name.
        modules: Modules a warm parent imports.
        extra_path: Entries for the end of the module search path.
        warm: The driver's warm parent, used where it can be reached.
        gpus: Share of GPUs; with 0 the trial sees none.
        limits: What each attempt may take.
    """

    slot: int
    objective: str
    loader: str
    modules: Sequence[str]
    extra_path: Sequence[str]
    warm: WarmAddress | None
    gpus: float
    limits: AttemptLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerIdentity:
    """Who a worker is.

    Attributes:
        name: Host and slot.
        pid: Its process id on that host.
    """

    name: str
    pid: int


class TrialWorker:
    """One worker slot, as Ray runs it.

    ``kill`` and ``leave`` are called in the concurrency group ``CONTROL``, ``live`` in ``LIFE``, the rest in the
    default one.
    """

    def __init__(self, settings: WorkerSettings) -> None:
        self._settings = settings
        self._name = f"{socket.gethostname()}-{settings.slot}"
        self._supervisor: Supervisor | None = None
        self._orders: queue.SimpleQueue[tuple[int, int, Callable[[Supervisor], None]]] = queue.SimpleQueue()
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._parent = WarmParent(settings.modules, extra_path=settings.extra_path, attach_to=settings.warm)
        self._parent.start()

    def identify(self) -> WorkerIdentity:
        """Who this is; the first call, answered once the actor is ready."""
        return WorkerIdentity(name=self._name, pid=os.getpid())

    def begin(self, train_request: Json, log: str, timeout_seconds: float) -> list[Event]:
        """Begin an attempt, then tell what happens, as ``poll`` does.

        Raises:
            ExecutionError: If nothing can be forked.
        """
        settings = self._settings
        order: Json = {
            "objective": settings.objective,
            "loader": settings.loader,
            "train_request": train_request,
        }
        self._supervisor = Supervisor.begin(
            self._parent, order, Path(log), env=self._devices(), worker=self._name, limits=settings.limits
        )
        return self.poll(None, timeout_seconds)

    def poll(self, decision: Decision | None, timeout_seconds: float) -> list[Event]:
        """Pass on a decision, then tell what happened: at once, or when something does, within the timeout.

        Raises:
            ExecutionError: If no trial process can be forked at all.
        """
        supervisor = self._supervisor
        if supervisor is None:
            return []
        if decision is not None:
            supervisor.decide(decision)
        deadline = time.monotonic() + timeout_seconds
        while True:
            self._obey(supervisor)
            events = supervisor.events()
            remaining = deadline - time.monotonic()
            if events or remaining <= 0:
                return events
            waiting = select.poll()
            for descriptor in (self._wake_reader.fileno(), *supervisor.filenos()):
                waiting.register(descriptor, select.POLLIN)
            waiting.poll(remaining * 1000)

    def kill(self, trial_number: int, attempt: int) -> None:
        """Have an attempt killed, if it is the one that runs; its end comes through ``poll``."""
        self._order(trial_number, attempt, Supervisor.begin_kill)

    def leave(self, trial_number: int, attempt: int) -> None:
        """Have an attempt asked to leave, if it is the one that runs; its end comes through ``poll``."""
        self._order(trial_number, attempt, Supervisor.leave)

    def live(self) -> None:
        """Never return: the call fails the moment the actor dies."""
        threading.Event().wait()

    def _order(self, trial_number: int, attempt: int, what: Callable[[Supervisor], None]) -> None:
        self._orders.put((trial_number, attempt, what))
        self._wake_writer.send(b"!")

    def _obey(self, supervisor: Supervisor) -> None:
        while not self._orders.empty():
            self._wake_reader.recv(1)
            trial_number, attempt, what = self._orders.get()
            if (trial_number, attempt) == (supervisor.trial_number, supervisor.attempt):
                what(supervisor)

    def _devices(self) -> dict[str, str]:
        if self._settings.gpus <= 0:
            return {"CUDA_VISIBLE_DEVICES": ""}  # Ray leaves it unset, which would mean all of them
        return {name: os.environ[name] for name in _DEVICE_VARIABLES if name in os.environ}


TrialActor: Any = ray.remote(concurrency_groups={CONTROL: 1, LIFE: 1}, max_restarts=0)(TrialWorker)
"""The worker as Ray's actor class."""
