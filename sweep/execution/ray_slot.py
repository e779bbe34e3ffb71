"""The driver's side of one worker slot: its Ray actor, what was asked of it, and what runs on it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError

from sweep.domain import Decision, TrainRequest
from sweep.execution.messages import request_to_json
from sweep.execution.ray_actor import CONTROL, LIFE, TrialActor, WorkerIdentity, WorkerSettings
from sweep.execution.ray_cluster import TrialShare

POLL_SECONDS = 1.0


@dataclass(slots=True, kw_only=True)
class WorkerSlot:
    """One slot.

    Attributes:
        number: Its number.
        made_at: Monotonic time Ray was asked for its actor.
        actor: Ray's handle.
        ready: Answered once the actor is there; None afterwards.
        life: Fails when the actor dies.
        poll: The outstanding long poll, if any.
        polled_at: Monotonic time it was sent.
        attempt: (trial_number, attempt) that runs on it.
        run: How many attempts have begun on it; names the newest one to the actor.
        checkpoints: The trial's folder of checkpoints.
        is_killed: Whether that was asked to be killed.
        is_going: Whether it takes no more attempts.
        identity: Who answered.
    """

    number: int
    made_at: float
    actor: Any
    ready: Any
    life: Any
    poll: Any = None
    polled_at: float = 0.0
    attempt: tuple[int, int] | None = None
    run: int = 0
    checkpoints: str = ""
    is_killed: bool = False
    is_going: bool = False
    identity: WorkerIdentity | None = None

    @classmethod
    def make(cls, settings: WorkerSettings, share: TrialShare, avoided: Iterable[str]) -> WorkerSlot:
        """Have Ray make the actor of a slot, on none of the avoided nodes."""
        nodes = ",".join(sorted(avoided))
        actor = TrialActor.options(
            num_cpus=share.cpus,
            num_gpus=share.gpus,
            label_selector={"ray.io/node-id": f"!in({nodes})"} if nodes else None,
        ).remote(settings)
        return cls(
            number=settings.slot,
            made_at=time.monotonic(),
            actor=actor,
            ready=actor.identify.remote(),
            life=actor.live.options(concurrency_group=LIFE).remote(),
        )

    @property
    def is_up(self) -> bool:
        """Whether the actor is there, and will stay."""
        return self.ready is None and not self.is_going

    @property
    def is_free(self) -> bool:
        """Whether it could begin an attempt now."""
        return self.is_up and self.attempt is None

    @property
    def node_id(self) -> str:
        """Ray's id of its node; empty before the actor is there."""
        return self.identity.node_id if self.identity is not None else ""

    @property
    def asked(self) -> list[Any]:
        """All that is to be answered."""
        return [answer for answer in (self.ready, self.poll, self.life) if answer is not None]

    def begin(self, request: TrainRequest, log: Path) -> None:
        """Have it begin an attempt, and ask how that goes."""
        self.is_killed = False
        self.run += 1
        self.attempt = (request.assignment.trial_number, request.assignment.attempt)
        self.checkpoints = request.checkpoints
        self._watch(self.actor.begin.remote(request_to_json(request), str(log), POLL_SECONDS, self.run))

    def ask(self, decision: Decision | None = None) -> None:
        """Pass on a decision, if there is one, and ask what happens."""
        self._watch(self.actor.poll.remote(decision, POLL_SECONDS))

    def leave(self) -> None:
        """Have its attempt asked to leave."""
        if self.attempt is not None:
            self.actor.leave.options(concurrency_group=CONTROL).remote(self.run)

    def kill_attempt(self) -> None:
        """Have its attempt killed; its end comes as an answer."""
        if self.attempt is not None:
            self.is_killed = True
            self.actor.kill.options(concurrency_group=CONTROL).remote(self.run)
            if self.poll is None:
                self.ask()

    def kill(self) -> None:
        """End the actor, and all below it, for certain."""
        with contextlib.suppress(RayError, ValueError, RuntimeError):  # it is gone already, or Ray is
            ray.kill(self.actor)

    def _watch(self, poll: Any) -> None:
        self.poll = poll
        self.polled_at = time.monotonic()


def in_words(error: BaseException) -> str:
    """Ray's message without its middle: what happened to the call is in its first line, and why in its last."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {' … '.join(dict.fromkeys([*lines[:1], *lines[-1:]]))}"[:500]
