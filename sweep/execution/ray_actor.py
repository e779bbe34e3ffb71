"""The Ray actor of one worker slot: supervises one trial process at a time and stays light itself.

It imports neither torch nor the objectives: trials are forked from a warm parent, the driver's own where that is on
the same host, else one this actor starts. A worker that is told to go (SIGTERM, or its node's daemon has died) has its
trial leave first; so has one whose driver asks no more, which may be cut off and have given the trial to another.
"""

from __future__ import annotations

import contextlib
import os
import queue
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

from sweep.domain import AttemptEnd, Decision
from sweep.errors import ExecutionError
from sweep.execution.messages import Json
from sweep.execution.supervisor import Supervisor
from sweep.execution.warm_client import WarmAddress, WarmParent
from sweep.ports import AttemptLimits, Ended, Event

_DEVICE_VARIABLES = (
    "CUDA_VISIBLE_DEVICES",
    "HIP_VISIBLE_DEVICES",
    "ROCR_VISIBLE_DEVICES",
    "ONEAPI_DEVICE_SELECTOR",
    "ASCEND_RT_VISIBLE_DEVICES",
    "TPU_VISIBLE_CHIPS",
)

_WATCH_SECONDS = 0.5
_FAREWELL_SECONDS = 5.0

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
        unattended_seconds: After so long without a word from the driver, the trial is asked to leave.
    """

    slot: int
    objective: str
    loader: str
    modules: Sequence[str]
    extra_path: Sequence[str]
    warm: WarmAddress | None
    gpus: float
    limits: AttemptLimits
    unattended_seconds: float = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerIdentity:
    """Who a worker is.

    Attributes:
        name: Host and slot.
        pid: Its process id on that host.
        node_id: Ray's id of its node.
    """

    name: str
    pid: int
    node_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a worker tells.

    Attributes:
        events: What happened, in order.
        is_going: Whether it will take no more attempts.
    """

    events: list[Event]
    is_going: bool


class TrialWorker:
    """One worker slot, as Ray runs it.

    ``kill`` and ``leave`` are called in the concurrency group ``CONTROL``, ``live`` in ``LIFE``, the rest in the
    default one.
    """

    def __init__(self, settings: WorkerSettings) -> None:
        self._settings = settings
        self._name = f"{socket.gethostname()}-{settings.slot}"
        self._supervisor: Supervisor | None = None
        self._run = 0
        self._orders: queue.SimpleQueue[tuple[int, Callable[[Supervisor], None]]] = queue.SimpleQueue()
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._is_going = False
        self._unsent: list[Event] = []
        self._attending = threading.Lock()
        self._heard_at = time.monotonic()
        self._daemon_pid = os.getppid()
        self._parent = WarmParent(settings.modules, extra_path=settings.extra_path, attach_to=settings.warm)
        self._parent.start()
        signal.signal(signal.SIGTERM, lambda *_: self._go())  # Ray's own handler would leave no time
        threading.Thread(target=self._watch, daemon=True, name="watch").start()

    def identify(self) -> WorkerIdentity:
        """Who this is; the first call, answered once the actor is ready."""
        return WorkerIdentity(name=self._name, pid=os.getpid(), node_id=ray.get_runtime_context().get_node_id())

    def begin(self, train_request: Json, log: str, timeout_seconds: float, run: int) -> Answer:
        """Begin an attempt, then tell what happens, as ``poll`` does.

        Args:
            train_request: The attempt.
            log: Its log file.
            timeout_seconds: Longest wait for something to happen.
            run: Names it to ``kill`` and ``leave``: an order may come late, when another study's attempt of the same
                number runs.

        Raises:
            ExecutionError: If nothing can be forked.
        """
        settings, assignment = self._settings, train_request["assignment"]
        if self._is_going:
            key = {"trial_number": assignment["trial_number"], "attempt": assignment["attempt"]}
            return Answer(events=[Ended(**key, end=AttemptEnd.PREEMPTED)], is_going=True)
        order: Json = {
            "objective": settings.objective,
            "loader": settings.loader,
            "train_request": train_request,
        }
        with self._attending:
            self._heard_at = time.monotonic()
            self._run = run
            self._supervisor = Supervisor.begin(
                self._parent, order, Path(log), env=self._devices(), worker=self._name, limits=settings.limits
            )
        return self.poll(None, timeout_seconds)

    def poll(self, decision: Decision | None, timeout_seconds: float) -> Answer:
        """Pass on a decision, then tell what happened: at once, or when something does, within the timeout.

        Raises:
            ExecutionError: If no trial process can be forked at all.
        """
        with self._attending:
            try:
                events = self._events(decision, timeout_seconds)
            finally:
                self._heard_at = time.monotonic()
        return Answer(events=events, is_going=self._is_going)

    def _events(self, decision: Decision | None, timeout_seconds: float) -> list[Event]:
        supervisor = self._supervisor
        if supervisor is None:
            return []
        if decision is not None:
            supervisor.decide(decision)
        deadline = time.monotonic() + timeout_seconds
        while True:
            self._obey(supervisor)
            events = [*self._unsent, *supervisor.events()]
            self._unsent = []
            remaining = deadline - time.monotonic()
            if events or remaining <= 0:
                return events
            waiting = select.poll()
            for descriptor in (self._wake_reader.fileno(), *supervisor.filenos()):
                waiting.register(descriptor, select.POLLIN)
            waiting.poll(remaining * 1000)

    def kill(self, run: int) -> None:
        """Have an attempt killed, if it is the one that runs; its end comes through ``poll``."""
        self._order(run, Supervisor.begin_kill)

    def leave(self, run: int) -> None:
        """Have an attempt asked to leave, if it is the one that runs; its end comes through ``poll``."""
        self._order(run, Supervisor.leave)

    def live(self) -> None:
        """Never return: the call fails the moment the actor dies."""
        threading.Event().wait()

    def _order(self, run: int, what: Callable[[Supervisor], None]) -> None:
        self._orders.put((run, what))
        self._wake_writer.send(b"!")

    def _obey(self, supervisor: Supervisor) -> None:
        while not self._orders.empty():
            self._wake_reader.recv(1)
            run, what = self._orders.get()
            if run == self._run:
                what(supervisor)

    def _go(self) -> None:
        """Take no more attempts, and have the one that runs leave."""
        self._is_going = True
        if self._supervisor is not None:
            self.leave(self._run)

    def _watch(self) -> None:
        """Look after what the driver cannot see to: this process's own end, and a trial nobody asks for."""
        while True:
            time.sleep(_WATCH_SECONDS)
            if os.getppid() != self._daemon_pid and not self._is_going:
                self._go()
            with self._attending:
                self._attend()

    def _attend(self) -> None:
        supervisor, alone_seconds = self._supervisor, time.monotonic() - self._heard_at
        if supervisor is None or supervisor.is_over:
            if self._is_going and alone_seconds > _FAREWELL_SECONDS:
                os._exit(0)
            return
        if alone_seconds < self._settings.unattended_seconds:
            return
        supervisor.leave()
        with contextlib.suppress(ExecutionError):  # it is over, then
            self._unsent += supervisor.events()

    def _devices(self) -> dict[str, str]:
        if self._settings.gpus <= 0:
            return {"CUDA_VISIBLE_DEVICES": ""}  # Ray leaves it unset, which would mean all of them
        return {name: os.environ[name] for name in _DEVICE_VARIABLES if name in os.environ}


TrialActor: Any = ray.remote(concurrency_groups={CONTROL: 1, LIFE: 1}, max_restarts=0)(TrialWorker)
"""The worker as Ray's actor class."""
