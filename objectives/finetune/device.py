"""Where a trial computes, and what it costs there."""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import sys
import time

import psutil
import torch

from sweep.errors import UserError

_MEGABYTE = 1_000_000
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_KEPT_BYTES = 1 << 30


def choose_device(cpus: int, gpus: float, rank: int | None = None) -> torch.device:
    """The device of a process of a trial; sets torch's compute threads for the process.

    Args:
        cpus: Compute threads; at least 1.
        gpus: Share of GPUs; 0 means the CPU.
        rank: Which of the visible GPUs is its own, if the trial has several.

    Raises:
        UserError: If it has a GPU that torch cannot use: on the CPU it would take days.
    """
    # More threads than CPUs only get in each other's way.
    torch.set_num_threads(max(1, min(cpus, os.cpu_count() or 1)))
    if gpus > 0:
        if not has_gpu():
            visible = os.environ.get("CUDA_VISIBLE_DEVICES")
            raise UserError(
                f"{socket.gethostname()}: resources.gpus_per_trial={gpus:g}, but torch {torch.__version__} finds no "
                f"GPU (CUDA_VISIBLE_DEVICES={visible!r}). Install a CUDA build of torch and the driver there, or set "
                "resources.gpus_per_trial to 0."
            )
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.benchmark = False
        if rank is None:
            return torch.device("cuda")
        torch.cuda.set_device(rank)
        return torch.device("cuda", rank)
    _keep_freed_memory()
    return torch.device("cpu")


def has_gpu() -> bool:
    """Whether torch can use a GPU here."""
    return torch.cuda.is_available()


def system_metrics(device: torch.device) -> dict[str, float]:
    """CPU seconds of this process and its children, their memory, and this one's memory of the GPU if one is used."""
    cpu_seconds, rss = time.process_time(), psutil.Process().memory_info().rss
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):  # gone meanwhile
            cpu_seconds += sum(child.cpu_times()[:2])
            rss += child.memory_info().rss
    found = {"system/cpu_seconds": cpu_seconds, "system/rss_megabytes": rss / _MEGABYTE}
    if device.type == "cuda":
        found["system/gpu_memory_megabytes"] = torch.cuda.max_memory_allocated(device) / _MEGABYTE
    return found


def give_back_memory() -> None:
    """Give freed memory back to the system, if the C library can: it may lie in pieces that nothing else fits into."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # another C library
            ctypes.CDLL("libc.so.6").malloc_trim(0)


def _keep_freed_memory() -> None:
    """Let glibc re-use large blocks instead of giving them back: a step allocates the same ones again.

    Measured: 10 % more examples per second, and no page faults to wait for on a busy machine.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # another C library
            libc = ctypes.CDLL("libc.so.6")
            libc.mallopt(_M_MMAP_THRESHOLD, _KEPT_BYTES)
            libc.mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
