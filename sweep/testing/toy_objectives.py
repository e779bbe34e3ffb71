"""Objectives without a model, for the conformance suites: each does one thing an executor must cope with.

``load`` is the loader entry: ``sweep.testing.toy_objectives:load``.
"""

from __future__ import annotations

import errno
import itertools
import os
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sweep.domain import Report, TrainRequest
from sweep.errors import CheckpointError, InvalidDataError, InvalidSpecError
from sweep.ports import DivergedError, LeftEarly
from sweep.teams import Team

LOADER = "sweep.testing.toy_objectives:load"
LEAK: list[bytes] = []
CANARY: list[int] = []
"""Grows with every attempt that runs in the same process; clean processes keep it at one."""


class ToyObjective:
    """Reports as often as its settings say, then ends as they say.

    Settings: ``reports`` (evaluations), ``then`` (how it ends), ``sleep_seconds`` (before each evaluation),
    ``fits_at`` (micro-batch split at which it no longer runs out of device memory), ``follower`` (what the processes
    of a team besides the first one do, as in ``then``; without it they wait for the first one's end).
    """

    progress: Any = None
    leaving: Any = None
    team: Team | None = None

    def prepare(self, settings: Mapping[str, Any], folder: Path) -> Mapping[str, Any]:
        """Echo, or raise what ``settings["raise"]`` names."""
        wanted = settings.get("raise")
        if wanted == "data":
            raise InvalidDataError("data/train.csv: 0 rows; give at least 2")
        if wanted == "spec":
            raise InvalidSpecError(["one", "two"])
        if wanted == "bug":
            raise KeyError("bug")
        if wanted == "exit":
            os._exit(7)
        if wanted == "hang":
            time.sleep(600)
        self.progress(1, 2, 0.5)
        return {"folder": str(folder), "pid": os.getpid(), "kind": type(folder).__name__}

    def check(self, request: TrainRequest) -> Mapping[str, Any]:
        """Tell what arrived."""
        return {"hyperparameters": request.assignment.hyperparameters, "metric": request.metric.name}

    def evaluate(self, model: Path, prepared: Path, split: str, settings: Mapping[str, Any]) -> Mapping[str, float]:
        """A fixed score."""
        return {"accuracy": 0.5}

    def train(self, request: TrainRequest) -> Iterator[Report]:
        """Report, then end as told."""
        CANARY.append(1)
        settings = request.settings
        print(f"trial {request.assignment.trial_number} begins")  # noqa: T201
        print(f"devices {os.environ.get('CUDA_VISIBLE_DEVICES')!r}", file=sys.stderr)  # noqa: T201
        try:
            for step in range(1, settings.get("reports", 3) + 1):
                time.sleep(settings.get("sleep_seconds", 0))
                self.progress(step, settings.get("reports", 3), 1.0 / step)
                yield self._report(request, step)
            self._end(settings.get("then", "finish"), request)
        finally:
            print("generator closed")  # noqa: T201
            for link in self.team.links if self.team is not None else ():
                link.close()

    def follow(self, request: TrainRequest) -> None:
        """Do as told, then wait for the first process's end."""
        self._end(request.settings.get("follower", "finish"), request)
        if self.team is not None:
            self.team.links[0].recv(1)

    def _report(self, request: TrainRequest, step: int) -> Report:
        devices = os.environ.get("CUDA_VISIBLE_DEVICES")
        return Report(
            trial_number=request.assignment.trial_number,
            attempt=request.assignment.attempt,
            step=step,
            fidelity=float(step),
            metrics={
                "accuracy": step / 10,
                "canary": float(len(CANARY)),
                "pid": float(os.getpid()),
                "device": float(devices) if devices else -1.0,
                "threads": float(os.environ.get("OMP_NUM_THREADS", "0")),
            },
            checkpoint=None,
            wall_seconds=0.0,
            reported_at=time.time(),
        )

    def _train_on(self, step: int) -> None:
        """Take steps until it is told to leave."""
        while not self.leaving():
            step += 1
            self.progress(step, 10**6, 1.0)
            time.sleep(0.05)
        raise LeftEarly

    def _loop_for_ever(self) -> None:
        while True:
            pass

    def _hold_the_interpreter(self) -> None:
        """A call into C that never lets go of the interpreter's lock."""
        sum(itertools.repeat(0))

    def _allocate(self, megabytes: int, processes: int) -> None:
        """So much in each of the processes."""
        for _ in range(processes - 1):
            if os.fork() == 0:
                break
        LEAK.append(b"x" * (megabytes * 1_000_000))
        time.sleep(600)

    def _chatter(self) -> None:
        while not self.leaving():
            print("chatter " * 100)  # noqa: T201
        raise LeftEarly

    def _start_another(self, told: Path, *, escapes: bool) -> None:
        """Start a process; one that escapes leaves the group and the session, and loses its parent."""
        if os.fork() == 0:
            if escapes:
                os.setsid()
                if os.fork() != 0:
                    os._exit(0)
            told.write_text(str(os.getpid()))
            time.sleep(600)
            os._exit(0)

    def _end(self, how: str, request: TrainRequest) -> None:
        if how == "diverge":
            raise DivergedError("loss became NaN at step 3")
        if how == "fail":
            raise ValueError("a bug in the objective")
        if how == "user-error":
            raise InvalidDataError("train.csv: no rows")
        if how == "memory":
            raise MemoryError
        if how == "device-memory" and request.micro_batch_split < request.settings.get("fits_at", 2**20):
            raise OutOfMemoryError("CUDA out of memory")
        if how == "exit":
            os._exit(9)
        if how == "quit":
            sys.exit(3)
        if how == "disk-full":
            raise CheckpointError("step-3: the checkpoint cannot be written") from OSError(errno.ENOSPC, "no space")
        if how == "talk-of-a-full-disk":
            raise ValueError("No space left on device (os error 28): the tokenizer's vocabulary is full")
        if how == "loop":
            self._loop_for_ever()
        if how == "hold-the-interpreter":
            self._hold_the_interpreter()
        if how == "allocate":
            self._allocate(int(request.settings["megabytes"]), int(request.settings.get("processes", 1)))
        if how == "chatter":
            self._chatter()
        if how in ("orphan", "escape"):
            self._start_another(Path(request.artifacts), escapes=how == "escape")
        if how in ("train-on", "escape"):
            self._train_on(int(request.settings.get("reports", 3)))
        if how in ("hang", "orphan"):
            time.sleep(600)


class OutOfMemoryError(RuntimeError):
    """Bears the name of torch's error, which is known by name alone."""


def load(name: str) -> ToyObjective:
    """The loader entry.

    Raises:
        InvalidSpecError: If the name is not ``toy``.
    """
    if name != "toy":
        raise InvalidSpecError(f"objective {name!r} is unknown; use 'toy'")
    return ToyObjective()
