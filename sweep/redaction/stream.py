"""What a process says, without the secrets it knows."""

from __future__ import annotations

import io
import re
import sys
import threading
from typing import Any, TextIO, cast

from sweep.redaction.patterns import KEY_BEGINS, KEY_ENDS
from sweep.redaction.redactor import Redactor

_LONGEST_WAIT = 1 << 16
_OF_A_KEY = re.compile(r"[A-Za-z0-9+/=]{0,80}|(?:Proc-Type|DEK-Info):.*")
"""Characters of a line that wait for its end."""


class LineRedactor:
    """Redacts a text that comes in pieces, whole lines at a time; a private key may stretch over many."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._rest = ""
        self._is_in_key = False

    def feed(self, text: str) -> str:
        """What may be shown by now; an unfinished line waits, unless it is very long."""
        whole, newline, self._rest = (self._rest + text).rpartition("\n")
        shown = self._shown(whole + newline)
        return shown + self.end() if len(self._rest) > _LONGEST_WAIT else shown

    def end(self) -> str:
        """What waits for the end of its line."""
        rest, self._rest = self._rest, ""
        return self._shown(rest)

    def _shown(self, text: str) -> str:
        if not self._is_in_key and "PRIVATE KEY" not in text:
            return self._redactor.text(text)
        return "".join(self._line(line) for line in text.splitlines(keepends=True))

    def _line(self, line: str) -> str:
        end = KEY_ENDS.search(line)
        if self._is_in_key and end is None and not _OF_A_KEY.fullmatch(line.strip()):
            # It was only spoken of: no key has such a line.
            self._is_in_key = False
        if self._is_in_key:
            self._is_in_key = end is None
            return "" if end is None else self._redactor.text(line[end.end() :])
        self._is_in_key = KEY_BEGINS.search(line) is not None and end is None
        return self._redactor.text(line.rstrip("\n")) + ("\n" if line.endswith("\n") else "")


class RedactedStream(io.TextIOBase):
    """Stands before another text stream and redacts each line that goes there. Thread-safe."""

    def __init__(self, stream: TextIO | io.TextIOBase, redactor: Redactor) -> None:
        """Redact from now on.

        Args:
            stream: Takes the lines.
            redactor: Knows what to strike out.
        """
        self._stream = stream
        self._lines = LineRedactor(redactor)
        self._lock = threading.RLock()

    def writable(self) -> bool:
        """Always."""
        return True

    def isatty(self) -> bool:
        """Whether a person reads it."""
        return self._stream.isatty()

    def fileno(self) -> int:
        """The descriptor behind it; what is written there directly is not redacted."""
        return self._stream.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """As of the stream behind it."""
        return self._stream.encoding

    @property
    def errors(self) -> str | None:  # type: ignore[override]
        """As of the stream behind it."""
        return self._stream.errors

    @property
    def buffer(self) -> Any:
        """Takes bytes, which are redacted as well."""
        return _Bytes(self)

    def write(self, text: str) -> int:
        """Write the lines that are whole; the rest waits for its end or for ``flush``."""
        with self._lock:
            self._put(self._lines.feed(text))
        return len(text)

    def flush(self) -> None:
        """Write what waits: a process may be about to end."""
        with self._lock:
            self._put(self._lines.end())
            self._stream.flush()

    def _put(self, text: str) -> None:
        if text:
            self._stream.write(text)
            self._stream.flush()


class _Bytes(io.RawIOBase):
    def __init__(self, stream: RedactedStream) -> None:
        self._stream = stream

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        content = bytes(data)
        self._stream.write(content.decode("utf-8", errors="backslashreplace"))
        return len(content)

    def flush(self) -> None:
        self._stream.flush()


def redact_streams(redactor: Redactor) -> None:
    """Stand before this process's standard output and error from now on."""
    sys.stdout = cast(TextIO, RedactedStream(sys.stdout, redactor))
    sys.stderr = cast(TextIO, RedactedStream(sys.stderr, redactor))
