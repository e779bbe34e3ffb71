"""Pain 8, retention deletes a checkpoint still needed: through any history, what is needed is there, and intact."""

from __future__ import annotations

import dataclasses
import errno
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from sweep.checkpoints import FolderKeeper, committing, intact, model_folder, read_manifest, step_folder
from sweep.checkpoints.garbage import EVIDENCE_SECONDS, committed_bytes, remove_audited
from sweep.checkpoints.space import disk_use
from sweep.checkpoints.surplus import Surplus
from sweep.cli.gc import find_surplus
from sweep.cli.main import app
from sweep.domain import Assignment, AttemptEnd, HyperparameterValue, TrainRequest, TrialState
from sweep.engine.control import StopRequest
from sweep.engine.lock import driver_lock
from sweep.engine.loop import LoopResult, StudyLoop
from sweep.errors import CheckpointError, is_disk_full
from sweep.execution.simulated import SimulatedExecutor, VirtualClock
from sweep.finale import lineage_of
from sweep.layout import StudyLayout
from sweep.ports import Event, Reported
from sweep.redaction import Redactor
from sweep.search import OptunaStore, read_trials
from sweep.spec import parse_spec, spec_text, stored_spec
from sweep.spec.model import StudySpec
from sweep.study_files import write_atomically
from sweep.testing.doubles import MemoryRecorder, SilentObserver
from tests.integration.journey.conftest import wait_for
from tests.small_disk import small_disk

SPEC = """
study: retention
objective:
  model: bundled:minilm-l6
  data: bundled:tweets
  training: {epochs: 4}
search:
  learning_rate: 1e-6..1e-2 log
metric: {name: accuracy, from: best}
budget: {trials: 7}
keep: 2
storage: .
"""
SWEEP = [sys.executable, "-m", "sweep.cli.main"]
_DEAD = 2**22 + 1


class Crash(BaseException):
    """The driver dies here: nothing after this point happens."""


class CommittingExecutor:
    """Simulated attempts whose checkpoints are real: each report's is committed before the driver hears of it."""

    def __init__(self, inner: SimulatedExecutor) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def wait(self, timeout_seconds: float) -> Sequence[Event]:
        return [self._committed(event) for event in self._inner.wait(timeout_seconds)]

    def _committed(self, event: Event) -> Event:
        if not isinstance(event, Reported):
            return event
        report = event.report
        request = self._inner._attempts[report.trial_number, report.attempt].request
        target = commit(Path(request.checkpoints), report.step)
        return Reported(report=dataclasses.replace(report, checkpoint=str(target)))


def commit(trial_folder: Path, step: int) -> Path:
    target = step_folder(trial_folder, step)
    with committing(target, {"step": step}) as folder:
        for name in ("model/model.safetensors", "state/optimizer.safetensors"):
            (folder / name).parent.mkdir(parents=True)
            (folder / name).write_bytes(name.encode() * step)
    return target


@dataclass(frozen=True)
class Session:
    """What happens to one driver.

    Attributes:
        writes: Durable writes before it dies; None lets it live.
        reports: Reports before it is stopped; None lets it run.
        ends: How some attempts end, by (trial, step).
        gc: Whether garbage is collected afterwards.
    """

    writes: int | None
    reports: int | None
    ends: Mapping[tuple[int, int], AttemptEnd]
    gc: bool


SESSIONS = st.builds(
    Session,
    writes=st.none() | st.integers(1, 60),
    reports=st.none() | st.integers(1, 12),
    ends=st.dictionaries(
        st.tuples(st.integers(0, 6), st.integers(1, 6)),
        st.sampled_from([AttemptEnd.LOST, AttemptEnd.FAILED, AttemptEnd.OOM, AttemptEnd.DIVERGED, AttemptEnd.TIMEOUT]),
        max_size=4,
    ),
    gc=st.booleans(),
)


