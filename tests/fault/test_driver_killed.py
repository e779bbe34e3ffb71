from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from sweep.testing.executor import gone_within, is_alive
from sweep.testing.toy_objectives import LOADER

DRIVER = """
import sys, time
from pathlib import Path
from sweep.execution.ray_workers import RayExecutor
from sweep.execution.warm_client import WarmParent
from sweep.ports import Started
from sweep.testing.executor import gather, toy_request

if __name__ == "__main__":
    folder, loader = Path(sys.argv[1]), sys.argv[2]
    parent = WarmParent(("sweep.testing.toy_objectives",))
    parent.start()
    executor = RayExecutor.open("toy", parent=parent, workers=2, loader=loader)
    while executor.free_slots < 2:
        executor.wait(0.5)
    for _ in range(2):
        executor.start(toy_request(folder, reports=0, then="hang"), folder / "log")
    events = gather(executor, lambda seen: sum(isinstance(event, Started) for event in seen) == 2)
    print(parent.address.path, *[event.pid for event in events if isinstance(event, Started)], flush=True)
    time.sleep(120)
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "driver.py"
    path.write_text(DRIVER)
    return path


def test_a_killed_driver_leaves_no_process_behind(script: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(script), str(tmp_path), LOADER]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as driver:
        try:
            assert driver.stdout is not None
            address, *trials = driver.stdout.readline().split()
            assert len(trials) == 2
            everything = {child.pid for child in psutil.Process(driver.pid).children(recursive=True)}
            assert {int(trial) for trial in trials} <= everything
            assert len(everything) >= 7  # gcs, raylet, two workers, warm parent, two trials
        finally:
            driver.kill()
    assert gone_within(10, *everything), [pid for pid in everything if is_alive(pid)]
    assert not Path(address).exists()
