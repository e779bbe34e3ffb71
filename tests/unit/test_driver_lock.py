"""One driver for a study."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sweep.engine.lock import current_holder, driver_lock
from sweep.errors import StudyBusyError

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
