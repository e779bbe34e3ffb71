"""Outlives a driver that was killed, for as long as it takes to end what is left of its embedded Ray.

The kernel ends Ray's daemons with the driver, but the agents they started go on for a minute or more. They are known
by their name and by the files they hold open in the session's own folder. Run as a script:
``ray_guard.py ALIVE_FD FOLDER``; the driver holds the other end of the pipe.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from collections.abc import Sequence

import psutil

_ROUNDS = 50
_PAUSE_SECONDS = 0.1


def main(arguments: Sequence[str]) -> None:
    """Wait for the driver to go, then clean up."""
    alive, folder = int(arguments[0]), arguments[1]
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.read(alive, 1)
    for _ in range(_ROUNDS):
        if not end_session(folder):
            break
        time.sleep(_PAUSE_SECONDS)
    shutil.rmtree(folder, ignore_errors=True)


def end_session(folder: str) -> int:
    """Kill every process of the Ray session in ``folder``; returns how many there were."""
    found = 0
    for process in psutil.process_iter():
        try:
            if _is_of_ray(process) and any(file.path.startswith(folder) for file in process.open_files()):
                process.kill()
                found += 1
        except psutil.Error:  # gone meanwhile, or not ours
            continue
    return found


def _is_of_ray(process: psutil.Process) -> bool:
    command = process.cmdline()[:1]
    return bool(command) and (command[0].startswith("ray::") or "/ray/core/src/ray/" in command[0])


if __name__ == "__main__":
    main(sys.argv[1:])
