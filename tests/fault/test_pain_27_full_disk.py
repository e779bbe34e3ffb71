"""Pain 27, the disk fills: wherever it hits, the study pauses with one message, and resumes to exactly its budget."""

from __future__ import annotations

import contextlib
import errno
import json
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from typer.testing import CliRunner

from objectives.finetune.artifacts import write_confusion
from sweep import objective_jobs, wiring
from sweep.checkpoints.garbage import keep_room_for_notes, remove_audited
from sweep.checkpoints.space import Allowance, SpaceWatch, disk_use, needed_bytes
from sweep.checkpoints.surplus import Surplus
from sweep.cli.main import app
from sweep.clock import SystemClock
from sweep.domain import AttemptEnd, TrialState
from sweep.engine.control import StopCause, StopRequest, StopSignals, request_stop
from sweep.engine.lock import current_holder, driver_lock
from sweep.engine.loop import LoopResult
from sweep.errors import CheckpointError, StudyBusyError, StudyStoreError, SweepError, UserError, is_disk_full
from sweep.execution.jobs import run_job
from sweep.execution.local import LocalExecutor
from sweep.execution.simulated import VirtualClock
from sweep.execution.warm_client import WarmParent
from sweep.finale import Finale
from sweep.layout import StudyLayout
from sweep.redaction import Redactor
from sweep.room import refuse_without_room
from sweep.search import OptunaStore
from sweep.search.store import unfenced
from sweep.study_files import write_atomically
from sweep.testing.executor import run, the_end, toy_request
from sweep.testing.toy_objectives import LOADER
from sweep.tracking import SpoolRecorder, drain, undelivered
from sweep.tracking.acknowledged import Acknowledged
from sweep.tracking.rejected import Rejected
from sweep.tracking.spool import Spool
from tests.quick_study import SPEC, TASK, QuickStudy, SpoolOnly, parent
from tests.recording import STEPS, Store, begun, own_cache, whole_trial
from tests.small_disk import SmallDisk, small_disk

__all__ = ["own_cache", "parent"]

Reported = dict[tuple[int, int], dict[str, float]]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk", megabytes=4) as disk:
        yield disk


@pytest.fixture(scope="module")
def undisturbed(parent: WarmParent, tmp_path_factory: pytest.TempPathFactory) -> Reported:
    """What each trial of the study reports when nothing happens."""
    study = QuickStudy(tmp_path_factory.mktemp("undisturbed"), parent)
    assert study.session().state == "COMPLETE"
    study.check_complete()
    return study.metrics()


# Durable writes of the driver at which the disk is filled, of the 97 there are, and the bytes left free then: with
# none, it is the driver that meets the full disk in most cases; with a few, a trial in the middle of a checkpoint.
MOMENTS = [(write, 0) for write in range(0, 90, 9)] + [(write, 12288) for write in range(4, 60, 9)]


@pytest.mark.parametrize(("moment", "leave"), MOMENTS)
def test_pain_27_a_disk_that_fills_at_any_moment_pauses_the_study_and_it_resumes_to_its_budget(
    disk: SmallDisk, parent: WarmParent, undisturbed: Reported, moment: int, leave: int
) -> None:
    study = QuickStudy(disk.root, parent)
    writes: list[str] = []

    def fill_in_time(name: str) -> None:
        writes.append(name)
        if len(writes) > moment:
            disk.fill(leave)

    result = study.session(before=fill_in_time)
    assert (result.state, result.cause) == ("PAUSED", StopCause.DISK)
    assert "No space left on device" in (result.reason or "")
    disk.empty()
    assert study.session().state == "COMPLETE"
    study.check_complete()
    assert study.metrics() == undisturbed
    assert not any(trial.setbacks for trial in study.trials)


