"""The further processes of an attempt that trains on several devices: forked from the trial process, ended with it.

The trial process is rank 0. A thread of it watches the others: one that dies, or says what went wrong, ends the
attempt, whatever the trial process itself waits for just then. Needs Linux: a rank must not outlive rank 0.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import logging
import os
import select
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from sweep.domain import AttemptEnd
from sweep.errors import UserError
from sweep.execution.memory import kernel_kills
from sweep.teams import Team

Ending = tuple[AttemptEnd, str | None]
"""How an attempt ends, and why."""

_BROKEN = frozenset({AttemptEnd.LOST, AttemptEnd.OOM, AttemptEnd.FAILED, AttemptEnd.DISK_FULL})
_PR_SET_PDEATHSIG = 1
_LEADER_SECONDS = 3.0
"""What rank 0 has to say what it has met itself, once another rank is gone."""

_EXIT_SECONDS = 5.0
_GONE = 1
_WORDS_CHARACTERS = 16_000
_WORDS_BYTES = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rank:
    """A process of the team, as rank 0 sees it.

    Attributes:
        handle: Its pidfd; readable once it has ended.
        words: What it says before it ends, if something went wrong.
    """

    number: int
    pid: int
    handle: int
    words: socket.socket


class Ranks:
    """The ranks from 1 on, from their fork to their end; made by :meth:`fork`.

    Attributes:
        team: What rank 0 needs to know of them.
    """

    def __init__(self, ranks: list[_Rank], team: Team, end_attempt: Callable[[Ending], None]) -> None:
        self.team = team
        self._ranks = ranks
        self._end_attempt = end_attempt
        self._kernel_kills = kernel_kills()
        self._found: Ending | None = None
        self._has_found = threading.Event()
        self._is_over = threading.Event()
        self._has_begun = False
        self._watcher = threading.Thread(target=self._watch, daemon=True, name="ranks")
        self._watcher.start()

    @classmethod
    def fork(
        cls,
        size: int,
        patience_seconds: float,
        follow: Callable[[Team], Ending | None],
        end_attempt: Callable[[Ending], None],
    ) -> Ranks:
        """Fork the ranks from this process, which must have one thread.

        Args:
            size: Processes in all; at least 2.
            patience_seconds: Longest wait of one for another.
            follow: What each rank runs, and what it returns or says of its end; None if all is well.
            end_attempt: Tells the supervisor of the end when this process can do no more.

        Raises:
            UserError: If this is not Linux.
            OSError: If a process cannot be made.
        """
        if sys.platform != "linux":
            raise UserError("resources.devices_per_trial: several devices need Linux. Set it to 1.")
        meeting = f"/proc/self/fd/{os.memfd_create('meeting')}"
        links = [socket.socketpair() for _ in range(1, size)]
        words = [socket.socketpair() for _ in range(1, size)]
        leader, ranks = os.getpid(), []
        try:
            for number in range(1, size):
                pid = os.fork()
                if pid == 0:
                    (_, link), (_, voice) = links[number - 1], words[number - 1]
                    for pair in (*links, *words):
                        for end in pair:
                            if end not in (link, voice):
                                end.close()
                    team = Team(
                        rank=number, size=size, meeting=meeting, links=(link,), patience_seconds=patience_seconds
                    )
                    _become_rank(leader, team, voice, follow)
                ranks.append(_Rank(number=number, pid=pid, handle=os.pidfd_open(pid), words=words[number - 1][0]))
        except OSError:
            for rank in ranks:
                os.kill(rank.pid, signal.SIGKILL)
            raise
        for _, theirs in (*links, *words):
            theirs.close()
        own = [ours for ours, _ in links]
        team = Team(rank=0, size=size, meeting=meeting, links=own, patience_seconds=patience_seconds)
        return cls(ranks, team, end_attempt)

    def begin(self) -> None:
        """Say that rank 0 begins to train: from here on it has the others end."""
        self._has_begun = True

    def end(self, ending: Ending) -> Ending:
        """End what is left of them, bounded in time; returns how the attempt ends, given what rank 0 has met."""
        if ending[0] is AttemptEnd.LOST:  # who has lost whom is seen from here
            self._has_found.wait(_LEADER_SECONDS)
            ending = self._found or ending
        self._is_over.set()
        if ending[0] in _BROKEN or not self._has_begun:  # the others may wait for rank 0 in the midst of something
            self._killed()
        else:
            self._watcher.join(_EXIT_SECONDS)
            for rank in self._killed():
                logging.getLogger("sweep.trial").info("rank %s did not end by itself and was killed", rank.number)
        self._watcher.join(_EXIT_SECONDS)
        return ending

    def _watch(self) -> None:
        """Wait for the ranks to end; end the attempt with the first that does not end well."""
        poll = select.poll()
        running = {rank.handle: rank for rank in self._ranks}
        for handle in running:
            poll.register(handle, select.POLLIN)
        while running:
            for handle, _ in poll.poll():
                poll.unregister(handle)
                ending = self._ending_of(running.pop(handle))
                if ending is not None and self._found is None and not self._is_over.is_set():
                    self._found = ending
                    self._has_found.set()
                    if not self._is_over.wait(_LEADER_SECONDS):
                        self._end_attempt(ending)
                        self._killed()
                        os._exit(_GONE)

    def _ending_of(self, rank: _Rank) -> Ending | None:
        """What a rank that is gone has said, or what is seen of its end; None if it ended well."""
        ended = os.waitid(os.P_PIDFD, rank.handle, os.WEXITED)
        words = b""
        with contextlib.suppress(BlockingIOError):  # what it has started may hold the other end still
            words = rank.words.recv(_WORDS_BYTES, socket.MSG_DONTWAIT)
        if words:
            end, detail = json.loads(words)
            return AttemptEnd(end), detail
        if ended is None or (ended.si_code == os.CLD_EXITED and ended.si_status == 0):
            return None
        name = f"rank {rank.number} of {self.team.size} (process {rank.pid})"
        if ended.si_code == os.CLD_EXITED:
            return AttemptEnd.LOST, f"{name} exited with code {ended.si_status}"
        if ended.si_status == signal.SIGKILL and kernel_kills() > self._kernel_kills:
            return AttemptEnd.OOM, f"{name} was killed by the kernel, for want of host memory"
        return AttemptEnd.LOST, f"{name} was killed by signal {ended.si_status}"

    def _killed(self) -> list[_Rank]:
        """Kill those that are still there, and tell which."""
        killed = []
        for rank in self._ranks:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(rank.handle, signal.SIGKILL)
                killed.append(rank)
        return killed


def _become_rank(leader: int, team: Team, voice: socket.socket, follow: Callable[[Team], Ending | None]) -> NoReturn:
    code = _GONE
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != leader:  # it died before the line above
            os._exit(_GONE)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # rank 0 heeds it for all
        ending = follow(team)
        if ending is None:
            code = 0
        else:
            end, detail = ending
            # All of it must fit into the socket: nobody reads before this process is gone.
            voice.sendall(json.dumps([end, detail and detail[-_WORDS_CHARACTERS:]]).encode())
    except BaseException:  # noqa: BLE001  # a rank must never fall back into the trial's own code
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError, ValueError):  # a full disk, or a stream the objective closed
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)
