"""Running out of memory is known by type, by name, by words, and through what it was wrapped in."""

from __future__ import annotations

import pytest

from sweep.execution.trial_process import _is_out_of_memory


@pytest.mark.parametrize(
    ("error", "is_it"),
    [
        (MemoryError(), True),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
            True,
        ),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("shape mismatch"), False),
        (ValueError("can't allocate memory"), False),
    ],
)
def test_memory_faults_are_told_from_others(error: BaseException, is_it: bool) -> None:
    assert _is_out_of_memory(error) is is_it
    wrapped = KeyError("batch")
    wrapped.__cause__ = error
    assert _is_out_of_memory(wrapped) is is_it
