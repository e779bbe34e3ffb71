"""A seeded adversary: what it does to a running study, and when."""

from __future__ import annotations

import contextlib
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.mlflow_server import MlflowServer
from tests.small_disk import SmallDisk
from tests.storm.family import Family


@dataclass
class Adversary:
    """Does one bad thing after another until its time is up.

    Attributes:
        seed: Of its choices; the same seed plans the same faults in the same order.
        seconds: How long it goes on.
        family: Whom it attacks.
        storage: The study's storage root.
        server: The MLflow server.
        disk: The storage's disk, if it may fill it.
        say: Takes one line for each deed.
        done: Deeds by kind.
    """

    seed: int
    seconds: float
    family: Family
    storage: Path
    server: MlflowServer
    disk: SmallDisk | None
    say: Callable[[str], None]
    done: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._began = time.monotonic()
        self._next_at = self._began + 1.0
        self._later: list[tuple[float, Callable[[], None]]] = []
        # Costly faults are rarer; a bag, so that each kind comes in every storm that is long enough.
        bag = [self.kill_trial] * 5 + [self.kill_worker] * 3 + [self.terminate_trial] * 3 + [self.freeze] * 3
        bag += [self.corrupt_checkpoint] * 4 + [self.kill_server] * 2 + [self.kill_writer] * 2
        bag += [self.kill_warm_parent, self.kill_driver, self.interrupt_driver, self.terminate_driver]
        bag += [self.fill_disk] * (2 if self.disk else 0)
        self._bag = bag
        self._waiting: list[Callable[[], bool]] = []

    @property
    def is_full(self) -> bool:
        """Whether the storage's disk is full of ballast now."""
        return self.disk is not None and self.disk.is_full

    def act(self, driver: int | None) -> None:
        """Do what is due now.

        Args:
            driver: Process id of the driver, if one runs.
        """
        self._driver = driver
        now = time.monotonic()
        for due in [entry for entry in self._later if entry[0] <= now]:
            self._later.remove(due)
            due[1]()
        if now < self._next_at or now - self._began > self.seconds:
            return
        if not self._waiting:
            self._waiting = self._random.sample(self._bag, len(self._bag))
        deed = self._waiting.pop()
        self._next_at = now + self._random.uniform(0.2, 2.0)
        if deed():
            self.done[deed.__name__] += 1
            self.say(deed.__name__.replace("_", " "))

    def release(self) -> None:
        """Undo now what was to be undone later."""
        for _, undo in self._later:
            undo()
        self._later.clear()

    def kill_trial(self) -> bool:
        """SIGKILL a process that trains."""
        return self._signal(self.family.trials(), signal.SIGKILL)

    def terminate_trial(self) -> bool:
        """SIGTERM a process that trains, as before a preemption."""
        return self._signal(self.family.trials(), signal.SIGTERM)

    def kill_worker(self) -> bool:
        """SIGKILL a Ray actor."""
        return self._signal(self.family.workers(), signal.SIGKILL)

    def kill_warm_parent(self) -> bool:
        """SIGKILL the fork server, and with it all that train."""
        return self._signal(self.family.warm_parents(), signal.SIGKILL)

    def kill_writer(self) -> bool:
        """SIGKILL the process that delivers to MLflow."""
        return self._signal(self.family.writers(), signal.SIGKILL)

    def kill_driver(self) -> bool:
        """SIGKILL the driver; it is resumed."""
        return self._send(self._driver, signal.SIGKILL)

    def terminate_driver(self) -> bool:
        """SIGTERM, as a scheduler sends it; it drains, and is resumed."""
        return self._send(self._driver, signal.SIGTERM)

    def interrupt_driver(self) -> bool:
        """Ctrl-C; it drains, and is resumed."""
        # Within its imports Python itself would end it, with a traceback that is none of ours.
        return bool(self.family.warm_parents()) and self._send(self._driver, signal.SIGINT)

    def freeze(self) -> bool:
        """SIGSTOP anybody for some seconds, past the deadline at times, then SIGCONT."""
        candidates = self.family.trials() + self.family.workers() + self.family.writers()
        if not candidates:
            return False
        victim = self._random.choice(candidates)
        if not self._send(victim.pid, signal.SIGSTOP):
            return False
        self._after(self._random.uniform(0.5, 12.0), lambda: self._send(victim.pid, signal.SIGCONT))
        return True

    def kill_server(self) -> bool:
        """SIGKILL MLflow; it comes back some seconds later."""
        self.server.kill()
        self._after(self._random.uniform(0.5, 8.0), self.server.launch)
        return True

    def corrupt_checkpoint(self) -> bool:
        """Truncate or alter a file of the resumable checkpoint written last."""
        folders = [f.parent for f in self.storage.glob("studies/*/checkpoints/trial-*/step-*/state")]
        with contextlib.suppress(OSError):  # it may vanish meanwhile
            newest = max(folders, key=lambda folder: folder.stat().st_mtime, default=None)
            files = sorted(p for p in newest.rglob("*") if p.is_file()) if newest else []
            if newest and files:
                victim = self._random.choice(files)
                whole = victim.read_bytes()
                content = bytearray(whole)
                if content and self._random.random() < 0.5:
                    content[self._random.randrange(len(content))] ^= 0xFF
                else:
                    content = content[: len(content) // 2]
                victim.write_bytes(content)
                if not (newest / "state").exists():
                    # Its trial has just ended, and was looked through already: nobody trains that again.
                    victim.write_bytes(whole)
                    return False
                return True
        return False

    def fill_disk(self) -> bool:
        """Fill the storage's disk to the last byte for some seconds."""
        if self.disk is None:
            return False
        self.disk.fill()
        self._after(self._random.uniform(1.0, 6.0), self.disk.empty)
        return True

    def _after(self, seconds: float, undo: Callable[[], object]) -> None:
        self._later.append((time.monotonic() + seconds, lambda: (undo(), None)[1]))

    def _signal(self, candidates: list[psutil.Process], number: int) -> bool:
        return bool(candidates) and self._send(self._random.choice(candidates).pid, number)

    def _send(self, pid: int | None, number: int) -> bool:
        if pid is None:
            return False
        with contextlib.suppress(psutil.Error):
            psutil.Process(pid).send_signal(number)  # which sees to it that the pid was not given away
            return True
        return False
