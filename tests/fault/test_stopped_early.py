"""Ctrl-C while a study is still starting: a clean end, nothing left, and it can be started again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.journey.conftest import Shell, descendants, end, wait_for


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_a_study_stopped_while_it_starts_ends_cleanly_and_can_be_started(tmp_path: Path, number: int) -> None:
    shell = Shell(tmp_path)
    spec = tmp_path / "study.yaml"
    spec.write_text(
        "study: quick\n"
        "objective:\n"
        "  task: sweep.testing.checkpointing_objective:QuickObjective\n"
        "  model: none\n"
        "  training: {steps: 6}\n"
        "search: {learning_rate: 1e-3..1 log}\n"
        "budget: {trials: 2}\n",
        encoding="utf-8",
    )
    driver = shell.start("run", str(spec))
    try:
        wait_for("the start", lambda: "starting workers" in shell.errors())
        family = wait_for("its processes", lambda: descendants(driver.pid))
        os.kill(driver.pid, number)
        assert driver.wait(60) == 130, shell.errors()
        assert "was stopped before a trial could begin" in shell.errors()
        assert "Traceback" not in shell.errors()
        wait_for("no process left", lambda: not [p for p in family if p.is_running()], seconds=30)
        assert not (tmp_path / "mlruns/studies").exists()
    finally:
        end(driver)
    shell("run", str(spec))


@pytest.mark.parametrize("moment", ["while Ray starts", "once it has started"])
def test_ray_leaves_the_drivers_signal_handlers_in_place(moment: str) -> None:
    program = f"""
import os, signal, time
heard = []
signal.signal(signal.SIGTERM, lambda *_: heard.append("SIGTERM"))
from sweep.execution import ray_cluster

def terminate(*_):
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(4.0)  # a handler of the core aborts the process three seconds later

if {moment == "while Ray starts"}:
    ray_cluster._check_fit = terminate
cluster = ray_cluster.start_cluster(ray_cluster.TrialShare(cpus=0.5), workers=1)
if not heard:
    terminate()
print(*heard)
cluster.shutdown()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (0, "SIGTERM\n"), done.stderr
