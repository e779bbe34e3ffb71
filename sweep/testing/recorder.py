"""What every recorder must do, whatever stands behind it.

Each check takes a way to make a recorder and what it holds, and raises AssertionError.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sweep.domain import Report, TrialState
from sweep.ports import AttemptBegun, Record, Recorder, TrialOver


@dataclass(frozen=True, slots=True)
class RecorderUnderTest:
    """How to get at a recorder.

    Attributes:
        open: Makes it, or makes it again for the same study, as after a crash.
        held: Records that are safe with it now, in order.
    """

    open: Callable[[], Recorder]
    held: Callable[[], Sequence[Record]]


def check_record_is_safe_on_return(under_test: RecorderUnderTest) -> None:
    """What was recorded is there at once, in order, and before any ``close``."""
    recorder = under_test.open()
    try:
        for record in _life():
            recorder.record(record)
        _expect(list(under_test.held()) == _life(), "records are held in their order")
    finally:
        recorder.close(0.0)


def check_records_are_idempotent(under_test: RecorderUnderTest) -> None:
    """A record is held once, also across sessions; the first one wins."""
    for _ in range(2):
        recorder = under_test.open()
        try:
            for record in (*_life(), *_life(), _report(attempt=2)):
                recorder.record(record)
        finally:
            recorder.close(0.0)
    _expect(list(under_test.held()) == _life(), f"each record once, not {len(under_test.held())}")


def check_close_is_bounded_and_idempotent(under_test: RecorderUnderTest) -> None:
    """``close`` takes no longer than it may, says how much is undelivered, and says it again."""
    recorder = under_test.open()
    for record in _life():
        recorder.record(record)
    began = time.monotonic()
    left = recorder.close(0.5)
    _expect(time.monotonic() - began < 5.0, "close(0.5) took more than five seconds")
    _expect(0 <= left <= len(_life()), f"{left} of {len(_life())} records undelivered")
    _expect(recorder.close(0.5) == left, "a second close says the same")


CHECKS = (
    check_record_is_safe_on_return,
    check_records_are_idempotent,
    check_close_is_bounded_and_idempotent,
)


def _life() -> list[Record]:
    begun = AttemptBegun(
        trial_number=0,
        attempt=1,
        hyperparameters={"learning_rate": 1e-4, "keep_layers": (0, 2)},
        settings={"epochs": 1.0},
        seed=7,
        at=1_700_000_000.0,
    )
    over = TrialOver(
        trial_number=0,
        state=TrialState.COMPLETE,
        value=0.5,
        step=4,
        error=None,
        artifacts=None,
        log=None,
        at=1_700_000_009.0,
    )
    return [begun, _report(), over]


def _report(attempt: int = 1) -> Report:
    return Report(
        trial_number=0,
        attempt=attempt,
        step=4,
        fidelity=1.0,
        metrics={"accuracy": 0.5},
        checkpoint=None,
        wall_seconds=1.0,
        reported_at=1_700_000_004.0,
    )


def _expect(holds: bool, what: str) -> None:
    if not holds:
        raise AssertionError(what)