@dataclass
class Retention:
    """A study in a folder, driven by sessions; what it must hold is looked at all the time."""

    folder: Path
    scores: Sequence[float]
    clock: VirtualClock = field(default_factory=VirtualClock)

    @property
    def spec(self) -> StudySpec:
        return parse_spec(SPEC, place="study.yaml", folder=self.folder)

    def curve(self, drawn: Mapping[str, HyperparameterValue], seed: int, fidelity: float) -> Mapping[str, float]:
        return {"accuracy": self.scores[int(seed + fidelity * 16) % len(self.scores)]}

    def drive(self, session: Session) -> LoopResult | None:
        """One driver's session; None if it died."""
        spec, layout = self.spec, self.spec.layout
        is_new = not layout.spec.exists()
        layout.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(layout.spec, spec_text(spec.resolved()))
        store = OptunaStore.create(spec) if is_new else OptunaStore.open(spec)
        writes = itertools.count(1)
        observer = SilentObserver()
        ends = dict(session.ends)

        def before(*_: object) -> None:
            if next(writes) == session.writes:
                raise Crash

        class DyingKeeper(FolderKeeper):
            """Dies between two deletions, too."""

            def surplus(self, trial_number: int, resumable: set[int], weights: set[int]) -> Any:
                for item in super().surplus(trial_number, resumable, weights):
                    before()
                    yield item

        loop = StudyLoop(
            spec=spec,
            store=Dying(store, before),
            executor=CommittingExecutor(
                SimulatedExecutor(
                    clock=self.clock,
                    curve=self.curve,
                    max_fidelity=4.0,
                    fate=lambda number, attempt, step: ends.pop((number, step), None),
                )
            ),
            recorder=MemoryRecorder(),
            keeper=DyingKeeper(layout.checkpoints),
            clock=self.clock,
            observer=observer,
            request_for=self.request,
            log_of=layout.log,
            artifacts_of=layout.artifacts,
            stop_requested=lambda: (
                StopRequest.NONE if session.reports is None or observer.reports < session.reports else StopRequest.NOW
            ),
        )
        try:
            return loop.run()
        except Crash:
            return None
        finally:
            store.close()

    def request(self, assignment: Assignment) -> TrainRequest:
        return TrainRequest(
            assignment=assignment,
            prepared="",
            model="",
            settings={},
            metric=self.spec.rule,
            evaluate_at=self.spec.evaluate_at,
            fidelity_unit=self.spec.fidelity_unit,
            checkpoints=str(self.spec.layout.checkpoints(assignment.trial_number)),
            artifacts="",
        )

    def collect(self) -> list[Path]:
        """What ``sweep gc`` does; returns what it removed."""
        layout = self.spec.layout
        found = list(find_surplus(self.spec, time.time()))
        remove_audited(found, layout.removals, time.time())
        return [item.path for item in found]

    def check_needed(self) -> None:
        """The best, the top-k, the defaults, and what unfinished trials continue from, are there and intact."""
        spec, layout = self.spec, self.spec.layout
        trials = read_trials(spec)
        complete = [t for t in trials if t.state is TrialState.COMPLETE and t.value is not None]
        best = sorted(complete, key=lambda t: (-(t.value or 0), t.number))[: spec.keep]
        for trial in [*best, *(t for t in trials[:1] if t.state.is_finished and t.step is not None)]:
            folder = step_folder(layout.checkpoints(trial.number), trial.step or 0)
            assert intact(folder), f"the model of trial {trial.number} is gone"
            assert model_folder(folder).is_dir()
        for trial in trials:
            if trial.state.is_finished or trial.step is None:
                continue
            assert intact(step_folder(layout.checkpoints(trial.number), trial.step)), "the best of an unfinished trial"
            newest = FolderKeeper(layout.checkpoints).newest(trial.number)
            reported = max(report_steps(spec, trial.number))
            assert newest is not None, f"trial {trial.number} cannot be resumed"
            assert read_manifest(Path(newest)).meta["step"] >= reported


def report_steps(spec: StudySpec, trial_number: int) -> list[int]:
    store = OptunaStore.open(spec)
    try:
        return [report.step for report in store.reports(trial_number)]
    finally:
        store.close()


class Dying:
    """A store before each of whose writes the driver may die."""

    def __init__(self, inner: OptunaStore, before: Any) -> None:
        self._inner, self._before = inner, before

    def __getattr__(self, name: str) -> Any:
        if name in {"ask", "begin_attempt", "report", "pause", "tell"}:
            self._before()
        return getattr(self._inner, name)


