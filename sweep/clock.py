"""The real clock."""

from __future__ import annotations

import time


class SystemClock:
    """Time as the machine tells it."""

    def now(self) -> float:
        """Unix seconds."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds that never go back."""
        return time.monotonic()