def test_pain_27_the_quota_is_never_exceeded_and_a_higher_one_lets_the_study_go_on(
    tmp_path: Path, parent: WarmParent, undisturbed: Reported
) -> None:
    study = QuickStudy(tmp_path, parent)
    clock, quota, largest = VirtualClock(), 35_000, [0]

    def watch(quota_bytes: int) -> SpaceWatch:
        return SpaceWatch(Allowance(layout=study.spec.layout, quota_bytes=quota_bytes, reserve_bytes=0), 10_000, clock)

    def look(name: str) -> None:
        clock.seconds += 2
        largest.append(sum(disk_use(study.spec.layout).values()))

    result = study.session(before=look, space=watch(quota))
    assert (result.state, result.cause) == ("PAUSED", StopCause.DISK)
    assert quota - 10_000 < max(largest) <= quota
    for told in ("limits.disk_gb", f"{largest[-1] / 1e6:.1f} MB", "sweep gc quick", "sweep resume quick --disk-gb"):
        assert told in (result.reason or "")
    attempts = sum(trial.attempt for trial in study.trials)
    assert study.session(space=watch(quota // 2)).cause is StopCause.DISK
    assert sum(trial.attempt for trial in study.trials) == attempts, "an attempt began without room"
    assert study.session(before=look, space=watch(10 * quota)).state == "COMPLETE"
    study.check_complete()
    assert study.metrics() == undisturbed


def test_pain_27_low_space_pauses_before_the_disk_is_full(disk: SmallDisk, parent: WarmParent) -> None:
    study = QuickStudy(disk.root, parent)
    clock, writes = VirtualClock(), []
    allowance = Allowance(layout=study.spec.layout, quota_bytes=None, reserve_bytes=1_000_000)

    def fill(name: str) -> None:
        clock.seconds += 2
        writes.append(name)
        if len(writes) == 30:
            disk.fill(leave=1_100_000)

    result = study.session(before=fill, space=SpaceWatch(allowance, 200_000, clock))
    assert (result.state, result.cause) == ("PAUSED", StopCause.DISK)
    assert "limits.free_disk_gb" in (result.reason or "")
    assert disk.free_bytes > 1_000_000
    assert not any(trial.state is TrialState.RUNNING for trial in study.trials)
    disk.empty()
    assert study.session().state == "COMPLETE"
    study.check_complete()


def test_pain_27_the_watch_looks_at_the_disk_at_most_once_a_second(tmp_path: Path) -> None:
    clock = VirtualClock()
    allowance = Allowance(layout=QuickStudy(tmp_path, None).spec.layout, quota_bytes=10, reserve_bytes=0)
    watch = SpaceWatch(allowance, 0, clock)
    assert watch() is None
    allowance.layout.folder.mkdir(parents=True)
    (allowance.layout.folder / "large").write_bytes(bytes(11))
    clock.seconds += 0.9
    assert watch() is None
    clock.seconds += 0.2
    assert "limits.disk_gb" in (watch() or "")
    (allowance.layout.folder / "large").unlink()
    clock.seconds += 1.1
    assert watch() is None


@dataclass(frozen=True, slots=True, kw_only=True)
class DearAllowance(Allowance):
    """Of a study whose every file takes two milliseconds to look at."""

    clock: VirtualClock
    looks: list[float]

    def used_bytes(self) -> int:
        self.clock.seconds += 0.002 * len(list(self.layout.folder.iterdir()))
        self.looks.append(self.clock.seconds)
        return super(DearAllowance, self).used_bytes()


@pytest.mark.parametrize("grows", ["steadily, while somebody else makes room", "suddenly"])
def test_pain_27_a_study_of_many_files_does_not_outgrow_its_quota_between_two_looks(tmp_path: Path, grows: str) -> None:
    quota, head_room, clock = 10_000_000, 400_000, VirtualClock()
    with small_disk(tmp_path / "disk", megabytes=64) as disk:
        layout = QuickStudy(disk.root, None).spec.layout
        layout.folder.mkdir(parents=True)
        for number in range(2000):
            (layout.folder / f"file-{number}").write_bytes(bytes(1000))
        watch = SpaceWatch(
            looking := DearAllowance(
                layout=layout, quota_bytes=quota, reserve_bytes=0, clock=clock, looks=list[float]()
            ),
            head_room,
            clock,
        )
        disk.fill(leave=30_000_000)
        before, free = clock.seconds, disk.free_bytes
        with (layout.folder / "growing").open("ab", buffering=0) as file:
            while watch() is None and clock.seconds < 1000:
                clock.seconds += 0.4
                pace = 50_000 if grows != "suddenly" else 80_000 if clock.seconds > 300 else 1_000
                file.write(bytes(int(pace * (clock.seconds - before))))
                before = clock.seconds
                if grows != "suddenly":
                    disk.take_away(free - disk.free_bytes)
        assert quota - head_room < sum(disk_use(layout).values()) <= quota
        assert "limits.disk_gb" in (watch() or "")
        assert len(looking.looks) < 40, "it looks all the time"


def test_pain_27_a_study_that_needs_more_than_is_free_is_refused_and_what_it_has_already_counts(
    tmp_path: Path,
) -> None:
    needed = needed_bytes(300_000, running=2, kept=4)
    assert needed == 300_000 * (3 + 1) * 2 + 300_000 * (2 + 4) // 3 + 2 * 2_000_000
    with small_disk(tmp_path / "disk", megabytes=12) as disk:
        spec = QuickStudy(disk.root, None, ("limits.free_disk_gb=0.001",)).spec
        disk.fill(leave=needed + 1_020_000)
        refuse_without_room(spec, checkpoint_bytes=300_000, running=2)
        disk.fill(leave=needed + 900_000)
        with pytest.raises(UserError, match=r"'quick' has no room.* 7\.9 MB are free, not 7\.0 MB .*1\.0 MB of limits"):
            refuse_without_room(spec, checkpoint_bytes=300_000, running=2)
        disk.empty()
        held = spec.layout.checkpoints(0) / "step-00000001" / "model"
        held.mkdir(parents=True)
        (held / "weights").write_bytes(bytes(600_000))
        disk.fill(leave=needed + 900_000)
        refuse_without_room(spec, checkpoint_bytes=300_000, running=2)
        tight = QuickStudy(disk.root, None, ("limits.free_disk_gb=0", "limits.disk_gb=0.0069")).spec
        with pytest.raises(UserError, match=r"0\.6 MB on disk and 6\.4 MB for .* 6\.9 MB of limits\.disk_gb"):
            refuse_without_room(tight, checkpoint_bytes=300_000, running=2)
        refuse_without_room(tight, checkpoint_bytes=280_000, running=2)


def sweep(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sweep.cli.main", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=150)


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != "driver.lock"}


def test_pain_27_run_and_resume_refuse_at_once_with_one_message_and_write_nothing(
    disk: SmallDisk, parent: WarmParent
) -> None:
    (disk.root / "study.yaml").write_text(SPEC)
    before = everything(disk.root)
    refused = sweep("run", "study.yaml", "--set", "limits.free_disk_gb=0.01", folder=disk.root)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith("error: study 'quick' has no room:")
    assert refused.stderr.count("\n") == 1
    assert everything(disk.root) == before
    study = QuickStudy(disk.root, parent)
    study.session(stop=lambda seen: seen.reports >= 3)
    before = everything(disk.root)
    refused = sweep("resume", "quick", "--storage", ".", "--disk-gb", "1e-6", "--free-disk-gb", "0", folder=disk.root)
    assert refused.returncode == 2
    assert "limits.disk_gb" in refused.stderr
    assert everything(disk.root) == before


def test_pain_27_check_refuses_what_run_would_and_a_warning_is_no_refusal(
    disk: SmallDisk, parent: WarmParent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objective_jobs, "warm_parent", lambda: contextlib.nullcontext(parent))
    (disk.root / "study.yaml").write_text(SPEC.replace("storage: .", f"storage: {disk.root}"))

    def check(*arguments: str) -> Any:
        return CliRunner().invoke(app, ["check", str(disk.root / "study.yaml"), *arguments])

    limits = ("--set", "limits.free_disk_gb=0")
    tracker = ("--set", "tracking.uri=http://ann:s3cr3t@127.0.0.1:9")
    told = json.loads(check(*limits, *tracker, "--json", "--set", "limits.disk_gb=1e-6").stdout)
    assert any("the secret in tracking.uri is not stored" in warning for warning in told["warnings"])
    assert ["'quick' has no room" in refusal for refusal in told["refusals"]] == [True]
    ready = check(*limits, *tracker)
    assert (ready.exit_code, ready.stdout[-7:]) == (0, "Ready.\n")
    assert "warning    " in ready.stdout
    for wrong, words in (("limits.disk_gb=1e-6", "has no room"), ("resources.workers=1000", "has no room")):
        refused = check(*limits, "--set", wrong)
        assert isinstance(refused.exception, UserError)
        assert (refused.stdout, words in str(refused.exception)) == ("", True)
    taken = disk.root / "studies" / "quick"
    taken.mkdir(parents=True)
    write_atomically(taken / "spec.yaml", "study: quick")
    refused = check(*limits)
    assert "already exists" in str(refused.exception)


# What tells of a full disk


def fills_by_python(folder: Path) -> None:
    (folder / "file").write_bytes(bytes(100_000))


def fills_by_a_wrapper(folder: Path) -> None:
    try:
        fills_by_python(folder)
    except OSError as err:
        raise RuntimeError("the objective could not save") from err


def fills_by_safetensors(folder: Path) -> None:
    save_file({"weights": np.zeros(100_000)}, folder / "weights.safetensors")


def fills_by_tokenizers(folder: Path) -> None:
    words = {f"word-{number}": number for number in range(20_000)}
    Tokenizer(WordLevel(words, unk_token="word-0")).save(str(folder / "tokenizer.json"))


def fills_by_torch(folder: Path) -> None:
    import torch

    torch.save(torch.zeros(100_000), folder / "weights.pt")


def fills_by_sqlite(folder: Path) -> None:
    with contextlib.closing(sqlite3.connect(folder / "small.db")) as database:
        database.execute("create table words (word)")
        database.execute("insert into words values (?)", ["word" * 25_000])
        database.commit()


@pytest.mark.parametrize(
    "fills",
    [
        fills_by_python,
        fills_by_a_wrapper,
        fills_by_safetensors,
        fills_by_tokenizers,
        fills_by_torch,
        fills_by_sqlite,
    ],
)
def test_pain_27_each_writer_s_own_error_is_known_for_a_full_disk(
    disk: SmallDisk, fills: Callable[[Path], None]
) -> None:
    disk.fill()
    with pytest.raises(Exception) as told:  # noqa: PT011  # each has its own
        fills(disk.root)
    assert is_disk_full(told.value)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("No space left on device"),
        RuntimeError("database or disk is full (os error 28)"),
        Exception("[Errno 28] No space left on device"),
        OSError(errno.ENOENT, "No space left on device"),
        UserError("disk quota exceeded: No space left on device (os error 28)"),
    ],
)
def test_pain_27_words_about_a_full_disk_are_no_full_disk(error: Exception) -> None:
    assert not is_disk_full(error)


