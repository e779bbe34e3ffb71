"""A seeded adversary: what it does to a running study, and when.

What a seed reproduces: which deeds come, in which order, how long it waits after each, and how each chooses (the
same share of a list of victims, the same length of a freeze). What it does not: the moments at which the study is hit,
and so who the victims are; those depend on the machine. A deed that finds no victim is tried for some seconds, and
once more after the next one that succeeds, if its kind was never done; the deeds after it stay the same.
"""

from __future__ import annotations

import contextlib
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import psutil

from tests.mlflow_server import MlflowServer
from tests.small_disk import SmallDisk
from tests.storm.family import Family

# Costly faults are rarer.
BAG = {
    "kill_trial": 5,
    "kill_worker": 3,
    "terminate_trial": 3,
    "freeze": 3,
    "corrupt_checkpoint": 4,
    "kill_server": 2,
    "kill_writer": 2,
    "kill_warm_parent": 1,
    "kill_driver": 1,
    "interrupt_driver": 1,
    "terminate_driver": 1,
    "fill_disk": 2,
}
"""Each kind of deed, and how often it comes in a round."""

PATIENCE_SECONDS = 8.0
"""How long a deed waits for a victim."""


class Deed(NamedTuple):
    """One entry of the plan.

    Attributes:
        name: A method of the adversary.
        pause_seconds: How long it waits before the next one.
        choices: Of its own, so that what one deed draws does not change those that follow.
    """

    name: str
    pause_seconds: float
    choices: random.Random


def plan(seed: int) -> Iterator[Deed]:
    """Deeds without end, by the seed alone; each round begins with one of every kind, for a study may end early."""
    draw = random.Random(seed)
    further = [name for name, count in BAG.items() for _ in range(count - 1)]
    while True:
        for name in draw.sample(list(BAG), len(BAG)) + draw.sample(further, len(further)):
            yield Deed(name, draw.uniform(0.2, 2.0), random.Random(draw.getrandbits(64)))


@dataclass
class Adversary:
    """Does one bad thing after another until its time is up, and each kind was done once.

    Attributes:
        seed: Of its plan.
        seconds: How long it goes on; twice as long at most, if a kind of deed has not been done by then.
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
        self._plan = plan(self.seed)
        self._deed = next(self._plan)
        self._random = self._deed.choices
        self._began = time.monotonic()
        self._next_at = self._began + 1.0
        self._later: list[tuple[float, Callable[[], None]]] = []
        self._missed: list[Deed] = []
        self._driver: subprocess.Popen[bytes] | None = None

    @property
    def is_full(self) -> bool:
        """Whether the storage's disk is full of ballast now."""
        return self.disk is not None and self.disk.is_full

    @property
    def not_done(self) -> set[str]:
        """Kinds of deed that have not been done."""
        return BAG.keys() - self.done.keys()

    def act(self, driver: subprocess.Popen[bytes] | None) -> None:
        """Do what is due now.

        Args:
            driver: The driver, if one runs.
        """
        self._driver = driver
        now = time.monotonic()
        for due in [entry for entry in self._later if entry[0] <= now]:
            self._later.remove(due)
            due[1]()
        if now < self._next_at or self._is_over(now - self._began):
            return
        name, pause_seconds, self._random = self._deed
        is_possible = self.disk is not None or name != "fill_disk"
        if is_done := getattr(self, name)():
            self.done[name] += 1
            self.say(name.replace("_", " "))
        elif is_possible and now < self._next_at + PATIENCE_SECONDS:
            return
        elif is_possible and name not in self.done:
            self._missed.append(self._deed)
        self._next_at = now + pause_seconds
        self._deed = self._missed.pop(0) if is_done and self._missed else next(self._plan)

    def _is_over(self, seconds: float) -> bool:
        possible = self.not_done - (set() if self.disk else {"fill_disk"})
        return seconds > self.seconds * (2 if possible else 1)

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
        return self._signal_driver(signal.SIGKILL)

    def terminate_driver(self) -> bool:
        """SIGTERM, as a scheduler sends it; it drains, and is resumed."""
        return self._signal_driver(signal.SIGTERM)

    def interrupt_driver(self) -> bool:
        """Ctrl-C; it drains, and is resumed."""
        # Within its imports Python itself would end it, with a traceback that is none of ours.
        return bool(self.family.warm_parents()) and self._signal_driver(signal.SIGINT)

    def freeze(self) -> bool:
        """SIGSTOP anybody for some seconds, past the deadline at times, then SIGCONT."""
        candidates = self.family.trials() + self.family.workers() + self.family.writers()
        if not candidates:
            return False
        victim = self._random.choice(candidates)
        if not self._send(victim, signal.SIGSTOP):
            return False
        self._after(self._random.uniform(0.5, 12.0), lambda: self._send(victim, signal.SIGCONT))
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
        return bool(candidates) and self._send(self._random.choice(candidates), number)

    def _send(self, process: psutil.Process, number: int) -> bool:
        """Signal the very process that was found: psutil compares its time of birth, should its pid have another."""
        with contextlib.suppress(psutil.Error):
            process.send_signal(number)
            return True
        return False

    def _signal_driver(self, number: int) -> bool:
        """Signal our own child, whose pid nobody else gets before it is reaped."""
        if self._driver is None or self._driver.poll() is not None:
            return False
        self._driver.send_signal(number)
        return True
