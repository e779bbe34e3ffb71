"""The study's history survives torn records, killed writers, stale locks and full disks."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from sweep.domain import AttemptEnd, Setback, TrialState
from sweep.errors import StudyStoreError
from sweep.search import OptunaStore, read_trials
from sweep.search.journal import mend_torn_tail
from sweep.spec.model import DataSpec, ObjectiveSpec, SearchSpec, StudySpec, TrainingSpec
from sweep.spec.space import FloatRange
from sweep.testing.study_store import evaluation


def spec_in(storage: Path) -> StudySpec:
    return StudySpec(
        study="study",
        objective=ObjectiveSpec(
            model="bundled:minilm-l6",
            data=DataSpec(source="bundled:tweets"),
            training=TrainingSpec(epochs=4.0),
        ),
        search=SearchSpec(space={"learning_rate": FloatRange(low=1e-5, high=3e-3, log=True)}),
        storage=str(storage),
    )


def journal_of(spec: StudySpec) -> Path:
    return spec.layout.history / "journal.log"


def begun(spec: StudySpec) -> OptunaStore:
    store = OptunaStore.create(spec)
    for number in range(2):
        store.ask()
        store.begin_attempt(number)
        store.report(evaluation(number, 5, 0.5), 0.5)
    store.tell(0, TrialState.COMPLETE, evaluation(0, 5, 0.5))
    return store


LAST_WRITES = {
    "ask": lambda store: store.ask(),
    "report": lambda store: store.report(evaluation(1, 7, 0.6), 0.6),
    "tell": lambda store: store.tell(1, TrialState.COMPLETE, evaluation(1, 5, 0.5)),
}


@pytest.mark.parametrize("write", LAST_WRITES)
def test_a_tail_torn_at_any_byte_is_mended_and_nothing_before_it_is_lost(tmp_path: Path, write: str) -> None:
    spec = spec_in(tmp_path / "original")
    store = begun(spec)
    before = list(store.trials())
    whole_bytes = journal_of(spec).stat().st_size
    LAST_WRITES[write](store)
    after = list(store.trials())
    content = journal_of(spec).read_bytes()
    torn = spec_in(tmp_path / "torn")
    journal_of(torn).parent.mkdir(parents=True)
    edges = [i for i in range(whole_bytes, len(content)) if content[i - 1 : i] == b"\n"] + [len(content)]
    near = {e + d for e in edges for d in range(-3, 4)} | set(range(whole_bytes, len(content), 7))
    for cut in sorted(c for c in near if whole_bytes <= c <= len(content)):
        journal_of(torn).write_bytes(content[:cut])
        read = read_trials(torn)
        assert journal_of(torn).read_bytes() == content[:cut], "a reader wrote"
        store = OptunaStore.open(torn)
        trials = list(store.trials())
        assert trials[0] == before[0]
        assert read == trials
        if cut == len(content):
            assert trials == after
        elif write == "tell":
            assert trials[1] == before[1]  # no end is half told
        # What was lost can be done again, and what was written is whole afterwards.
        LAST_WRITES[write](store) if write != "ask" else store.ask()
        assert [t.number for t in OptunaStore.open(torn).trials()] == [t.number for t in store.trials()]
        assert all(json.loads(line) for line in journal_of(torn).read_bytes().splitlines())
        if write == "report":
            lasting = OptunaStore.open(torn)
            assert list(lasting.reports(1)) == list(store.reports(1))
            assert lasting._history.storage.get_trial(1).intermediate_values == {500: 0.5, 750: 0.6}
    evidence = list(journal_of(torn).parent.glob("journal-torn-at-*.bin"))
    assert evidence


def test_garbage_after_the_last_record_is_kept_as_evidence(tmp_path: Path) -> None:
    spec = spec_in(tmp_path)
    begun(spec).close()
    path = journal_of(spec)
    whole = path.read_bytes()
    for garbage in (b"\0" * 700, b"\0" * 10 + b"\n", b'{"op_code":4,', b"[1]\n", b"\n\n"):
        path.write_bytes(whole + garbage)
        assert mend_torn_tail(path) == len(garbage)
        assert path.read_bytes() == whole
        evidence = path.with_name(f"journal-torn-at-{len(whole)}.bin")
        assert evidence.read_bytes() == garbage
        evidence.unlink()


def test_damage_in_the_middle_is_told_and_not_cut_away(tmp_path: Path) -> None:
    spec = spec_in(tmp_path)
    begun(spec).close()
    lines = journal_of(spec).read_bytes().splitlines(keepends=True)
    damaged = b"".join([*lines[:3], lines[3][:20] + b"\n", *lines[4:]])
    journal_of(spec).write_bytes(damaged)
    for opened in (OptunaStore.open, read_trials):
        with pytest.raises(StudyStoreError, match=r"journal\.log.*backup"):
            opened(spec)
    assert journal_of(spec).read_bytes() == damaged


ALTERED = {
    "a field is gone": (b'"fidelity":0.5,', b""),
    "a state is none": (b'"sweep:state":"COMPLETE"', b'"sweep:state":"WELL"'),
    "a report is a number": (b'"sweep:report:5":.*', b'"sweep:report:5":7}}'),
}


@pytest.mark.parametrize("altered", ALTERED)
def test_records_that_say_what_nobody_can_have_written_are_told_with_a_remedy(tmp_path: Path, altered: str) -> None:
    spec = spec_in(tmp_path)
    begun(spec).close()
    written, by = ALTERED[altered]
    damaged = re.sub(written, by, journal_of(spec).read_bytes())
    journal_of(spec).write_bytes(damaged)
    for opened in (OptunaStore.open, read_trials):
        with pytest.raises(StudyStoreError, match=r"journal\.log.*damaged.*backup"):
            opened(spec)
    assert journal_of(spec).read_bytes() == damaged


def test_what_a_later_release_wrote_besides_of_a_setback_is_left_out(tmp_path: Path) -> None:
    spec, setback = spec_in(tmp_path), Setback(attempt=1, end=AttemptEnd.LOST, step=5, reason="its node is gone")
    store = begun(spec)
    store.pause(1, setback)
    store.close()
    content = journal_of(spec).read_bytes()
    journal_of(spec).write_bytes(content.replace(b'"reason":', b'"told_by":"a later release","reason":'))
    assert read_trials(spec)[1].setbacks == (setback,)
    assert OptunaStore.open(spec).trials()[1].setbacks == (setback,)


def test_a_stale_lock_does_not_hold_up_the_next_driver(tmp_path: Path) -> None:
    spec = spec_in(tmp_path)
    begun(spec).close()
    Path(f"{journal_of(spec)}.lock").symlink_to(journal_of(spec))
    began = time.monotonic()
    store = OptunaStore.open(spec)
    store.ask()
    assert time.monotonic() - began < 5  # Optuna alone waits for 30 s
    store.close()


def test_after_a_failed_write_the_store_refuses_and_the_file_is_whole_for_the_next(tmp_path: Path) -> None:
    import resource

    spec = spec_in(tmp_path)
    store = begun(spec)
    before = list(store.trials())
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    # The kernel ends writes at this size with EFBIG, in the middle of the record as a full disk would.
    resource.setrlimit(resource.RLIMIT_FSIZE, (journal_of(spec).stat().st_size + 30, hard))
    try:
        with pytest.raises(StudyStoreError, match=r"journal\.log.*File too large.*sweep resume study"):
            store.report(evaluation(1, 7, 0.6), 0.6)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)
    with pytest.raises(StudyStoreError, match="an earlier write failed"):
        store.ask()
    again = OptunaStore.open(spec)
    assert list(again.trials()) == before
    again.report(evaluation(1, 7, 0.6), 0.6)
    assert read_trials(spec) == list(again.trials())


WRITER = """
import sys
from pathlib import Path
from sweep.domain import AttemptEnd, Setback, TrialState
from sweep.search import OptunaStore
from tests_history import spec_in
from sweep.testing.study_store import evaluation
from scipy.stats import qmc
spec = spec_in(Path(sys.argv[1]))
store = OptunaStore.open(spec)
print("ready", flush=True)
while True:
    number = store.ask().number
    print("asked", number, flush=True)
    store.begin_attempt(number)
    report = evaluation(number, 5, 0.5)
    store.report(report, 0.5)
    print("reported", number, flush=True)
    store.tell(number, TrialState.COMPLETE, report)
    print("told", number, flush=True)
