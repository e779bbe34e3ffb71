"""A trial on several devices: two processes on the CPU, with gloo between them, as `sweep run` starts them."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import psutil
import pytest
import ray
import torch
from safetensors.torch import load_file

from sweep.cli.check import _devices, _idle_limits
from sweep.domain import Assignment, AttemptEnd, Decision, Report, TrainRequest
from sweep.errors import UserError
from sweep.execution.jobs import run_job
from sweep.execution.local import LocalExecutor
from sweep.execution.ray_cluster import TrialShare, start_cluster
from sweep.execution.ray_workers import RayExecutor
from sweep.execution.warm_client import WarmParent
from sweep.objective_jobs import request_maker
from sweep.ports import AttemptLimits, Ended, Event, Reported, Started
from sweep.testing.executor import gather, gone_within, run, start, the_end, toy_request
from tests.tiny_study import materials, tiny_spec
from tests.tiny_study import run as study
from tests.tiny_trial import STATE, TASK, prepared, settings, steady, tiny_request
from tests.warmed_parent import warmed_parent

__all__ = ["prepared", "settings"]


@pytest.fixture(scope="module")
def parent() -> Iterator[WarmParent]:
    with warmed_parent() as parent:
        yield parent


@pytest.fixture(scope="module")
def executor(parent: WarmParent) -> Iterator[LocalExecutor]:
    executor = LocalExecutor(1, parent, TASK, limits=AttemptLimits(silence_seconds=60.0))
    yield executor
    executor.close()


@pytest.fixture
def request_(settings: dict[str, Any], prepared: str, tmp_path: Path) -> TrainRequest:
    """A run of 16 steps by two processes, evaluated at steps 4, 8, 12 and 16."""
    return dataclasses.replace(tiny_request(tmp_path, settings, prepared), devices=2, patience_seconds=30.0)


def with_settings(
    request: TrainRequest,
    folder: str = "",
    devices: int = 2,
    strategy: Literal["ddp", "fsdp"] = "ddp",
    **settings: Any,
) -> TrainRequest:
    return dataclasses.replace(
        request,
        checkpoints=request.checkpoints + folder,
        devices=devices,
        strategy=strategy,
        settings={**request.settings, **settings},
    )


def reports_in(events: list[Event]) -> list[Report]:
    return [event.report for event in events if isinstance(event, Reported)]


def train(executor: LocalExecutor, request: TrainRequest, log: Path) -> list[Report]:
    events = run(executor, request, log)
    assert the_end(events).end is AttemptEnd.FINISHED, f"{the_end(events).detail}\n{log.read_text()}"
    return reports_in(events)


def weights(report: Report) -> dict[str, torch.Tensor]:
    return load_file(Path(str(report.checkpoint)) / STATE[0])


def state(report: Report) -> dict[str, torch.Tensor]:
    return {f"{name}/{key}": value for name in STATE for key, value in load_file(folder_of(report) / name).items()}


def folder_of(report: Report) -> Path:
    return Path(str(report.checkpoint))


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_processes_learn_what_one_does(
    executor: LocalExecutor, request_: TrainRequest, tmp_path: Path, strategy: Literal["ddp", "fsdp"]
) -> None:
    # Plain descent: Adam would make a whole step of the noise in a gradient that is nothing else.
    exact = {"dropout": 0.0, "attention_dropout": 0.0, "batch_size": 7, "optimizer": "sgd", "learning_rate": 0.1}
    one = train(executor, with_settings(request_, "-one", devices=1, **exact), tmp_path / "log")
    two = train(executor, with_settings(request_, "-two", strategy=strategy, **exact), tmp_path / "log")
    assert [report.step for report in two] == [report.step for report in one]
    for ours, theirs in zip(two, one, strict=True):
        assert ours.metrics["train_loss"] == pytest.approx(theirs.metrics["train_loss"], rel=1e-5)
        for name, value in load_file(folder_of(theirs) / STATE[0]).items():
            torch.testing.assert_close(load_file(folder_of(ours) / STATE[0])[name], value, rtol=1e-5, atol=1e-5)


_ADAPTERS = {"method": "lora", "lora_dropout": 0.1, "gradient_checkpointing": True, "precision": "bf16"}
_FEW_ROWS = {"batch_size": 1, "epochs": 0.2, "freeze": ("embeddings",)}


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="whole"),
        pytest.param(_ADAPTERS, id="adapters", marks=pytest.mark.slow),
        pytest.param({**_FEW_ROWS, "gradient_clipping": None}, id="a process without rows"),
        pytest.param({"strategy": "fsdp", "gradient_checkpointing": True}, id="sharded", marks=pytest.mark.slow),
        pytest.param({**_FEW_ROWS, "strategy": "fsdp", "optimizer": "lion"}, id="sharded, a process without rows"),
    ],
)
def test_two_processes_go_on_bit_for_bit(
    executor: LocalExecutor, request_: TrainRequest, tmp_path: Path, changes: dict[str, Any]
) -> None:
    whole = train(executor, with_settings(request_, "-whole", **changes), tmp_path / "log")
    request = with_settings(request_, "-paused", **changes)
    paused = reports_in(run(executor, request, tmp_path / "log", Decision.PAUSE))
    assert len(paused) == 1
    assignment = dataclasses.replace(request.assignment, attempt=2, start_from=paused[0].checkpoint)
    after = train(executor, dataclasses.replace(request, assignment=assignment), tmp_path / "log")
    assert [steady(report) for report in after] == [steady(report) for report in whole]
    there, here = state(whole[-1]), state(after[-1])
    assert "state/state.safetensors/cpu.1" in here
    assert not torch.equal(here["state/state.safetensors/cpu"], here["state/state.safetensors/cpu.1"])
    assert here.keys() == there.keys()
    assert all(torch.equal(here[name], there[name]) for name in here)


def test_smaller_micro_batches_and_patience_are_heeded_by_all(
    executor: LocalExecutor, request_: TrainRequest, tmp_path: Path
) -> None:
    exact = with_settings(request_, dropout=0.0, attention_dropout=0.0, optimizer="sgd", learning_rate=0.1)
    whole = train(executor, exact, tmp_path / "log")
    halved = dataclasses.replace(exact, micro_batch_split=2, checkpoints=exact.checkpoints + "-halved")
    for ours, theirs in zip(train(executor, halved, tmp_path / "log"), whole, strict=True):
        assert ours.metrics["train_loss"] == pytest.approx(theirs.metrics["train_loss"], rel=1e-5)
    stalled = with_settings(request_, "-stalled", patience=1, min_delta=10.0)
    assert len(train(executor, stalled, tmp_path / "log")) == 2


def test_a_worker_reserves_all_of_a_trial_and_a_pruned_trial_leaves_nothing_behind(
    parent: WarmParent, request_: TrainRequest, tmp_path: Path
) -> None:
    share = TrialShare(cpus=2.0)
    cluster = start_cluster(share, workers=1)
    executor = RayExecutor(cluster, share, TASK, parent=parent, owns_cluster=True)
    try:
        start(executor, with_settings(request_, epochs=4.0), tmp_path / "log")
        assert ray.cluster_resources()["CPU"] - ray.available_resources().get("CPU", 0.0) == 2.0
        events = gather(executor, lambda seen: len(reports_in(seen)) == 3)
        (started,) = [event for event in events if isinstance(event, Started)]
        pids = [started.pid, *(child.pid for child in psutil.Process(started.pid).children())]
        assert len(pids) == 2
        events += gather(executor, lambda seen: any(isinstance(event, Ended) for event in seen), decision=Decision.STOP)
        end, reports = the_end(events), reports_in(events)
        assert reports[-1].metrics["accuracy"] > reports[0].metrics["accuracy"]
        assert end.end is AttemptEnd.STOPPED
        assert gone_within(5, *pids)
        assert executor.free_slots == executor.slots == 1
    finally:
        executor.close()


def test_an_objective_that_trains_on_one_device_is_refused_by_check(parent: WarmParent, tmp_path: Path) -> None:
    name = "sweep.testing.checkpointing_objective:QuickObjective"
    request = dataclasses.replace(toy_request(tmp_path), devices=2)
    words = rf"resources\.devices_per_trial: {name} trains on one device: it has no `follow`"
    with pytest.raises(UserError, match=words):
        run_job(parent, name, "check", {"request": request})
    executor = LocalExecutor(1, parent, name)
    try:
        end = the_end(run(executor, request, tmp_path / "log"))
        assert (end.end, end.detail is not None and re.match(words, end.detail) is not None) == (
            AttemptEnd.FAILED,
            True,
        )
    finally:
        executor.close()


def test_check_tells_what_a_trial_takes(tmp_path: Path) -> None:
    resources = ("resources.devices_per_trial=2", "resources.cpus_per_trial=2", "resources.gpus_per_trial=2")
    spec = tiny_spec(materials(tmp_path), "two-devices", *resources)
    assert _devices(spec) == ["devices    2 a trial, on one node: 2 CPUs and 2 GPUs in all; tried here with one"]
    request = request_maker(spec, {"folder": "", "model": ""})(
        Assignment(trial_number=0, attempt=1, hyperparameters={}, seed=0)
    )
    assert (request.devices, request.cpus, request.gpus, request.patience_seconds) == (2, 1, 1.0, 900.0)
    idle = tiny_spec(tmp_path, "idle", "resources.gpus_per_trial=2")
    assert "trains on one of its 2 GPUs: resources.devices_per_trial is 1" in _idle_limits(idle)[0]


@pytest.mark.slow
def test_a_study_runs_on_two_devices(tmp_path: Path) -> None:
    resources = ("resources.devices_per_trial=2", "resources.cpus_per_trial=2")
    (trial,) = study(tiny_spec(materials(tmp_path), "two-devices", *resources, trials=1)).trials
    assert trial.value is not None
    assert trial.value > 0.8
