"""Every process of one storm, found by a mark in its environment, wherever it was reparented to."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import psutil

MARK = "SWEEP_STORM"


@dataclass(frozen=True)
class Family:
    """The processes that bear a storm's mark.

    Attributes:
        mark: Value of the environment variable ``SWEEP_STORM``.
    """

    mark: str

    def all(self) -> list[psutil.Process]:
        """All that live, without zombies, by pid."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get(MARK) == self.mark and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return sorted(found, key=lambda process: process.pid)

    def warm_parents(self) -> list[psutil.Process]:
        """Fork servers."""
        return [process for process in self._having("warm_parent.py") if not self._is_forked(process)]

    def trials(self) -> list[psutil.Process]:
        """Processes that train: forked by a warm parent, they bear its command line."""
        return [process for process in self._having("warm_parent.py") if self._is_forked(process)]

    def workers(self) -> list[psutil.Process]:
        """Ray actors."""
        return self._having("ray::TrialWorker")

    def writers(self) -> list[psutil.Process]:
        """Processes that deliver to MLflow."""
        return self._having("sweep.tracking.writer")

    def _having(self, word: str) -> list[psutil.Process]:
        found = []
        for process in self.all():
            with contextlib.suppress(psutil.Error):
                if word in " ".join(process.cmdline()):
                    found.append(process)
        return found

    def _is_forked(self, process: psutil.Process) -> bool:
        with contextlib.suppress(psutil.Error):
            parent = process.parent()
            return parent is not None and parent.cmdline() == process.cmdline()
        return False