# Each place that is written to, on a disk filled to the brim


def test_pain_27_a_history_takes_all_of_a_record_or_nothing(disk: SmallDisk) -> None:
    spec = QuickStudy(disk.root, None).spec
    store = OptunaStore.create(spec)
    journal = spec.layout.history / "journal.log"
    numbers = [store.ask().number]
    disk.fill()
    with pytest.raises(StudyStoreError, match=r"No space left.*sweep resume quick") as told:
        numbers.extend(store.ask().number for _ in range(100))
    assert is_disk_full(told.value)
    assert journal.read_bytes().endswith(b"\n")
    store.close()
    disk.empty()
    again = OptunaStore.open(spec)
    assert [trial.number for trial in again.trials()] == numbers
    assert again.ask().number == len(numbers)
    assert [path.name for path in spec.layout.history.iterdir()] == ["journal.log"], "nothing was torn"
    again.close()


def test_pain_27_what_cannot_begin_leaves_nothing_that_blocks_a_later_run(disk: SmallDisk) -> None:
    spec = QuickStudy(disk.root, None).spec
    spec.layout.folder.mkdir(parents=True)
    disk.fill()
    with pytest.raises(SweepError, match=r"spec\.yaml: cannot be written \(No space left.*Free space") as told:
        write_atomically(spec.layout.spec, "study: quick\n")
    assert is_disk_full(told.value)
    assert list(spec.layout.folder.iterdir()) == []
    disk.empty()
    write_atomically(spec.layout.spec, "study: quick\n")
    disk.fill()
    with pytest.raises(StudyStoreError, match="No space left"):
        wiring.open_store(spec, unfenced, resuming=False)
    assert not spec.layout.spec.exists(), "`sweep run` would refuse the name for ever"
    disk.empty()
    wiring.open_store(spec, unfenced, resuming=False).close()
    # A driver killed between its spec and its history, or between that and its first record, is no dead end either.
    wiring.open_store(spec, unfenced, resuming=True).close()
    shutil.rmtree(spec.layout.history)
    wiring.open_store(spec, unfenced, resuming=True).close()


