"""Messages between a trial process and its supervisor: JSON values, one a line, over a socket."""

from __future__ import annotations

import json
import select
import socket
import threading
from collections import deque
from collections.abc import Mapping
from typing import Any

from sweep.errors import ExecutionError

MAX_MESSAGE_BYTES = 16 * 2**20
_CHUNK_BYTES = 2**18
_REMEDY = "Have the objective leave its inherited sockets alone"


class MessageChannel:
    """One end of a socket pair that carries JSON objects, in order.

    Sending is safe from several threads; receiving belongs to one.

    Args:
        connection: A connected stream socket; the channel owns it from here on.

    Attributes:
        is_broken: Whether sending failed because the other side is gone.
    """

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(True)
        self._connection = connection
        self._unread = bytearray()
        self._messages: deque[dict[str, Any]] = deque()
        self._at_end = False
        self.is_broken = False
        self._sending = threading.Lock()

    @property
    def at_end(self) -> bool:
        """Whether the other side is gone and all it said has been received."""
        return self._at_end and not self._messages

    def fileno(self) -> int:
        """Descriptor to select on; readable when something, or the end, has come."""
        return self._connection.fileno()

    def send(self, message: Mapping[str, Any]) -> None:
        """Send one message.

        Raises:
            ExecutionError: If the other side is gone.
        """
        try:
            line = json.dumps(message).encode() + b"\n"
        except (TypeError, ValueError) as error:
            raise ExecutionError(
                f"a message to or from a trial process is not JSON-able: {error}. "
                "Return plain numbers, text, lists and dicts"
            ) from error
        if len(line) > MAX_MESSAGE_BYTES:
            raise ExecutionError(
                f"message of {len(line)} bytes to or from a trial process: at most {MAX_MESSAGE_BYTES} fit; "
                "write large results to a file"
            )
        with self._sending:
            try:
                self._connection.sendall(line)
            except OSError as error:
                self.is_broken = True
                raise ExecutionError(f"the other end of a trial process's socket is gone: {error}") from error

    def receive(self, timeout_seconds: float | None = None) -> dict[str, Any] | None:
        """The next message; None when the other side is gone, or after the timeout.

        Raises:
            ExecutionError: If what came is not a message.
        """
        while not self._messages and not self._at_end:
            if timeout_seconds is not None and not self.wait_readable(timeout_seconds):
                return None
            self._read()
        return self._messages.popleft() if self._messages else None

    def drain(self) -> list[dict[str, Any]]:
        """All messages that have come so far, without waiting.

        Raises:
            ExecutionError: If what came is not a message.
        """
        while not self._at_end and self.wait_readable(0):
            self._read()
        messages = list(self._messages)
        self._messages.clear()
        return messages

    def close(self) -> None:
        """Hang up; idempotent."""
        self._connection.close()
        self._at_end = True

    def wait_readable(self, timeout_seconds: float) -> bool:
        """Whether something, or the end, comes within the timeout."""
        poll = select.poll()  # select() refuses descriptors above 1023
        poll.register(self._connection, select.POLLIN)
        return bool(poll.poll(timeout_seconds * 1000))

    def _read(self) -> None:
        try:
            data = self._connection.recv(_CHUNK_BYTES)
        except OSError:  # reset: the other side died with words of ours unread
            data = b""
        if not data:
            self._at_end = True
            return
        self._unread += data
        if b"\n" in data:
            *lines, rest = self._unread.split(b"\n")
            self._unread = bytearray(rest)
            for line in lines:
                self._messages.append(_parsed(bytes(line)))
        elif len(self._unread) > MAX_MESSAGE_BYTES:
            raise ExecutionError(
                f"a message of a trial process exceeds {MAX_MESSAGE_BYTES} bytes. Write large results to a file"
            )


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        message = json.loads(line)
    except ValueError as error:
        raise ExecutionError(f"a trial process sent {line[:80]!r}, which is not JSON. {_REMEDY}") from error
    if not isinstance(message, dict):
        raise ExecutionError(f"a trial process sent {line[:80]!r}, which is not a JSON object. {_REMEDY}")
    return message
