"""What a process says, without the passwords it knows."""

from __future__ import annotations

import io
import threading
from typing import Protocol

from sweep.redaction import redacted


class Sink(Protocol):
    """What takes the lines."""

    def write(self, text: str, /) -> int:
        """Take a text."""
        ...

    def flush(self) -> None:
        """Let nothing wait."""
        ...


class RedactedStream(io.TextIOBase):
    """Stands before another text stream and redacts each line that goes there. Thread-safe."""

    def __init__(self, stream: Sink, url: str) -> None:
        """Redact from now on.

        Args:
            stream: Takes the lines.
            url: Its password is struck out even outside a URL.
        """
        self._stream = stream
        self._url = url
        self._rest = ""
        self._lock = threading.Lock()

    def writable(self) -> bool:
        """Always."""
        return True

    def write(self, text: str) -> int:
        """Write the lines that are whole; the rest waits for its end or for ``flush``."""
        with self._lock:
            *lines, self._rest = (self._rest + text).split("\n")
            if lines:
                self._put("\n".join(lines) + "\n")
        return len(text)

    def flush(self) -> None:
        """Write what waits: a process may be about to end."""
        with self._lock:
            rest, self._rest = self._rest, ""
            self._put(rest)

    def _put(self, text: str) -> None:
        self._stream.write("".join(redacted(line, self._url) for line in text.splitlines(keepends=True)))
        self._stream.flush()
