"""SIGKILL at any moment of a commit leaves nothing visible, or an intact checkpoint."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from sweep.checkpoints import FolderKeeper, committing, intact, step_folder

WRITER = """
import sys
from pathlib import Path
from sweep.checkpoints import committing, drop, step_folder
root = Path(sys.argv[1])
print("ready", flush=True)
step = 0
while True:
    step += 1
    target = step_folder(root, step)
    with committing(target, {"step": step}) as folder:
        for part in ("model", "state"):
            (folder / part).mkdir()
            (folder / part / "tensors").write_bytes(bytes(range(256)) * 512)
    if step % 2:
        drop(target, "state/")
"""


def test_a_killed_writer_leaves_whole_checkpoints_only(tmp_path: Path) -> None:
    generator = random.Random(7)
    committed = 0
    for turn in range(12):
        folder = tmp_path / f"trial-{turn:04d}"
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(folder)], stdout=subprocess.PIPE, env=os.environ
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(generator.uniform(0.001, 0.12))
            process.send_signal(signal.SIGKILL)
        steps = [path for path in folder.iterdir() if path.name.startswith("step-")] if folder.exists() else []
        committed += len(steps)
        assert all(intact(path) for path in steps)

        keeper = FolderKeeper(lambda _, folder=folder: folder)
        newest = keeper.newest(turn)
        with committing(step_folder(folder, 999), {"step": 999}) as mine:
            (mine / "state").mkdir()
            (mine / "state" / "tensors").write_bytes(b"x")
        keeper.keep(turn, {999}, set())
        assert [path.name for path in folder.iterdir()] == ["step-00000999"]
        assert newest is None or Path(newest) in steps
    assert committed > 0
