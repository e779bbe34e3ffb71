"""Pain 6, a truncated checkpoint blocks resume: whatever becomes of the newest one, the trial ends with its metrics."""

from __future__ import annotations

import os
import random
import signal
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from sweep.checkpoints import intact
from sweep.domain import TrainRequest
from sweep.execution.local import LocalExecutor
from sweep.execution.warm_client import WarmParent
from sweep.ports import Event, Started
from tests.quick_study import QuickStudy, parent

__all__ = ["parent"]

FILES = ("model/model.safetensors", "model/config.json", "state/state.safetensors", "manifest.json")
Metrics = dict[tuple[int, int], dict[str, float]]


@pytest.fixture(scope="module")
def undisturbed(parent: WarmParent, tmp_path_factory: pytest.TempPathFactory) -> Metrics:
    """What the trial reports when nothing happens."""
    study = one_trial(tmp_path_factory.mktemp("undisturbed"), parent)
    assert study.session().state == "COMPLETE"
    return study.metrics()


def one_trial(folder: Path, parent: WarmParent, *overrides: str) -> QuickStudy:
    return QuickStudy(folder, parent, ("budget.trials=1", *overrides))


def stopped_after(reports: int, folder: Path, parent: WarmParent) -> tuple[QuickStudy, list[Path]]:
    """A study stopped early, and the resumable checkpoints of its trial, oldest first."""
    study = one_trial(folder, parent, "objective.training.sleep_seconds=0.005")
    assert study.session(stop=lambda seen: seen.reports >= reports).state == "PAUSED"
    folders = sorted(study.spec.layout.checkpoints(0).glob("step-*"))
    return study, [folder for folder in folders if (folder / "state").is_dir()]


def damage(path: Path, how: str) -> None:
    content = bytearray(path.read_bytes())
    if how == "flip":
        content[len(content) // 2] ^= 1
    path.write_bytes(content if how == "flip" else content[: len(content) // 2])
    if how == "delete":
        path.unlink()


def origins(study: QuickStudy) -> list[str | None]:
    """Names of the checkpoints that the trial's attempts began from, as its log tells."""
    lines = [line for line in study.spec.layout.log(0).read_text().splitlines() if ", from " in line]
    return [line.partition(", from ")[2].partition(", seed ")[0].rpartition("/")[2] for line in lines]


@pytest.mark.parametrize("how", ["truncate", "flip", "delete"])
@pytest.mark.parametrize("name", FILES)
def test_pain_06_a_damaged_newest_checkpoint_is_passed_over_for_the_one_before(
    tmp_path: Path, parent: WarmParent, undisturbed: Metrics, name: str, how: str
) -> None:
    study, resumable = stopped_after(3, tmp_path, parent)
    assert len(resumable) >= 2, "there is nothing to fall back on"
    damage(resumable[-1] / name, how)
    assert study.session().state == "COMPLETE"
    study.check_complete()
    assert study.metrics() == undisturbed
    assert origins(study) == ["the start", resumable[-2].name]
    assert not any(trial.setbacks for trial in study.trials)


def test_pain_06_a_trial_whose_checkpoints_are_all_damaged_starts_anew(
    tmp_path: Path, parent: WarmParent, undisturbed: Metrics
) -> None:
    study, _ = stopped_after(3, tmp_path, parent)
    for folder in study.spec.layout.checkpoints(0).glob("step-*"):
        damage(folder / "model/model.safetensors", "truncate")
    assert study.session().state == "COMPLETE"
    study.check_complete()
    assert study.metrics() == undisturbed
    assert origins(study) == ["the start", "the start"]


class DamagingExecutor:
    """Damages the checkpoint of the first attempt that starts from one, after everybody has looked at it."""

    def __init__(self, inner: LocalExecutor) -> None:
        self._inner = inner
        self.damaged: str | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def start(self, request: TrainRequest, log: Path) -> None:
        origin = request.assignment.start_from
        if origin is not None and self.damaged is None:
            damage(Path(origin) / "state/state.safetensors", "truncate")
            self.damaged = origin
        self._inner.start(request, log)


def test_pain_06_a_checkpoint_that_breaks_as_it_is_opened_costs_an_attempt_and_no_trial(
    tmp_path: Path, parent: WarmParent, undisturbed: Metrics
) -> None:
    study, resumable = stopped_after(3, tmp_path, parent)
    assert study.session(executor=DamagingExecutor).state == "COMPLETE"
    study.check_complete()
    assert study.metrics() == undisturbed
    assert origins(study) == ["the start", resumable[-1].name, resumable[-2].name]
    (setback,) = study.trials[0].setbacks
    assert "CheckpointError" in setback.reason


class KillingExecutor:
    """Kills each of the first attempts some milliseconds after it has begun."""

    def __init__(self, inner: LocalExecutor, delays: list[float]) -> None:
        self._inner, self._delays = inner, delays

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def wait(self, timeout_seconds: float) -> Sequence[Event]:
        events = self._inner.wait(timeout_seconds)
        for event in events:
            if isinstance(event, Started) and self._delays:
                killer = threading.Timer(self._delays.pop(), kill, [event.pid])
                killer.daemon = True
                killer.start()
        return events


def kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


@pytest.mark.parametrize("seed", range(4))
def test_pain_06_a_trial_killed_in_the_middle_of_its_saves_ends_with_its_metrics(
    tmp_path: Path, parent: WarmParent, undisturbed: Metrics, seed: int
) -> None:
    generator = random.Random(seed)
    study = one_trial(tmp_path, parent, "on.lost.retries=100")
    delays = [generator.uniform(0.002, 0.06) for _ in range(12)]
    assert study.session(executor=lambda inner: KillingExecutor(inner, delays)).state == "COMPLETE"
    study.check_complete()
    assert study.metrics() == undisturbed
    assert len(study.trials[0].setbacks) > 0, "nothing was killed"


def test_pain_06_a_running_trial_always_has_an_intact_checkpoint_before_its_newest(
    tmp_path: Path, parent: WarmParent
) -> None:
    study = one_trial(tmp_path, parent, "objective.training.sleep_seconds=0.005")
    held: list[int] = []

    def look(name: str) -> None:
        if name == "report":  # the trial waits, its newest checkpoint committed
            folders = list(study.spec.layout.checkpoints(0).glob("step-*/state"))
            held.append(sum(intact(folder.parent) for folder in folders))

    study.session(before=look)
    assert len(held) >= 4
    assert held == [min(reports, 3) for reports in range(1, len(held) + 1)]
