"""Where a trial computes, and what it costs there."""

from __future__ import annotations

import time

import psutil
import torch

_MEGABYTE = 1_000_000


def choose_device(cpus: int, gpus: float) -> torch.device:
    """The device of a trial; sets torch's compute threads for the process.

    Args:
        cpus: Compute threads; at least 1.
        gpus: Share of GPUs; 0 means the CPU.
    """
    torch.set_num_threads(max(1, cpus))
    if gpus > 0 and torch.cuda.is_available():
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.benchmark = False
        return torch.device("cuda")
    return torch.device("cpu")


def system_metrics(device: torch.device) -> dict[str, float]:
    """CPU seconds of this process, its memory, and memory of the GPU if one is used."""
    found = {
        "system/cpu_seconds": time.process_time(),
        "system/rss_megabytes": psutil.Process().memory_info().rss / _MEGABYTE,
    }
    if device.type == "cuda":
        found["system/gpu_memory_megabytes"] = torch.cuda.max_memory_allocated(device) / _MEGABYTE
    return found