PHASES = (Phase.explicit, Phase.reuse, Phase.generate)  # shrinking a history takes minutes
HISTORIES: dict[str, Any] = {
    "sessions": st.lists(SESSIONS, min_size=1, max_size=5),
    "scores": st.lists(st.floats(0, 1, width=16), min_size=3, max_size=9),
}


@pytest.fixture(scope="module")
def quick_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder in memory, where there is one: thousands of fsyncs prove nothing here."""
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else tmp_path_factory.getbasetemp()))
    yield folder
    shutil.rmtree(folder)


@settings(max_examples=15, deadline=None, phases=PHASES)
@given(**HISTORIES)
def test_pain_08_through_any_history_of_scores_crashes_and_gc_nothing_needed_is_deleted(
    quick_folder: Path, sessions: list[Session], scores: list[float]
) -> None:
    live_through(quick_folder, sessions, scores)


@pytest.mark.slow
@settings(max_examples=400, deadline=None, phases=PHASES)
@given(**HISTORIES)
def test_pain_08_through_hundreds_of_histories_nothing_needed_is_deleted(
    quick_folder: Path, sessions: list[Session], scores: list[float]
) -> None:
    live_through(quick_folder, sessions, scores)


def live_through(folder: Path, sessions: list[Session], scores: list[float]) -> None:
    study = Retention(Path(tempfile.mkdtemp(dir=folder)), scores)
    layout = study.spec.layout
    for session in sessions:
        study.drive(session)
        study.check_needed()
        if session.gc:
            study.collect()
            study.check_needed()
            assert disk_use(layout)["checkpoints"] == committed_bytes(layout)
    result = study.drive(Session(writes=None, reports=None, ends={}, gc=False))
    assert result is not None
    assert result.state in {"COMPLETE", "FAILED"}
    study.check_needed()
    study.collect()
    study.check_needed()
    assert disk_use(layout)["checkpoints"] == committed_bytes(layout)
    kept = {path.parent.name for path in layout.folder.glob("checkpoints/*/step-*")}
    if result.state == "COMPLETE":
        assert len(kept) <= study.spec.keep + 1


def test_pain_08_a_full_disk_never_costs_the_checkpoint_that_should_become_smaller(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", megabytes=1) as disk:
        folder = disk.root / "trial-0000"
        best, newest = commit(folder, 4), commit(folder, 8)
        disk.fill()
        keeper = FolderKeeper(lambda number: folder)
        with pytest.raises(CheckpointError) as told:
            keeper.keep(0, {8}, {4})
        assert is_disk_full(told.value)
        assert intact(best)
        assert intact(newest)
        disk.empty()
        keeper.keep(0, {8}, {4})
        assert intact(best)
        assert not (best / "state").exists()


def test_pain_08_a_checkpoint_that_cannot_be_read_for_a_moment_is_not_taken_for_a_damaged_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    best = commit(tmp_path / "trial-0000", 4)
    keeper = FolderKeeper(lambda number: tmp_path / "trial-0000")
    read = Path.read_bytes

    def too_many_files(path: Path) -> bytes:
        if path.name == "manifest.json":
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return read(path)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", too_many_files)
        keeper.keep(0, set(), {4})
    assert intact(best)
    (best / "manifest.json").write_bytes(b"{")
    keeper.keep(0, set(), {4})
    assert not best.exists()


# sweep gc


@pytest.fixture
def finished(tmp_path: Path) -> Retention:
    study = Retention(tmp_path, [0.2, 0.9, 0.5, 0.7])
    result = study.drive(Session(writes=None, reports=None, ends={}, gc=False))
    assert result is not None
    assert result.state == "COMPLETE"
    return study


def litter(layout: StudyLayout) -> set[Path]:
    """What crashes leave behind in a study, and exports of a trial no longer kept."""
    own_host = commit_host(layout.storage)
    folders = {
        layout.checkpoints(0) / f".tmp-step-00000099-{_DEAD}-{own_host}-abcdef01",
        layout.checkpoints(0) / ".trash-step-00000001-abcdef01",
        layout.exports / ".trial-0000-k2j4",
    }
    files = {
        layout.folder / f".spec.yaml-{_DEAD}",
        layout.control / f".stop-{_DEAD}",
        layout.artifacts(0) / ".confusion_matrix.json.new",
        layout.history / "journal-torn-at-12.bin",
    }
    for path in files | {folder / "weights" for folder in folders}:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"garbage")
    old = time.time() - EVIDENCE_SECONDS - 10
    os.utime(layout.history / "journal-torn-at-12.bin", (old, old))
    (layout.history / "journal-torn-at-99.bin").write_bytes(b"of late")
    return folders | files


def commit_host(folder: Path) -> str:
    """The token by which this host marks its temporary folders."""
    with committing(folder / "probe", {}) as temporary:
        host = temporary.name.rsplit("-", 2)[1]
    shutil.rmtree(folder / "probe")
    return host


def export(study: Retention, number: int, folder: Path) -> None:
    trial = read_trials(study.spec)[number]
    lineage = lineage_of(study.spec, trial, data={}, environment={}, run_id=None, now=0.0, redactor=Redactor())
    folder.mkdir(parents=True)
    lineage.write(folder)


def collect(study: Retention, *arguments: str) -> dict[str, Any]:
    """``sweep gc`` with ``--json``."""
    command = ["gc", "retention", "--storage", str(study.folder), "--json", *arguments]
    ended = CliRunner().invoke(app, command, catch_exceptions=False)
    assert ended.exit_code == 0
    result: dict[str, Any] = json.loads(ended.stdout)
    return result


def test_pain_08_gc_lists_and_removes_what_crashes_left_and_notes_each_removal(finished: Retention) -> None:
    layout = finished.spec.layout
    export_cut_short = layout.exports / ".for-the-web-site-k2j4"
    export_cut_short.mkdir(parents=True)
    (export_cut_short / "weights").write_bytes(b"garbage")
    garbage = {*litter(layout), export_cut_short}
    listed = collect(finished, "--dry-run")
    assert {Path(row["path"]) for row in listed["removed"]} == garbage
    assert all(path.exists() for path in garbage)
    assert not layout.removals.exists()
    removed = collect(finished)
    assert removed["removed"] == listed["removed"]
    assert not any(path.exists() for path in garbage)
    assert (layout.history / "journal-torn-at-99.bin").exists(), "evidence of late stays"
    assert removed["disk"]["checkpoints"] == removed["committed_bytes"] > 0
    lines = [json.loads(line) for line in layout.removals.read_text().splitlines()]
    assert {(line["path"], line["bytes"]) for line in lines} == {(str(path), 7) for path in garbage}
    assert all(line["reason"] and abs(line["at"] - time.time()) < 600 for line in lines)
    finished.check_needed()
    assert collect(finished)["removed"] == []


def test_pain_08_gc_keeps_exports_somebody_made_and_drops_those_of_trials_no_longer_kept(finished: Retention) -> None:
    layout = finished.spec.layout
    trials = read_trials(finished.spec)
    kept = {int(folder.parent.name[-4:]) for folder in layout.folder.glob("checkpoints/*/step-*")}
    lost = next(trial for trial in trials if trial.number not in kept and trial.step is not None)
    for number in (lost.number, min(kept)):
        export(finished, number, layout.export(number))
    removed = collect(finished)["removed"]
    assert [Path(row["path"]) for row in removed] == [layout.export(lost.number)]
    export(finished, lost.number, layout.exports / "for-the-web-site")
    pinned = commit(layout.checkpoints(lost.number), lost.step or 0)
    other = commit(layout.checkpoints(lost.number), 77)
    removed = {Path(row["path"]) for row in collect(finished)["removed"]}
    assert removed == {other, pinned / "state"}
    assert intact(pinned)


def test_pain_08_gc_refuses_while_a_driver_holds_the_study(finished: Retention) -> None:
    garbage = litter(finished.spec.layout)
    command = [sys.executable, "-m", "sweep.cli.main", "gc", "retention", "--storage", str(finished.folder)]
    with driver_lock(finished.spec.layout.lock, study="retention", now=time.time()):
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2
    assert f"is being driven by process {os.getpid()}" in ended.stderr
    assert all(path.exists() for path in garbage)


def test_pain_08_gc_removes_prepared_data_only_when_told_to_and_none_that_a_study_names(finished: Retention) -> None:
    layout = finished.spec.layout
    for key in ("used", "unused"):
        with committing(layout.prepared / key, {}) as folder:
            (folder / "rows").write_bytes(b"rows")
    # The storage was moved since: its studies name the data where it was.
    (layout.folder / "data.json").write_text(json.dumps({"folder": "/elsewhere/prepared/used"}))
    assert collect(finished)["removed"] == []
    removed = collect(finished, "--prepared")["removed"]
    assert [Path(row["path"]).name for row in removed] == ["unused"]
    assert [folder.name for folder in layout.prepared.iterdir() if folder.is_dir()] == ["used"]


def test_pain_08_a_removal_is_on_record_before_it_happens(tmp_path: Path) -> None:
    log, path = tmp_path / "gc.jsonl", tmp_path / "garbage"
    path.write_bytes(b"garbage")
    noted: list[list[str]] = []

    def remove() -> None:
        noted.append([json.loads(line)["path"] for line in log.read_text().splitlines()])

    remove_audited([Surplus(path=path, disk_bytes=7, reason="garbage", remove=remove)], log, now=1.0)
    assert noted == [[str(path)]]


SLOW_TO_CHECK = """
import time
from pathlib import Path
from sweep.testing.checkpointing_objective import QuickObjective

