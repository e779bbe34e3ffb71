"""Out of memory, leaks, and what the next trial finds: a clean process and the memory that was there before."""

from __future__ import annotations

import dataclasses
import math
import os
from pathlib import Path

import pytest

from objectives.finetune import prediction
from objectives.finetune.course import TaskCourse
from objectives.tasks.text_classification import TextClassification
from objectives.testing import TRAINING, tiny_file, tiny_model, tiny_rows, tiny_settings
from sweep.domain import Assignment, AttemptEnd, Decision, MetricRule, TrainRequest, TrialState
from sweep.execution.local import LocalExecutor
from sweep.execution.memory import family_bytes
from sweep.execution.warm_client import WarmParent
from sweep.ports import AttemptBegun, AttemptLimits, Ended, Reported, Started
from sweep.testing.executor import gather, gone_within, run, the_end, toy_request, wait_for
from sweep.testing.toy_objectives import LOADER
from tests.fault.local_study import LocalStudy

MEGABYTE = 1_000_000


def splits(study: LocalStudy, number: int) -> list[int]:
    begun = [record for record in study.recorder.records if isinstance(record, AttemptBegun)]
    return [record.micro_batch_split for record in begun if record.trial_number == number]


def test_pain_10_a_trial_that_runs_out_of_memory_completes_with_smaller_micro_batches(
    parent: WarmParent, tmp_path: Path
) -> None:
    study = LocalStudy(tmp_path, parent, "budget.trials=3")
    study.plans[1] = {"reports": 2, "then": "device-memory", "fits_at": 4}
    assert study.run().state == "COMPLETE"
    assert {trial.state for trial in study.trials} == {TrialState.COMPLETE}
    assert splits(study, 1) == [1, 2, 4]
    assert [setback.end for setback in study.trials[1].setbacks] == [AttemptEnd.OOM] * 2
    assert splits(study, 2) == [1], "another trial begins anew"


def test_pain_10_a_trial_that_never_fits_ends_as_oom_and_the_next_one_succeeds(
    parent: WarmParent, tmp_path: Path
) -> None:
    study = LocalStudy(tmp_path, parent, "budget.trials=3", "on.oom.halvings=2")
    study.plans[1] = {"reports": 1, "then": "device-memory"}
    assert study.run().state == "COMPLETE"
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE, TrialState.OOM, TrialState.COMPLETE]
    assert splits(study, 1) == [1, 2, 4]
    assert "CUDA out of memory" in str(study.trials[1].error)


def test_pain_10_a_leak_and_a_host_memory_fault_leave_the_next_trial_a_clean_host(
    parent: WarmParent, tmp_path: Path
) -> None:
    assert parent.pid is not None
    executor = LocalExecutor(1, parent, "toy", loader=LOADER, limits=AttemptLimits(memory_bytes=600 * MEGABYTE))
    run(executor, toy_request(tmp_path), tmp_path / "log")  # the first fork touches pages that stay touched
    baseline = family_bytes(os.getpid())
    request = toy_request(tmp_path, reports=0, then="allocate", megabytes=200)
    executor.start(request, tmp_path / "log")
    wait_for(lambda: executor.wait(0.1) is not None and family_bytes(os.getpid()) > baseline + 190 * MEGABYTE)
    executor.kill(request.assignment.trial_number, 1)
    assert the_end(gather(executor, lambda seen: any(isinstance(e, Ended) for e in seen))).end is AttemptEnd.LOST
    end = the_end(run(executor, toy_request(tmp_path, reports=0, then="allocate", megabytes=700), tmp_path / "log"))
    assert end.end is AttemptEnd.OOM
    assert "GB of host memory are more than the 0.6 of limits.memory_gb" in str(end.detail)
    assert family_bytes(os.getpid()) < baseline + 20 * MEGABYTE
    events = run(executor, toy_request(tmp_path), tmp_path / "log")
    assert the_end(events).end is AttemptEnd.FINISHED
    assert {event.report.metrics["canary"] for event in events if isinstance(event, Reported)} == {1.0}
    assert family_bytes(os.getpid()) < baseline + 20 * MEGABYTE


