"""A trial on several devices: the port between who starts its processes and the objective that trains in them."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from sweep.domain import TrainRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class Team:
    """One of the processes that train an attempt together, all on one host; rank 0 leads.

    It alone evaluates, commits, reports and hears decisions. The others are forked from it before it has loaded
    anything; they end with it, and it with any of them.

    Attributes:
        rank: This process's number.
        size: How many there are; at least 2.
        meeting: An empty file in memory, which each of them can open by this path, to find each other by.
        links: Of rank 0, a stream socket to each of the others, in order; of another, the one to rank 0. It is at its
            end once the other process is gone.
        patience_seconds: Longest wait for another process that owes something.
    """

    rank: int
    size: int
    meeting: str
    links: Sequence[socket.socket]
    patience_seconds: float


@runtime_checkable
class TeamObjective(Protocol):
    """What an objective adds so that several processes, each with a device of its own, can train one trial.

    Attributes:
        team: Set by whoever runs it, where there are several processes.
    """

    team: Team | None

    def follow(self, request: TrainRequest) -> None:
        """Take part in the training that rank 0 does by ``train``, and return once that is over.

        Its ``train`` has the others return before it does, however it ends.

        Raises:
            PeerLostError: If another process is gone or does not answer.
        """
        ...


class PeerLostError(Exception):
    """Raised by a process of a team when another is gone, or does not answer in time: the attempt is lost."""
