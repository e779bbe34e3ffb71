"""However a driver or a trial ends, nothing that was started for it lives on, wherever it hid."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from sweep.domain import AttemptEnd
from sweep.execution.local import LocalExecutor
from sweep.execution.warm_client import WarmParent
from sweep.ports import Ended
from sweep.testing.executor import gather, gone_within, is_alive, the_end, toy_request, wait_for
from sweep.testing.toy_objectives import LOADER
from tests.integration.journey.conftest import Shell, descendants

END_SECONDS = 30.0
"""What the promise says; on quiet cores a second or two."""


def escaped(told: Path) -> int:
    """The process that the toy trial started outside of its group and session."""
    pid = int(wait_for(lambda: told.exists() and told.read_text()))
    assert os.getsid(pid) != os.getsid(0)
    assert is_alive(pid)
    return pid


def _heed_hangups() -> None:
    """As a login shell's children do, even if these tests run under ``nohup``."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def on_a_terminal(*arguments: str, folder: Path | None = None) -> tuple[int, subprocess.Popen[bytes]]:
    """Start Python on a terminal of its own; returns the terminal's other side and the process."""
    terminal, inside = pty.openpty()
    command = ["setsid", "--ctty", sys.executable, *arguments]
    process = subprocess.Popen(
        command, stdin=inside, stdout=inside, stderr=inside, cwd=folder, preexec_fn=_heed_hangups
    )
    os.close(inside)
    return terminal, process


@pytest.mark.parametrize("way", ["kill", "leave", "death"])
def test_pain_11_what_escaped_a_trials_group_ends_with_the_trial(parent: WarmParent, tmp_path: Path, way: str) -> None:
    executor = LocalExecutor(2, parent, "toy", loader=LOADER)
    (tmp_path / "other").mkdir()
    other = toy_request(tmp_path / "other", reports=0, then="escape")
    request = toy_request(tmp_path, reports=0, then="escape")
    for each in (other, request):
        executor.start(each, tmp_path / "log")
    innocent = escaped(tmp_path / "other" / "artifact")
    hidden = escaped(tmp_path / "artifact")
    number = request.assignment.trial_number
    if way == "kill":
        executor.kill(number, 1)
    elif way == "leave":
        executor.leave(number, 1)
    else:
        os.kill(psutil.Process(hidden).ppid(), signal.SIGKILL)  # orphans fall to the trial process
    end = the_end(gather(executor, lambda seen: any(isinstance(event, Ended) for event in seen)))
    assert end.end is (AttemptEnd.PREEMPTED if way == "leave" else AttemptEnd.LOST)
    assert end.trial_number == number
    assert gone_within(5, hidden)
    assert is_alive(innocent), "another trial's processes are left alone"
    executor.close()
    assert gone_within(5, innocent)


@pytest.mark.parametrize("way", ["ctrl-c", "sigterm", "kill", "closed terminal"])
def test_pain_11_no_descendant_outlives_its_driver(tmp_path: Path, way: str) -> None:
    terminal, driver = on_a_terminal("-m", "tests.fault.local_driver", str(tmp_path))
    try:
        hidden = escaped(tmp_path / "artifacts-0")
        family = {child.pid for child in descendants(driver.pid)} | {hidden}
        assert len(family) >= 3  # warm parent, trial, what escaped
        if way == "ctrl-c":
            os.write(terminal, b"\x03")
        elif way == "closed terminal":
            os.close(terminal)
        else:
            driver.send_signal(signal.SIGTERM if way == "sigterm" else signal.SIGKILL)
        assert gone_within(END_SECONDS, driver.pid, *family), [pid for pid in family if is_alive(pid)]
    finally:
        driver.kill()
        driver.wait()
        if way != "closed terminal":
            os.close(terminal)
    if way != "kill":
        assert (tmp_path / "result").read_text() == "PAUSED PAUSED ()"


def test_pain_11_a_sweep_whose_terminal_is_closed_commits_leaves_nothing_and_goes_on(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    spec = shell.write_spec(trials=1, rows=1200)
    terminal, driver = on_a_terminal("-m", "sweep.cli.main", "run", str(spec), folder=tmp_path)
    said = bytearray()
    try:
        while b"RUNNING" not in said or b"starting" in said[-2000:]:  # the live view shows the trial's steps
            said += os.read(terminal, 65536)
        family = {child.pid for child in descendants(driver.pid)}
        assert len(family) > 5
        os.close(terminal)
        assert gone_within(END_SECONDS, driver.pid, *family), [pid for pid in family if is_alive(pid)]
    finally:
        driver.kill()
        driver.wait()
    status = shell.json("status", "quick")
    assert (status["state"], status["trials"]) == ("PAUSED", {"PAUSED": 1})
    (log,) = (tmp_path / "mlruns/studies/quick/logs").glob("trial-*.log")
    assert "which is committed" in log.read_text()