"""


def test_a_killed_driver_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    shutil.copy(__file__, tmp_path / "tests_history.py")
    spec = spec_in(tmp_path)
    OptunaStore.create(spec).close()
    generator = random.Random(11)
    counts = [0]
    for _ in range(3):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(tmp_path)},
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            time.sleep(generator.uniform(0.01, 0.2))
            process.send_signal(signal.SIGKILL)
            acknowledged = [line.split() for line in process.stdout.read().splitlines() if line.count(" ") == 1]
        read = read_trials(spec)
        store = OptunaStore.open(spec)
        trials = store.trials()
        assert read == list(trials)
        for what, number in acknowledged:
            trial = trials[int(number)]
            assert what != "reported" or len(store.reports(trial.number)) == 1
            assert what != "told" or trial.state is TrialState.COMPLETE
        for trial in trials:
            if not trial.state.is_finished:
                store.tell(trial.number, TrialState.CANCELLED, None)
        counts.append(len(trials))
        store.close()
    assert counts == sorted(counts)
    assert counts[-1] > 4
    drawn = [t.hyperparameters["learning_rate"] for t in read_trials(spec)]
    assert len(set(drawn)) == len(drawn)


def test_reading_while_the_driver_writes_never_fails_and_never_goes_back(tmp_path: Path) -> None:
    spec = spec_in(tmp_path)
    store = OptunaStore.create(spec)
    done = threading.Event()
    problems: list[BaseException] = []
    seen: list[int] = []

    def read() -> None:
        while not done.is_set():
            try:
                seen.append(len(read_trials(spec)))
            except (StudyStoreError, ValueError) as err:
                problems.append(err)

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(60):
        store.ask()
        store.begin_attempt(number)
        store.report(evaluation(number, 5, 0.5), 0.5)
    done.set()
    reader.join()
    assert problems == []
    assert seen == sorted(seen)
    assert len(seen) > 3
    assert not list(spec.layout.history.glob("*.bin"))