def test_pain_10_memory_counts_what_the_trial_started_too(parent: WarmParent, tmp_path: Path) -> None:
    executor = LocalExecutor(1, parent, "toy", loader=LOADER, limits=AttemptLimits(memory_bytes=600 * MEGABYTE))
    request = toy_request(tmp_path, reports=0, then="allocate", megabytes=400, processes=2)
    end = the_end(run(executor, request, tmp_path / "log"))
    assert end.end is AttemptEnd.OOM


MEMORY_CGROUP = Path("/sys/fs/cgroup/memory")


@pytest.mark.skipif(not os.access(MEMORY_CGROUP / "cgroup.procs", os.W_OK), reason="needs a memory cgroup of its own")
def test_pain_10_the_kernels_oom_killer_is_told_from_other_kills(parent: WarmParent, tmp_path: Path) -> None:
    cgroup = MEMORY_CGROUP / f"sweep-test-{os.getpid()}"
    cgroup.mkdir()
    executor = LocalExecutor(1, parent, "toy", loader=LOADER)
    try:
        (cgroup / "memory.limit_in_bytes").write_text(str(100 * MEGABYTE))
        executor.start(toy_request(tmp_path, reports=1, then="allocate", megabytes=300), tmp_path / "log")
        events = gather(executor, lambda seen: any(isinstance(event, Reported) for event in seen), decision=None)
        (started,) = [event for event in events if isinstance(event, Started)]
        (cgroup / "cgroup.procs").write_text(str(started.pid))
        executor.decide(started.trial_number, 1, Decision.CONTINUE)
        end = the_end(gather(executor, lambda seen: any(isinstance(event, Ended) for event in seen)))
    finally:
        executor.close()
        assert gone_within(5, started.pid)
        cgroup.rmdir()
    assert end.end is AttemptEnd.OOM
    assert "by the kernel, for want of host memory" in str(end.detail)


@pytest.mark.parametrize("split", [2, 4])
def test_pain_10_smaller_micro_batches_train_the_same_rows_in_each_step(tmp_path: Path, split: int) -> None:
    settings = tiny_settings(tiny_model(tmp_path / "model"), tiny_file(tmp_path / "train.jsonl", tiny_rows(100)))
    request = TrainRequest(
        assignment=Assignment(trial_number=3, attempt=1, hyperparameters={}, seed=7),
        prepared=str(TextClassification().prepare(settings, tmp_path / "prepared")["folder"]),
        model=settings["model"],
        settings={**TRAINING, "dropout": 0.0, "accumulation": 2, "batch_size": 7, "label_smoothing": 0.1},
        metric=MetricRule(name="accuracy", direction="maximize"),
        evaluate_at=[0.25, 0.5, 0.75, 1.0, 1.25, 1.5],
        fidelity_unit="epochs",
        checkpoints=str(tmp_path / "whole"),
        artifacts=str(tmp_path / "artifacts"),
    )
    whole = list(TextClassification().train(request))
    cut = dataclasses.replace(request, micro_batch_split=split, checkpoints=str(tmp_path / "cut"))
    largest: list[int] = []
    largest_examined: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        loss = TaskCourse.loss
        patch.setattr(TaskCourse, "loss", lambda own, batch: largest.append(len(batch)) or loss(own, batch))
        logits = prediction.logits_of
        patch.setattr(prediction, "logits_of", lambda *args: largest_examined.append(len(args[2])) or logits(*args))
        parts = list(TextClassification().train(cut))
    assert (max(largest), max(largest_examined)) == (math.ceil(7 / split), 16 // split)
    assert [report.step for report in parts] == [report.step for report in whole]
    for name in ("train_loss", "loss", "accuracy", "learning_rate"):
        assert [r.metrics[name] for r in parts] == pytest.approx([r.metrics[name] for r in whole], rel=1e-3, abs=1e-4)