def test_pain_27_a_driver_holds_its_study_though_its_lock_cannot_say_who_it_is(disk: SmallDisk) -> None:
    lock = disk.root / "driver.lock"
    lock.touch()
    disk.fill()
    second = driver_lock(lock, study="quick", now=0.0)
    with driver_lock(lock, study="quick", now=0.0), pytest.raises(StudyBusyError, match="another process"):
        second.__enter__()
    assert current_holder(lock) is None


def test_pain_27_a_wish_to_stop_is_heard_on_a_full_disk(disk: SmallDisk) -> None:
    layout = QuickStudy(disk.root, None).spec.layout
    layout.control.mkdir(parents=True)
    disk.fill()
    request_stop(layout, StopRequest.NOW)
    assert StopSignals(layout.control).requested() is StopRequest.DRAIN
    assert [path.name for path in layout.control.iterdir()] == ["stop.json"]


def test_pain_27_notes_of_delivery_are_replaced_whole_and_refusals_appended_whole(disk: SmallDisk) -> None:
    acked = Acknowledged(offset=7, tracking_uri="sqlite:///x", runs=dict.fromkeys(range(500), "r" * 32))
    acked.save(disk.root)
    rejected = Rejected(disk.root)
    rejected.add(None, "one")
    disk.fill()
    acked.offset = 8
    with pytest.raises(OSError, match="No space left"):
        acked.save(disk.root)
    assert Acknowledged.load(disk.root).offset == 7
    with pytest.raises(OSError, match="No space left"):
        rejected.add(None, "x" * 9000)
    disk.empty()
    acked.save(disk.root)
    rejected.add(None, "two")
    assert Acknowledged.load(disk.root).offset == 8
    lines = (disk.root / "rejected.jsonl").read_text().splitlines()
    assert [json.loads(line)["reason"] for line in lines] == ["one", "two"]


