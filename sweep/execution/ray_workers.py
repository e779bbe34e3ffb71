"""Attempts on Ray actors, one for each worker slot; slots follow the nodes that come and go.

The driver keeps one call outstanding to each busy actor (a long poll) and, to every actor, one that never returns:
it fails the moment the actor dies. An actor that cannot be reached is killed before its attempt is given up; what it
says later all the same is passed on, for the engine to set aside.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import ActorUnavailableError, RayError, RayTaskError

from sweep.domain import AttemptEnd, Decision, TrainRequest
from sweep.errors import ExecutionError, NoWorkersError
from sweep.execution.farewell import Farewell
from sweep.execution.jobs import LOADER
from sweep.execution.ray_actor import WorkerSettings
from sweep.execution.ray_cluster import RayCluster, TrialShare, join_cluster, start_cluster
from sweep.execution.ray_nodes import Nodes
from sweep.execution.ray_slot import POLL_SECONDS, WorkerSlot, in_words
from sweep.execution.warm_client import WARM_MODULES, WarmParent, search_path
from sweep.ports import AttemptLimits, Ended, Event, Reported, Started

_SILENCE_SECONDS = 20.0
_EMBEDDED_PATIENCE_SECONDS = 120.0  # no node can join it
_TELL_SECONDS = 15.0
_CLOSE_SECONDS = 2.0
_SETTLE_SECONDS = 10.0
_MAX_FAILED_STARTS = 5
_MAX_FAULTS = 3
_LONGEST_PAUSE_SECONDS = 30.0


class RayExecutor:
    """Runs attempts on Ray actors; satisfies :class:`sweep.ports.Executor`.

    A slot counts as free once its actor is up; ``wait`` returns early, without events, when one becomes so. Attempts
    are never queued for an actor that may not come. A node that joins brings slots, one that goes takes them along;
    a trial on a node that is about to go is asked to leave it. While no node takes a trial, an actor stays asked for,
    so that a cluster that can grow sees what is wanted.

    Args:
        cluster: The cluster to run on.
        share: What one trial takes.
        objective: Name of the objective, as the loader knows it.
        parent: The driver's warm parent, which workers on this host use too; stays the caller's.
        loader: ``module:function`` that gives the objective of a name.
        modules: Modules the warm parents of other hosts import.
        limits: What each attempt may take.
        owns_cluster: Whether ``close`` shuts the cluster down.
        patience_seconds: Longest time without a worker, on a cluster that nodes can join.
        note: Takes a line for people while there is no worker.
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
        patience_seconds: float = 3600.0,
        note: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._cluster = cluster
        self._patience_seconds = patience_seconds
        self._note = note
        self._has_told = False
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
        self._closing = threading.Lock()
        self._nodes = Nodes(share)
        self._workers: list[WorkerSlot] = []
        self._farewells: list[Farewell] = []
        self._given_up: list[Any] = []
        self._last_failure = ""
        self._up_at = self._next_start_at = self._failed_start_at = time.monotonic()
        self._failed_starts = self._failed_waits = self._faults = 0
        self._has_run = False
        self._nodes.refresh()
        self._fill_slots()

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
        patience_seconds: float = 3600.0,
        note: Callable[[str], None] = lambda line: None,
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
            patience_seconds: Longest time without a worker, on a cluster that nodes can join.
            note: Takes a line for people while there is no worker.

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
                patience_seconds=patience_seconds,
                note=note,
            )
        except (ExecutionError, RayError) as error:
            cluster.shutdown()
            raise ExecutionError(f"workers cannot be made: {error}") from error

    @property
    def slots(self) -> int:
        """How many attempts can run at once, once all workers are up."""
        return min(sum(not worker.is_going for worker in self._workers), self._nodes.room)

    @property
    def free_slots(self) -> int:
        """How many attempts could start now: workers that were up and idle at the last ``wait``."""
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
        # As it was when the caller looked: a worker that has died since loses this attempt, and not the study.
        worker = next((worker for worker in self._workers if worker.is_free), None)
        if worker is None:
            raise ExecutionError(f"all {self.slots} slots are taken; wait for an attempt to end")
        worker.begin(request, log)

    def wait(self, timeout_seconds: float) -> Sequence[Event]:
        """Events since the last call, in the order they came; empty after the timeout, or when a slot became free.

        Raises:
            NoWorkersError: If no worker has come up for too long, or none can run a trial.
            ExecutionError: If Ray does not answer, or dies again and again.
        """
        deadline = time.monotonic() + timeout_seconds
        free = self.free_slots
        while not self._events and self.free_slots <= free:
            remaining = deadline - time.monotonic()
            self._turn(max(0.0, min(remaining, POLL_SECONDS)))
            if remaining <= 0:
                break
        found, self._events = self._events, []
        return found

    def decide(self, trial_number: int, attempt: int, decision: Decision) -> None:
        """Answer the report an attempt waits on; unknown attempts are ignored."""
        worker = self._running(trial_number, attempt)
        if worker is not None and worker.poll is None:
            worker.ask(decision)

    def leave(self, trial_number: int, attempt: int) -> None:
        """Ask an attempt to commit a checkpoint at its next step and to end; unknown ones are ignored."""
        worker = self._running(trial_number, attempt)
        if worker is not None:
            worker.leave()

    def kill(self, trial_number: int, attempt: int) -> None:
        """End an attempt at once; an ``Ended(LOST)`` follows. Unknown ones are ignored."""
        for farewell in self._farewells:
            if farewell.attempt == (trial_number, attempt):
                farewell.cut_short()
        worker = self._running(trial_number, attempt)
        if worker is not None:
            worker.kill_attempt()

    def settle(self) -> None:
        """Kill what still runs, bounded in time, and drop all that was said and all that may yet be said.

        Raises:
            ExecutionError: If Ray does not answer.
        """
        self._end_attempts(_SETTLE_SECONDS)
        for worker in [worker for worker in self._workers if worker.attempt is not None]:
            self._remove(worker)
        self._events, self._farewells, self._given_up = [], [], []

    def close(self) -> None:
        """Kill what still runs, bounded in time, then let go of Ray; idempotent. The warm parent stays.

        Any thread may call it, once nobody waits any more; a second one waits for the first.
        """
        with self._closing:
            if not self._is_closed:
                self._close()

    def _close(self) -> None:
        with contextlib.suppress(ExecutionError, RayError):
            self._end_attempts(_CLOSE_SECONDS)
        self._is_closed = True
        for worker in self._workers:
            worker.kill()
        self._workers, self._farewells, self._given_up = [], [], []
        if self._owns_cluster:
            self._cluster.shutdown()

    def _end_attempts(self, timeout_seconds: float) -> None:
        deadline = time.monotonic() + timeout_seconds
        for worker in self._workers:
            if worker.attempt is not None:
                self.kill(*worker.attempt)
        while any(worker.attempt for worker in self._workers) and time.monotonic() < deadline:
            self._collect(0.1)

    def _turn(self, timeout_seconds: float) -> None:
        """Take in what the actors answered, waiting at most so long for the first answer, and do what follows."""
        self._collect(timeout_seconds)
        self._give_up_the_silent()
        self._nodes.refresh()
        if self._nodes.are_gone and self._cluster.restart is not None:
            self._start_again(self._cluster.restart)
        self._leave_draining_nodes()
        self._end_farewells()
        self._fill_slots()
        self._bear_with_no_worker()

    def _bear_with_no_worker(self) -> None:
        """Wait for a first worker, or for another, for as long as is allowed, and say so."""
        now = time.monotonic()
        if self._farewells or any(worker.is_up or worker.attempt for worker in self._workers):
            self._up_at, self._has_told = now, False
            return
        is_embedded = self._cluster.restart is not None
        patience = min(self._patience_seconds, _EMBEDDED_PATIENCE_SECONDS) if is_embedded else self._patience_seconds
        allowed = f"{patience / 60:g} min" + ("" if is_embedded else " (limits.no_worker_minutes)")
        last = f"; last: {self._last_failure}" if self._last_failure else ""
        wanted = f"each needs {self._share.cpus:g} CPUs and {self._share.gpus:g} GPUs, free on one node{last}"
        if now - self._up_at > patience:
            raise NoWorkersError(
                f"no worker was up for {allowed}: {wanted}. Give the cluster such a node, or lower "
                "resources.cpus_per_trial or resources.gpus_per_trial"
            )
        if now - self._up_at > _TELL_SECONDS and not self._has_told:
            self._has_told = True
            self._note(f"no worker is up: {wanted}; the study waits up to {allowed}, then pauses")

    def _start_again(self, restart: Callable[[], RayCluster]) -> None:
        """The Ray that was started here has died: end what is left of it, and start another."""
        self._faults += 1
        if self._faults >= _MAX_FAULTS:
            raise ExecutionError(
                f"Ray died {self._faults} times, and no trial began in between: {self._last_failure}. "
                "Look for what ends its processes, such as too little memory, then `sweep resume`"
            )
        for worker in [worker for worker in self._workers if worker.attempt is not None]:
            self._lose(worker, "Ray died")
        self._workers, self._given_up = [], []
        self._cluster.shutdown()
        self._cluster = restart()
        self._nodes = Nodes(self._share)
        self._nodes.refresh()

    def _fill_slots(self) -> None:
        """Make the workers that are missing, and drop those that will not come since their room is gone."""
        # One is asked for even without room: a cluster grows only for what somebody waits for.
        wanted = max(1, self._nodes.room) if self._cluster.workers is None else self._cluster.workers
        staying = [worker for worker in self._workers if not worker.is_going]
        for worker in [worker for worker in staying if worker.ready is not None][: max(0, len(staying) - wanted)]:
            self._remove(worker)
        if time.monotonic() < self._next_start_at:
            return
        for _ in range(wanted - len(staying)):
            taken = {worker.number for worker in self._workers}
            number = next(number for number in range(len(taken) + 1) if number not in taken)
            settings = replace(self._settings, slot=number)
            self._workers.append(WorkerSlot.make(settings, self._share, self._nodes.avoided))
        self._workers.sort(key=lambda worker: worker.number)

    def _running(self, trial_number: int, attempt: int) -> WorkerSlot | None:
        return next((w for w in self._workers if w.attempt == (trial_number, attempt)), None)

    def _collect(self, timeout_seconds: float) -> None:
        while True:
            asked: dict[Any, WorkerSlot | None] = dict.fromkeys(self._given_up)
            for worker in self._workers:
                asked |= dict.fromkeys(worker.asked, worker)
            if not asked:
                time.sleep(timeout_seconds)
                return
            try:
                ready, _ = ray.wait(list(asked), num_returns=1, timeout=timeout_seconds)
                self._failed_waits = 0
            except RayError as error:
                self._failed_waits += 1
                if self._failed_waits >= _MAX_FAULTS:
                    raise ExecutionError(
                        f"Ray does not answer: {in_words(error)}. Once it does, `sweep resume` goes on"
                    ) from error
                ready = []
                time.sleep(timeout_seconds)
            if not ready:
                return
            owner = asked[ready[0]]
            if owner is None:
                self._take_late(ready[0])
            else:
                self._take(owner, ready[0])
            timeout_seconds = 0

    def _take(self, worker: WorkerSlot, answer: Any) -> None:
        try:
            value = ray.get(answer)
        except RayTaskError as error:
            self._take_fault(worker, error)
            return
        except RayError as error:
            if isinstance(error, ActorUnavailableError):
                self._suspect(worker.node_id)
            self._lose(worker, in_words(error))
            return
        if answer is worker.ready:
            worker.ready, worker.identity = None, value
            self._failed_starts = 0
        elif answer is worker.poll:
            worker.poll = None
            self._events += value.events
            if any(isinstance(event, Started) for event in value.events):
                self._has_run, self._faults = True, 0
            if value.is_going and not worker.is_going:
                worker.is_going = True
                self._suspect(worker.node_id)
            if any(isinstance(event, Ended) for event in value.events):
                worker.attempt = None
                if worker.is_going:
                    self._remove(worker)
            elif worker.is_killed or not any(isinstance(event, Reported) for event in value.events):
                worker.ask()

    def _take_late(self, answer: Any) -> None:
        """Pass on what an actor that was given up reports all the same."""
        self._given_up.remove(answer)
        with contextlib.suppress(RayError):
            self._events += [event for event in ray.get(answer).events if isinstance(event, Reported)]

    def _take_fault(self, worker: WorkerSlot, error: RayTaskError) -> None:
        """A worker could not do its part: its attempt goes elsewhere, unless nothing can be run at all."""
        why = f"worker {worker.number}: {error.cause or in_words(error)}"
        self._suspect(worker.node_id)
        if worker.node_id not in self._nodes.avoided:  # there is no other
            self._faults += 1
            if not self._has_run or self._faults >= _MAX_FAULTS:
                worker.poll = worker.attempt = None
                raise NoWorkersError(f"no trial process can be started: {why}. Mend that on the nodes") from error
        self._lose(worker, why, is_faulty=True)
        if worker.node_id in self._nodes.avoided:
            self._remove_idle(worker.node_id)

    def _lose(self, worker: WorkerSlot, why: str, *, is_faulty: bool = False) -> None:
        """Give up an actor: end it for certain, and tell of its attempt's loss; for its faults no trial answers."""
        self._remove(worker)
        self._last_failure = why
        if worker.attempt is not None:
            if self._nodes.left_in_order(worker.node_id):
                self._farewells.append(Farewell(worker.attempt, Path(worker.checkpoints)))
            else:
                key = {"trial_number": worker.attempt[0], "attempt": worker.attempt[1]}
                end = Ended(**key, end=AttemptEnd.LOST, detail=f"worker lost: {why}")
                self._events.append(replace(end, end=AttemptEnd.PREEMPTED) if is_faulty else end)
        if worker.ready is not None and worker.made_at > self._failed_start_at:  # those begun before fail as one
            self._bear_failed_start(why)

    def _bear_failed_start(self, why: str) -> None:
        """Let the next start wait, longer each time, unless none can be hoped for."""
        self._failed_starts += 1
        pause = 2.0 ** (self._failed_starts - 1) - 1
        self._failed_start_at = time.monotonic()
        self._next_start_at = self._failed_start_at + min(pause, _LONGEST_PAUSE_SECONDS)
        # Where trials have run before, it is a bad spell: another start may work.
        is_hopeless = not self._has_run and not any(other.is_up for other in self._workers)
        if is_hopeless and self._failed_starts >= _MAX_FAILED_STARTS:
            raise NoWorkersError(
                f"no worker can be started: {why}. Install the same packages on every node, or mend the node"
            )

    def _give_up_the_silent(self) -> None:
        now, limit = time.monotonic(), POLL_SECONDS + _SILENCE_SECONDS
        silent = [worker for worker in self._workers if worker.poll is not None and now - worker.polled_at > limit]
        for worker in silent:
            self._given_up.append(worker.poll)
            self._lose(worker, f"silent for {_SILENCE_SECONDS:.0f} s")
        for node_id in {worker.node_id for worker in silent}:
            neighbours = [worker for worker in self._workers if worker.node_id == node_id]
            if any(worker.poll is not None and now - worker.polled_at < limit / 2 for worker in neighbours):
                continue
            self._suspect(node_id)
            self._remove_idle(node_id)

    def _suspect(self, node_id: str) -> None:
        """Place workers elsewhere from now on, also those that may be waiting for this node."""
        if self._nodes.suspect(node_id):
            for worker in list(self._workers):
                if worker.ready is not None:
                    self._remove(worker)

    def _leave_draining_nodes(self) -> None:
        for worker in list(self._workers):
            if worker.node_id not in self._nodes.draining or worker.is_going:
                continue
            worker.is_going = True
            if worker.attempt is None:
                self._remove(worker)
            else:
                worker.leave()

    def _end_farewells(self) -> None:
        over = [farewell for farewell in self._farewells if farewell.is_over]
        self._farewells = [farewell for farewell in self._farewells if farewell not in over]
        self._events += [farewell.end for farewell in over]

    def _remove_idle(self, node_id: str) -> None:
        """Remove workers that would only be found out once they have cost an attempt."""
        for worker in [worker for worker in self._workers if worker.node_id == node_id and worker.attempt is None]:
            self._remove(worker)

    def _remove(self, worker: WorkerSlot) -> None:
        self._workers.remove(worker)
        worker.kill()