class Slow(QuickObjective):
    def check(self, request):
        Path("checking").touch()
        while not Path("go-on").exists():
            time.sleep(0.05)
        return super().check(request)
"""


def test_pain_08_gc_leaves_the_prepared_data_of_a_study_that_is_just_starting_and_a_driver_clears_up_after_dead_ones(
    finished: Retention,
) -> None:
    folder, prepared = finished.folder, finished.spec.layout.prepared
    garbage = litter(starting := StudyLayout(folder, "starting")) - {starting.history / "journal-torn-at-12.bin"}
    (prepared / f".tmp-key-{_DEAD}-{commit_host(folder)}-abcdef01").mkdir(parents=True)
    (folder / "slow.py").write_text(SLOW_TO_CHECK)
    spec = SPEC.replace("study: retention", "study: starting").replace("trials: 7", "trials: 1")
    spec = spec.replace("model: bundled:minilm-l6", "task: slow:Slow\n  model: none")
    (folder / "starting.yaml").write_text(spec)
    gc = ["gc", "retention", "--storage", str(folder), "--prepared"]
    with (folder / "run.log").open("w") as log:
        run = subprocess.Popen([*SWEEP, "run", "starting.yaml"], cwd=folder, stdout=log, stderr=log)
    try:
        wait_for("the check", lambda: run.poll() is not None or (folder / "checking").exists())
        (data,) = [path for path in prepared.iterdir() if (path / "manifest.json").exists()]
        refused = subprocess.run([*SWEEP, *gc], cwd=folder, capture_output=True, text=True, timeout=60)
        assert refused.returncode == 2
        assert f"{prepared}: a study that is just starting" in refused.stderr
        assert intact(data)
        (folder / "go-on").touch()
        assert run.wait(120) == 0, (folder / "run.log").read_text()
    finally:
        run.kill()
    assert not any(path.exists() for path in garbage)
    assert list(prepared.glob(".*")) == []
    assert (starting.history / "journal-torn-at-12.bin").exists(), "evidence is for people to look at"
    assert collect(finished, "--prepared")["removed"] == []
    assert intact(data)


def test_pain_08_a_temporary_file_whose_writer_lives_stays(finished: Retention) -> None:
    layout = finished.spec.layout
    layout.control.mkdir(exist_ok=True)
    for pid in (_DEAD, os.getpid()):
        (layout.control / f".stop-{pid}").touch()
    collect(finished)
    assert [path.name for path in layout.control.iterdir()] == [f".stop-{os.getpid()}"]


def test_pain_08_gc_knows_the_study_by_its_spec_file_and_that_file_s_secrets(finished: Retention) -> None:
    stored = finished.spec.layout.spec
    secret = "history: postgresql://ann:s3cr3t@127.0.0.1:1/sweeps\n"
    given = finished.folder / "study.yaml"
    given.write_text(SPEC + secret)
    stored.write_text(
        spec_text(stored_spec(parse_spec(SPEC + secret, place="", folder=finished.folder), Redactor())[0])
    )
    assert "s3cr3t" not in stored.read_text()
    ended = CliRunner().invoke(app, ["gc", str(given)])
    assert "127.0.0.1" in str(ended.exception), "it got as far as the history"
    assert "s3cr3t" not in str(ended.exception)
