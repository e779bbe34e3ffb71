"""One driver for a study."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from sweep.engine.lock import current_holder, driver_lock
from sweep.errors import StudyBusyError, SweepError

HOLD = """
import sys, time
from pathlib import Path
from sweep.engine.lock import driver_lock
with driver_lock(Path(sys.argv[1]), study="s", now=1.0):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_driver_is_refused_with_who_holds_it_and_since_when(tmp_path: Path) -> None:
    lock = tmp_path / "driver.lock"
    with driver_lock(lock, study="s", now=1_700_000_000.0):
        with (
            pytest.raises(StudyBusyError, match=rf"process {os.getpid()} on .* since 20"),
            driver_lock(lock, study="s", now=2.0),
        ):
            pass
        holder = current_holder(lock)
        assert holder is not None
        assert holder.pid == os.getpid()
    assert current_holder(lock) is None


def test_a_killed_driver_lets_go(tmp_path: Path) -> None:
    lock = tmp_path / "driver.lock"
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(lock)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == b"held\n"
        assert current_holder(lock) is not None
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
    assert current_holder(lock) is None
    with driver_lock(lock, study="s", now=3.0):
        pass


def test_a_refusal_says_how_to_end_a_holder_that_does_not_answer(tmp_path: Path) -> None:
    lock = tmp_path / "driver.lock"
    with (
        driver_lock(lock, study="s", now=1.0),
        pytest.raises(StudyBusyError, match=f"`sweep stop s`.*`kill -9 {os.getpid()}` ends it"),
        driver_lock(lock, study="s", now=2.0),
    ):
        pass


def test_a_refusal_says_of_a_holder_on_another_host_where_it_can_be_seen(tmp_path: Path) -> None:
    lock = tmp_path / "driver.lock"
    with driver_lock(lock, study="s", now=1.0):
        lock.write_text(json.dumps({"pid": 7, "host": "elsewhere", "since": 1.0}))
        with (
            pytest.raises(
                StudyBusyError, match=r"process 7 on elsewhere since .* can be seen on elsewhere alone"
            ) as told,
            driver_lock(lock, study="s", now=2.0),
        ):
            pass
    assert "kill" not in str(told.value)


def test_whoever_looks_for_the_holder_is_never_taken_for_one(tmp_path: Path) -> None:
    lock = tmp_path / "driver.lock"
    with driver_lock(lock, study="s", now=1.0):
        pass
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            current_holder(lock)

    lookers = [threading.Thread(target=look) for _ in range(3)]
    for looker in lookers:
        looker.start()
    try:
        for _ in range(200):
            with driver_lock(lock, study="s", now=1.0):
                pass
    finally:
        over.set()
        for looker in lookers:
            looker.join()


def test_a_study_that_cannot_be_locked_is_told_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    lock = tmp_path / "file" / "driver.lock"
    with pytest.raises(SweepError, match=r"driver\.lock: cannot be opened"), driver_lock(lock, study="s", now=1.0):
        pass
