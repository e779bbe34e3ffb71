"""A process forked by a warm parent, as seen from outside."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Mapping
from typing import Any

from sweep.errors import ExecutionError
from sweep.execution.channel import MessageChannel

_REAP_SECONDS = 5.0


class TrialProcess:
    """A process forked by a warm parent, with a socket for messages to and from it.

    Nothing here waits unless it says so: the process may still be waiting for its parent to warm up.
    """

    def __init__(self, status: MessageChannel, messages: MessageChannel, last_words: Callable[[], str]) -> None:
        self._status = status
        self._last_words = last_words
        self.messages = messages
        self.pid: int | None = None
        self.exit_code: int | None = None
        self._lost_parent: str | None = None

    def filenos(self) -> tuple[int, ...]:
        """Descriptors to select on: news of the process, and its messages while they can come."""
        if self.messages.at_end:
            return (self._status.fileno(),)
        return (self._status.fileno(), self.messages.fileno())

    def send(self, message: Mapping[str, Any]) -> None:
        """Send it a message.

        Raises:
            ExecutionError: If it is gone.
        """
        self.messages.send(message)

    def poll(self) -> bool:
        """Whether it has ended; learns its pid and exit code.

        Raises:
            ExecutionError: If the warm parent could not make it.
        """
        if not self.has_ended:
            for answer in self._status.drain():
                if "error" in answer:
                    self.close()
                    raise ExecutionError(f"no trial process: {answer['error']}")
                self.pid = answer.get("pid", self.pid)
                self.exit_code = answer.get("exit", self.exit_code)
            if self._status.at_end and self.exit_code is None:
                self._lose_parent()
        return self.has_ended

    @property
    def has_ended(self) -> bool:
        """Whether it is known to be gone."""
        return self.exit_code is not None or self._lost_parent is not None

    @property
    def was_killed(self) -> bool:
        """Whether it ended by a signal, or with its warm parent."""
        return self._lost_parent is not None or (self.exit_code is not None and self.exit_code < 0)

    @property
    def ending(self) -> str:
        """How it ended, in words."""
        if self._lost_parent is not None:
            return self._lost_parent
        if self.exit_code is None:
            return "trial process still running"
        if self.exit_code < 0:
            return f"trial process killed by signal {-self.exit_code}"
        return f"trial process exited with code {self.exit_code}"

    def wait(self, timeout_seconds: float) -> bool:
        """Wait for its end; returns whether it came."""
        deadline = time.monotonic() + timeout_seconds
        while not self.poll():
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                return False
            self._status.wait_readable(remaining)
        return True

    def signal(self, number: int) -> None:
        """Have a signal sent to it alone, even if it is yet to be made; one that is gone stays so."""
        if not self.has_ended:
            with contextlib.suppress(ExecutionError):  # a dead warm parent's children die by themselves
                self._status.send({"signal": number})

    def begin_kill(self) -> None:
        """Have it killed, with its whole process group; ``poll`` tells when it is gone."""
        if not self.has_ended:
            with contextlib.suppress(ExecutionError):  # a dead warm parent's children die by themselves
                self._status.send({"kill": True})

    def kill(self) -> None:
        """Kill it with its whole process group, and wait until it is gone."""
        self.begin_kill()
        with contextlib.suppress(ExecutionError):  # it was never made
            self.wait(_REAP_SECONDS)
        self.close()

    def close(self) -> None:
        """Let go of it; it is killed if it still runs. Idempotent."""
        self._status.close()
        self.messages.close()

    def _lose_parent(self) -> None:
        self._lost_parent = f"trial process lost: the warm parent it came from died. {self._last_words()}".strip()
        if self.pid is not None:  # the kernel kills the leader; this ends what it started
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
