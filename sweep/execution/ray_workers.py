"""Attempts on Ray actors, one for each worker slot; a lost actor is replaced.

The driver keeps one call outstanding to each busy actor (a long poll) and, to every actor, one that never returns:
it fails the moment the actor dies. An actor that cannot be reached is killed before its attempt is given up.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from sweep.domain import AttemptEnd, Decision, TrainRequest
from sweep.errors import ExecutionError
from sweep.execution.jobs import LOADER
from sweep.execution.messages import request_to_json
from sweep.execution.ray_actor import CONTROL, LIFE, TrialActor, WorkerIdentity, WorkerSettings
from sweep.execution.ray_cluster import RayCluster, TrialShare, join_cluster, start_cluster
from sweep.execution.warm_client import WARM_MODULES, WarmParent, search_path
from sweep.ports import AttemptLimits, Ended, Event, Reported

_POLL_SECONDS = 1.0
_SILENCE_SECONDS = 30.0
_START_SECONDS = 120.0
_CLOSE_SECONDS = 2.0
_MAX_FAILED_STARTS = 3


@dataclass(slots=True, kw_only=True)
class _Worker:
    """The driver's view of one slot.

    Attributes:
        slot: Its number.
        actor: Ray's handle.
        ready: Answered once the actor is there; None afterwards.
        life: Fails when the actor dies.
        poll: The outstanding long poll, if any.
        polled_at: Monotonic time it was sent.
        attempt: (trial_number, attempt) that runs on it.
        is_killed: Whether that was asked to be killed.
        identity: Who answered.
        failed_starts: Actors in a row that died before they were ready.
    """

    slot: int
    actor: Any
    ready: Any
    life: Any
    poll: Any = None
    polled_at: float = 0.0
    attempt: tuple[int, int] | None = None
    is_killed: bool = False
    identity: WorkerIdentity | None = None
    failed_starts: int = 0

    @property
    def is_free(self) -> bool:
        return self.ready is None and self.attempt is None


class RayExecutor:
    """Runs attempts on Ray actors; satisfies :class:`sweep.ports.Executor`.

    A slot counts as free once its actor is up; ``wait`` returns early, without events, when one becomes so. Attempts
    are never queued for an actor that may not come.

    Args:
        cluster: The cluster to run on.
        share: What one trial takes.
        objective: Name of the objective, as the loader knows it.
        parent: The driver's warm parent, which workers on this host use too; stays the caller's.
        loader: ``module:function`` that gives the objective of a name.
        modules: Modules the warm parents of other hosts import.
        limits: What each attempt may take.
        owns_cluster: Whether ``close`` shuts the cluster down.
    """

    def __init__(
        self,
        cluster: RayCluster,
        share: TrialShare,
        objective: str,
        *,
        parent: WarmParent | None,
        loader: str = LOADER,
        modules: Sequence[str] = WARM_MODULES,
        limits: AttemptLimits | None = None,
        owns_cluster: bool = False,
    ) -> None:
        self._cluster = cluster
        self._owns_cluster = owns_cluster
        self._share = share
        self._settings = WorkerSettings(
            slot=0,
            objective=objective,
            loader=loader,
            modules=tuple(modules),
            extra_path=tuple(search_path()),
            warm=parent.address if parent is not None else None,
            gpus=share.gpus,
            limits=limits or AttemptLimits(),
        )
        self._events: list[Event] = []
        self._is_closed = False
        self._started_at = time.monotonic()
        self._last_failure = ""
        self._workers = [self._create(slot) for slot in range(cluster.workers)]

    @classmethod
    def open(
        cls,
        objective: str,
        *,
        parent: WarmParent | None,
        workers: int | None = None,
        cpus_per_trial: float = 1.0,
        gpus_per_trial: float = 0.0,
        address: str | None = None,
        loader: str = LOADER,
        modules: Sequence[str] = WARM_MODULES,
        limits: AttemptLimits | None = None,
        logical_gpus: int | None = None,
    ) -> RayExecutor:
        """Start Ray here, or join the cluster at ``address``, and make the workers. Call from the main thread.

        Args:
            objective: Name of the objective, as the loader knows it.
            parent: The driver's warm parent, which workers on this host use too.
            workers: Trials side by side; None is as many as fit.
            cpus_per_trial: Logical CPUs of a trial.
            gpus_per_trial: GPUs of a trial; fractions share one.
            address: Cluster to join; None starts Ray here.
            loader: ``module:function`` that gives the objective of a name.
            modules: Modules the warm parents of other hosts import.
            limits: What each attempt may take.
            logical_gpus: GPUs to announce on a cluster started here; None counts them.

        Raises:
            ExecutionError: If Ray cannot be started or reached, or not one trial fits.
        """
        share = TrialShare(cpus=cpus_per_trial, gpus=gpus_per_trial)
        if address is None:
            cluster = start_cluster(share, workers=workers, logical_gpus=logical_gpus)
        else:
            cluster = join_cluster(address, share, workers=workers)
        try:
            return cls(
                cluster,
                share,
                objective,
                parent=parent,
                loader=loader,
                modules=modules,
                limits=limits,
                owns_cluster=True,
            )
        except (ExecutionError, RayError) as error:
            cluster.shutdown()
            raise ExecutionError(f"workers cannot be made: {error}") from error

    @property
    def slots(self) -> int:
        """How many attempts can run at once, once all workers are up."""
        return len(self._workers)

    @property
    def free_slots(self) -> int:
        """How many attempts could start now: workers that are up and idle.

        An executor that runs nothing has at least one: this waits, bounded, while no worker is up yet.

        Raises:
            ExecutionError: If no worker comes up.
        """
        while any(worker.ready is not None for worker in self._workers):
            nothing_is_up = all(worker.ready is not None for worker in self._workers)
            self._collect(_POLL_SECONDS if nothing_is_up else 0)
            self._give_up_the_silent()
            if not nothing_is_up:
                break
        return sum(worker.is_free for worker in self._workers)

    @property
    def worker_pids(self) -> Sequence[int]:
        """Process ids of the workers that are up, each on its own host."""
        return [worker.identity.pid for worker in self._workers if worker.identity is not None]

    def start(self, request: TrainRequest, log: Path) -> None:
        """Begin an attempt on a free slot.

        Raises:
            ExecutionError: If no slot is free.
        """
        if not self.free_slots:
            raise ExecutionError(f"all {self.slots} slots are taken; wait for an attempt to end")
        worker = next(worker for worker in self._workers if worker.is_free)
        worker.is_killed = False
        worker.attempt = (request.assignment.trial_number, request.assignment.attempt)
        self._watch(worker, worker.actor.begin.remote(request_to_json(request), str(log), _POLL_SECONDS))

    def wait(self, timeout_seconds: float) -> Sequence[Event]:
        """Events since the last call, in the order they came; empty after the timeout, or when a slot became free.

        Raises:
            ExecutionError: If no worker comes up, or no trial process can be forked at all.
        """
        deadline = time.monotonic() + timeout_seconds
        free = sum(worker.is_free for worker in self._workers)
        while not self._events and sum(worker.is_free for worker in self._workers) <= free:
            remaining = deadline - time.monotonic()
            self._collect(max(0.0, min(remaining, _POLL_SECONDS)))
            self._give_up_the_silent()
            if remaining <= 0:
                break
        found, self._events = self._events, []
        return found

    def decide(self, trial_number: int, attempt: int, decision: Decision) -> None:
        """Answer the report an attempt waits on; unknown attempts are ignored."""
        worker = self._running(trial_number, attempt)
        if worker is not None and worker.poll is None:
            self._watch(worker, worker.actor.poll.remote(decision, _POLL_SECONDS))

    def leave(self, trial_number: int, attempt: int) -> None:
        """Ask an attempt to commit a checkpoint at its next step and to end; unknown ones are ignored."""
        worker = self._running(trial_number, attempt)
        if worker is not None:
            worker.actor.leave.options(concurrency_group=CONTROL).remote(trial_number, attempt)

    def kill(self, trial_number: int, attempt: int) -> None:
        """End an attempt at once; an ``Ended(LOST)`` follows. Unknown ones are ignored."""
        worker = self._running(trial_number, attempt)
        if worker is None:
            return
        worker.is_killed = True
        worker.actor.kill.options(concurrency_group=CONTROL).remote(trial_number, attempt)
        if worker.poll is None:
            self._watch(worker, worker.actor.poll.remote(None, _POLL_SECONDS))

    def close(self) -> None:
        """Kill what still runs, bounded in time, then let go of Ray; idempotent. The warm parent stays."""
        if self._is_closed:
            return
        deadline = time.monotonic() + _CLOSE_SECONDS
        with contextlib.suppress(ExecutionError, RayError):
            for worker in self._workers:
                if worker.attempt is not None:
                    self.kill(*worker.attempt)
            while any(worker.attempt for worker in self._workers) and time.monotonic() < deadline:
                self._collect(0.1)
        self._is_closed = True
        for worker in self._workers:
            self._kill_actor(worker)
        self._workers = []
        if self._owns_cluster:
            self._cluster.shutdown()

    def _create(self, slot: int) -> _Worker:
        actor = TrialActor.options(num_cpus=self._share.cpus, num_gpus=self._share.gpus).remote(
            replace(self._settings, slot=slot)
        )
        return _Worker(
            slot=slot,
            actor=actor,
            ready=actor.identify.remote(),
            life=actor.live.options(concurrency_group=LIFE).remote(),
        )

    def _watch(self, worker: _Worker, poll: Any) -> None:
        worker.poll = poll
        worker.polled_at = time.monotonic()

    def _running(self, trial_number: int, attempt: int) -> _Worker | None:
        return next((w for w in self._workers if w.attempt == (trial_number, attempt)), None)

    def _collect(self, timeout_seconds: float) -> None:
        """Take in what the actors answered, waiting at most so long for the first answer."""
        while self._workers:
            asked = {}
            for worker in self._workers:
                for answer in (worker.ready, worker.poll, worker.life):
                    if answer is not None:
                        asked[answer] = worker
            ready, _ = ray.wait(list(asked), num_returns=1, timeout=timeout_seconds)
            if not ready:
                return
            self._take(asked[ready[0]], ready[0])
            timeout_seconds = 0

    def _take(self, worker: _Worker, answer: Any) -> None:
        try:
            value = ray.get(answer)
        except RayTaskError as error:
            if answer is worker.poll:
                worker.poll = worker.attempt = None
            raise ExecutionError(f"worker {worker.slot}: {error.cause or error}") from error
        except RayError as error:
            self._replace(worker, _first_line(error))
            return
        if answer is worker.ready:
            worker.ready, worker.identity, worker.failed_starts = None, value, 0
        elif answer is worker.poll:
            worker.poll = None
            self._events += value
            if any(isinstance(event, Ended) for event in value):
                worker.attempt = None
            elif worker.is_killed or not any(isinstance(event, Reported) for event in value):
                self._watch(worker, worker.actor.poll.remote(None, _POLL_SECONDS))

    def _replace(self, worker: _Worker, why: str) -> None:
        """Give up an actor: end it for certain, tell of its attempt's loss, put another in its place."""
        self._kill_actor(worker)
        if worker.attempt is not None:
            trial_number, attempt = worker.attempt
            detail = f"worker lost: {why}"
            self._events.append(Ended(trial_number=trial_number, attempt=attempt, end=AttemptEnd.LOST, detail=detail))
        failed_starts = worker.failed_starts + 1 if worker.ready is not None else 0
        self._last_failure = why
        place = self._workers.index(worker)
        if failed_starts >= _MAX_FAILED_STARTS:
            del self._workers[place]
            if not self._workers:
                raise ExecutionError(f"no worker can be started: {why}")
            return
        self._workers[place] = self._create(worker.slot)
        self._workers[place].failed_starts = failed_starts
        self._started_at = time.monotonic()

    def _give_up_the_silent(self) -> None:
        now = time.monotonic()
        for worker in list(self._workers):
            if worker.poll is not None and now - worker.polled_at > _POLL_SECONDS + _SILENCE_SECONDS:
                self._replace(worker, f"silent for {_SILENCE_SECONDS:.0f} s")
        if all(worker.ready is not None for worker in self._workers) and now - self._started_at > _START_SECONDS:
            raise ExecutionError(
                f"no worker came up within {_START_SECONDS:.0f} s: each needs {self._share.cpus:g} CPUs and "
                f"{self._share.gpus:g} GPUs, free on one node. {self._last_failure}".strip()
            )

    def _kill_actor(self, worker: _Worker) -> None:
        with contextlib.suppress(RayError, ValueError, RuntimeError):  # it is gone already, or Ray is
            ray.kill(worker.actor)


def _first_line(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0].strip() if lines else ''}"[:500]
