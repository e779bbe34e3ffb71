"""Jobs besides training survive what kills their process."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import psutil
import pytest

from sweep.errors import ExecutionError
from sweep.execution.jobs import run_job
from sweep.execution.warm_client import WarmParent
from sweep.testing.toy_objectives import LOADER


def _kill_children(parent: WarmParent, times: int, killed: list[int]) -> None:
    until = time.monotonic() + 30
    while len(killed) < times and time.monotonic() < until:
        for child in psutil.Process(parent.pid).children() if parent.pid else ():
            if child.pid not in killed:
                killed.append(child.pid)
                os.kill(child.pid, signal.SIGKILL)
        time.sleep(0.01)


def test_a_job_whose_process_is_killed_runs_again_and_gives_up_in_the_end(tmp_path: Path) -> None:
    parent = WarmParent(modules=(LOADER.partition(":")[0],))
    parent.start()
    killed: list[int] = []
    killer = threading.Thread(target=_kill_children, args=(parent, 3, killed))
    killer.start()
    try:
        arguments = {"settings": {"raise": "hang"}, "folder": tmp_path}
        with pytest.raises(ExecutionError, match=r"prepare of toy, tried 3 times: trial process killed by signal 9"):
            run_job(parent, "toy", "prepare", arguments, loader=LOADER, timeout_seconds=30)
        killer.join()
        assert len(killed) == 3
        assert run_job(parent, "toy", "prepare", {"settings": {}, "folder": tmp_path}, loader=LOADER)["folder"]
    finally:
        parent.close()
