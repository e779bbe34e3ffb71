"""Host memory of trial processes, and whether the kernel took one for want of it."""

from __future__ import annotations

import contextlib
from pathlib import Path

import psutil


def family_bytes(pid: int) -> int:
    """Resident memory of a process and all below it; pages that several share count once."""
    try:
        leader = psutil.Process(pid)
        family = [leader, *leader.children(recursive=True)]
    except psutil.Error:
        return 0
    total = 0
    for process in family:
        with contextlib.suppress(psutil.Error):  # gone meanwhile
            memory = process.memory_full_info()
            total += getattr(memory, "pss", memory.rss)
    return total


def kernel_kills() -> int:
    """How often the kernel's OOM killer has struck, here and as far as this host tells; only growth means something."""
    total = 0
    for counters in (Path("/proc/vmstat"), _own_cgroup() / "memory.events"):
        with contextlib.suppress(OSError):
            for line in counters.read_text().splitlines():
                name, _, count = line.partition(" ")
                if name == "oom_kill":
                    total += int(count)
    return total


def _own_cgroup() -> Path:
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            if line.startswith("0::/"):
                return Path("/sys/fs/cgroup") / line.removeprefix("0::/")
    return Path("/sys/fs/cgroup")
