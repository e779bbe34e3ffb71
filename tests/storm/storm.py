"""A study in a storm: a seeded adversary breaks whatever it can while a real study runs, and nothing may be lost.

``python -m tests.storm --seed 7`` for one of your own; ``make storm`` for a long one. What a seed reproduces is told in
:mod:`tests.storm.adversary`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

from sweep.layout import StudyLayout
from tests.mlflow_server import MlflowServer
from tests.small_disk import SmallDisk, perhaps_small_disk
from tests.storm.adversary import Adversary
from tests.storm.family import MARK, Family
from tests.storm.verdict import failures

STUDY = "storm"
DISK_MEGABYTES = 96
EXPECTED_CODES = frozenset({0, 130, -signal.SIGKILL, -signal.SIGTERM})
"""Done, paused on request, killed, told to end before it heeded signals; 1 or 2 (refused) on a full disk."""

SPEC = """\
study: storm
objective:
  task: sweep.testing.checkpointing_objective:QuickObjective
  model: none
  data: {{}}
  training: {{steps: 60, batch_size: 16, sleep_seconds: 0.03, evaluate_every: 10}}
search:
  learning_rate: 1e-3..1 log
  weight_decay: 1e-6..1e-1 log
  seed: {seed}
  pruner: {{name: successive-halving, reduction_factor: 2}}
metric: {{name: accuracy, direction: maximize, from: best}}
budget: {{trials: {trials}}}
resources: {{workers: 3, cpus_per_trial: 0.5}}
limits: {{silence_minutes: 0.1, grace_seconds: 5, free_disk_gb: 0}}
on: {{timeout: 100, failed: {{retries: 100, stop_after: 1000}}, lost: 100}}
tracking: {{uri: "{uri}"}}
storage: {storage}
"""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a storm ended.

    Attributes:
        failures: Promises that were broken; empty when all held.
        deeds: What the adversary did, counted by kind.
        not_done: Kinds of deed that never happened, and why, as far as that is known.
        drivers: Drivers it took.
        seconds: From the first driver to the last.
    """

    failures: list[str]
    deeds: Mapping[str, int]
    not_done: Mapping[str, str]
    drivers: int
    seconds: float


@dataclass(kw_only=True)
class _Driver:
    """The command line, started again and again."""

    folder: Path
    environment: Mapping[str, str]
    layout: StudyLayout
    process: subprocess.Popen[bytes] | None = None
    started: int = 0
    fills: int = 0
    odd: list[tuple[int, int]] = field(default_factory=list)

    def start(self) -> None:
        verb = ["resume", STUDY, "--storage", str(self.layout.storage)]
        if not self.layout.spec.exists():
            verb = ["run", str(self.folder / "storm.yaml")]
        with (self.folder / "driver.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "sweep.cli.main", *verb],
                cwd=self.folder,
                env=dict(self.environment),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.started += 1

    def poll(self) -> int | None:
        code = self.process.poll() if self.process else None
        if code is not None:
            self.process = None
        return code


def storm(
    folder: Path,
    *,
    seed: int,
    trials: int = 100,
    seconds: float = 90.0,
    limit: float = 480.0,
    say: Callable[[str], None],
) -> Outcome:
    """Run a study in a storm, then see what is left.

    Args:
        folder: Scratch folder; logs stay there.
        seed: Of the adversary and of the study.
        trials: The study's budget.
        seconds: How long the adversary goes on.
        limit: When to give up.
        say: Takes a line for each thing that happens.
    """
    mark = uuid4().hex
    family = Family(mark)
    with perhaps_small_disk(folder / "disk", DISK_MEGABYTES) as disk:
        storage = folder / "disk" / "mlruns"
        storage.mkdir(exist_ok=True)
        (folder / "mlflow").mkdir()
        server = MlflowServer(folder / "mlflow")
        layout = StudyLayout(storage, STUDY)
        (folder / "storm.yaml").write_text(
            SPEC.format(seed=seed, trials=trials, uri=server.address, storage=storage), encoding="utf-8"
        )
        environment = {**os.environ, MARK: mark, "XDG_STATE_HOME": str(folder / "state"), "PYTHONFAULTHANDLER": "1"}
        driver = _Driver(folder=folder, environment=environment, layout=layout)
        began = time.monotonic()
        server.launch()
        adversary = Adversary(
            seed=seed,
            seconds=seconds,
            family=family,
            storage=storage,
            server=server,
            disk=disk if isinstance(disk, SmallDisk) else None,
            say=lambda text: say(f"[{time.monotonic() - began:5.1f}] {text}"),
        )
        broken: list[str] = []
        try:
            if not _weather(driver, adversary, began + limit, say):
                broken.append(f"the study was not finished within {limit:.0f} s")
            adversary.release()
            took = time.monotonic() - began
            if driver.odd:
                broken.append(f"drivers ended with exit codes that mean something else: {driver.odd}")
            server.start()
            sync = subprocess.run(
                [
                    sys.executable,
                    "-m",
                    "sweep.cli.main",
                    "sync",
                    STUDY,
                    "--storage",
                    str(storage),
                    "--timeout",
                    str(120 + 2 * trials),
                ],
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
            if sync.returncode:
                broken.append(f"sync failed: {sync.stderr}")
            broken += list(failures(layout, server.database, trials))
            broken += _orphans(family)
            text = (folder / "driver.log").read_text(errors="replace")
            if "Traceback (most recent call last)" in text:
                broken.append("a driver printed a traceback; see driver.log")
        finally:
            server.kill()
            for process in family.all():
                process.kill()
    reasons = {"fill_disk": f"a small file system cannot be mounted: {disk}"} if isinstance(disk, str) else {}
    not_done = {name: reasons.get(name, "its victim was never there") for name in sorted(adversary.not_done)}
    return Outcome(failures=broken, deeds=dict(adversary.done), not_done=not_done, drivers=driver.started, seconds=took)


def _weather(driver: _Driver, adversary: Adversary, until: float, say: Callable[[str], None]) -> bool:
    """Keep a driver going until the study is complete; returns whether it is in time."""
    while time.monotonic() < until:
        if driver.process is None:
            driver.start()
        code = driver.poll()
        if code is not None:
            say(f"        driver {driver.started} ended with {code}")
            if code == 0:
                return True
            fills = adversary.done["fill_disk"]
            if code not in EXPECTED_CODES and not (code in (1, 2) and fills > driver.fills):
                driver.odd.append((driver.started, code))
                time.sleep(1.0)
            driver.fills = fills if not adversary.is_full else fills - 1
        adversary.act(driver.process)
        time.sleep(0.05)
    return False


def _orphans(family: Family) -> list[str]:
    """Processes that are still there after half a minute."""
    until = time.monotonic() + 30
    while (left := family.all()) and time.monotonic() < until:
        time.sleep(0.2)
    return [f"orphan process {process.pid}: {' '.join(process.cmdline())[:200]}" for process in left]