def test_pain_27_mlflow_on_a_full_disk_gets_every_record_once_as_soon_as_there_is_room(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", megabytes=16) as disk:
        layout = StudyLayout(disk.root, "demo")
        recorder = SpoolRecorder(layout, layout.tracking_uri)
        recorder.record_all([begun(), *whole_trial(0)])
        until = time.monotonic() + 60
        while undelivered(layout) and time.monotonic() < until:
            time.sleep(0.1)
        recorder.record_all([record for number in range(1, 5) for record in whole_trial(number)])
        disk.fill()
        left = recorder.close(2.0)
        assert left > 0
        disk.empty()
        assert drain(layout, layout.tracking_uri, timeout_seconds=60) == 0
        store = Store(disk.root / "mlflow.db")
        assert sorted(store.runs()) == [str(number) for number in range(5)]
        for number in range(5):
            steps = [step for step, _, _ in store.metric(store.run(number), "accuracy")]
            assert steps == list(STEPS)
        assert store.doubles() == []
        assert not (layout.spool / "rejected.jsonl").exists(), "a full disk is no fault of a record"


def test_pain_27_a_trial_outlives_a_log_that_takes_nothing_more(disk: SmallDisk, tmp_path: Path) -> None:
    with contextlib.closing(WarmParent(("sweep.testing.toy_objectives",))) as warm:
        warm.start()
        process = warm.pid
        executor = LocalExecutor(2, warm, "toy", loader=LOADER)
        full = disk.root / "full.log"
        full.write_bytes(bytes(4096))
        disk.fill()
        events = run(executor, toy_request(tmp_path, reports=3), full)
        assert the_end(events).end is AttemptEnd.FINISHED
        events = run(executor, toy_request(tmp_path, reports=3), disk.root / "logs" / "new.log")
        assert the_end(events).end is AttemptEnd.FINISHED
        assert warm.pid == process, "it was not started anew"
        executor.close()


def test_pain_27_data_that_cannot_be_prepared_leaves_nothing(disk: SmallDisk, parent: WarmParent) -> None:
    disk.fill()
    arguments = {"settings": {"data": {"split_seed": 0}}, "folder": disk.root / "prepared"}
    with pytest.raises(CheckpointError, match="No space left") as told:
        run_job(parent, TASK, "prepare", arguments)
    assert is_disk_full(told.value)
    assert list((disk.root / "prepared").rglob("*")) == []


def test_pain_27_what_an_evaluation_shows_is_replaced_whole(disk: SmallDisk) -> None:
    confusion = np.array([[3, 1], [0, 4]], dtype=np.int64)
    write_confusion(disk.root / "shown", confusion, ["a", "b"])
    before = everything(disk.root / "shown")
    disk.fill()
    with pytest.raises(OSError, match="No space left"):
        write_confusion(disk.root / "shown", confusion, ["a", "b" * 9000])
    assert everything(disk.root / "shown") == before


def test_pain_27_a_study_that_cannot_keep_its_winner_is_paused_and_completes_once_there_is_room(
    disk: SmallDisk, parent: WarmParent
) -> None:
    study = QuickStudy(disk.root, parent)
    result = study.session()
    data = {"rows": {}, "folder": "", "model": "none"}

    def finale() -> LoopResult:
        store = OptunaStore.open(study.spec)
        with Spool.open(study.spec.layout.spool) as spool, contextlib.closing(store):
            recorder = SpoolOnly(spool)
            ending = Finale(
                spec=study.spec,
                store=store,
                recorder=recorder,
                clock=SystemClock(),
                data=data,
                environment={},
                redactor=Redactor(),
            )
            return ending.run(result, evaluate=lambda model, trial: {}, note=lambda text: None)

    disk.fill()
    ended = finale()
    assert (ended.state, ended.cause) == ("PAUSED", StopCause.DISK)
    assert "exports/trial-" in (ended.reason or "")
    assert list(study.spec.layout.exports.glob("*")) == []
    disk.empty()
    assert finale().state == "COMPLETE"
    assert len(list(study.spec.layout.exports.glob("trial-*"))) > 0


def test_pain_27_gc_makes_room_on_a_disk_without_room_for_a_word_and_notes_each_removal_first(disk: SmallDisk) -> None:
    log, gone = disk.root / "gc.jsonl", list[str]()
    rubbish = [disk.root / f"rubbish-{number}" for number in range(3)]

    def noted() -> list[dict[str, Any]]:
        return [json.loads(line) for line in log.read_text().splitlines()]

    def surplus(path: Path) -> Surplus:
        def remove() -> None:
            assert str(path) in [line["path"] for line in noted()], "removed before its note"
            gone.append(str(path))
            path.unlink()

        return Surplus(path=path, disk_bytes=5000, reason="rubbish", remove=remove)

    for path in rubbish:
        path.write_bytes(bytes(5000))
    disk.fill()
    with pytest.raises(CheckpointError, match=r"gc\.jsonl: no room for the note of a removal .* Free a few kilobytes"):
        remove_audited([surplus(path) for path in rubbish], log, now=1.0)
    assert gone == []
    assert log.read_text() == ""
    disk.empty()
    keep_room_for_notes(log)  # as each driver does
    disk.fill()
    remove_audited([surplus(path) for path in rubbish], log, now=1.0)
    assert gone == [str(path) for path in rubbish]
    assert [line["path"] for line in noted()] == gone
    assert {(line["bytes"], line["reason"], line["at"]) for line in noted()} == {(5000, "rubbish", 1.0)}
    disk.fill()
    remove_audited([], log, now=2.0)
    assert (disk.root / "gc.reserve").exists(), "the next gc needs room, too"


def test_pain_27_the_log_of_delivery_does_not_grow_for_ever_nor_end_it(disk: SmallDisk) -> None:
    log = disk.root / "tracking.log"
    code = f"""
import os, sys
from pathlib import Path
from sweep.tracking.bounded_log import BoundedLog
log = BoundedLog(Path({str(log)!r}), most_bytes=10_000)
for number in range(1000):
    log.write(f"line {{number:04d}} " + "x" * 50 + "\\n")
print("the end", flush=True)
"""

    def write() -> None:
        with log.open("ab") as output:
            subprocess.run([sys.executable, "-c", code], stdout=output, stderr=output, check=True)

    write()
    assert {path.name for path in disk.root.iterdir()} == {"tracking.log", "tracking.log.1"}
    assert all(path.stat().st_size < 11_000 for path in disk.root.iterdir())
    assert "line 0999" in log.read_text()
    assert log.read_text().endswith("the end\n")
    disk.fill()
    code = code.replace("print(", "log.write(")
    code = code.replace(", flush=True", "")
    write()
