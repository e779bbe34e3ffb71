"""What every thread of a trial process is doing, told by the process itself even while a C call holds the GIL.

The process registers a signal that Python's ``faulthandler`` answers in C, writing into a file that lives in memory
alone; who watches over it sends the signal and reads that file through ``/proc``.
"""

from __future__ import annotations

import faulthandler
import os
import re
import signal
import time
from pathlib import Path

STACKS_SIGNAL = signal.SIGUSR2
_PATIENCE_SECONDS = 5.0
_PAUSE_SECONDS = 0.2
_FRAME = re.compile(r'  File "(?P<file>.*)", line (?P<line>\d+|\?\?\?) in (?P<function>.*)')


def offer_stacks() -> int | None:
    """Make this process answer the signal; returns the descriptor it writes to, or None where there is none."""
    if not hasattr(os, "memfd_create"):
        return None
    descriptor = os.memfd_create("stacks")
    faulthandler.register(STACKS_SIGNAL, file=descriptor, all_threads=True)
    return descriptor


class StackDump:
    """The stacks of a process that was asked for them, on their way to a file.

    Args:
        pid: The process.
        descriptor: What it said it writes to, if it said so.
        reason: Why it was asked.
    """

    def __init__(self, pid: int | None, descriptor: int | None, reason: str) -> None:
        self._process = Path(f"/proc/{pid}")
        self._descriptor = descriptor
        self._reason = reason
        self._text = ""
        self._asked_at = self._grown_at = time.monotonic()

    def is_complete(self) -> bool:
        """Whether the dump has come and grows no more, or will not come."""
        now = time.monotonic()
        if self._descriptor is None or self._is_stopped() or now - self._asked_at > _PATIENCE_SECONDS:
            return True
        text = self._read()
        if text != self._text:
            self._text, self._grown_at = text, now
        return bool(text) and now - self._grown_at > _PAUSE_SECONDS

    def keep(self, target: Path) -> str:
        """Write what has come into a file; returns the reason with the main thread's stack as its end."""
        if not self._text:
            why = "it is stopped by a signal" if self._is_stopped() else "it does not answer"
            return f"{self._reason}. Its stacks cannot be told: {why}."
        kept = f"All its stacks are in {target}."
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(self._text, encoding="utf-8")
        except OSError as error:
            kept = f"Its stacks cannot be written: {error}."
        return f"{self._reason}. {kept} The main thread's, innermost call last:\n{_main_stack(self._text)}"

    def _read(self) -> str:
        try:
            return (self._process / "fd" / str(self._descriptor)).read_text(encoding="utf-8", errors="replace")
        except OSError:  # it is gone
            return self._text

    def _is_stopped(self) -> bool:
        try:
            return (self._process / "stat").read_text().rpartition(")")[2].split()[0] in {"T", "t"}
        except OSError:
            return False


def _main_stack(stacks: str) -> str:
    """The main thread's stack as a traceback shows it, the innermost call last."""
    threads = [part for part in re.split(r"(?m)^(?=(?:Current thread|Thread) )", stacks) if part.strip()]
    # The interpreter lists its threads from the newest to the oldest.
    frames = [match for line in (threads or [""])[-1].splitlines() if (match := _FRAME.fullmatch(line))]
    return "\n".join(f'  File "{f["file"]}", line {f["line"]}, in {f["function"]}' for f in reversed(frames))
