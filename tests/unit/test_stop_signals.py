"""What signals to a driver mean."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from sweep.engine.control import StopRequest, StopSignals


def test_the_first_interrupt_drains_and_the_second_stops_at_once(tmp_path: Path) -> None:
    signals = StopSignals(tmp_path)
    with signals.listening():
        assert signals.requested() is StopRequest.NONE
        os.kill(os.getpid(), signal.SIGINT)
        assert signals.requested() is StopRequest.DRAIN
        os.kill(os.getpid(), signal.SIGINT)
        assert signals.requested() is StopRequest.NOW


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_termination_drains_and_stops_at_once_when_the_grace_is_over(
    tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    signals = StopSignals(tmp_path, grace_seconds=0.3)
    monkeypatch.setattr(signal, "getsignal", lambda number: signal.SIG_DFL)  # these tests may run under nohup
    with signals.listening():
        os.kill(os.getpid(), number)
        os.kill(os.getpid(), number)
        assert signals.requested() is StopRequest.DRAIN
        deadline = time.monotonic() + 10
        while signals.requested() is not StopRequest.NOW:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_a_hangup_that_is_ignored_stays_so(tmp_path: Path) -> None:
    previous = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup leaves it
    try:
        signals = StopSignals(tmp_path)
        with signals.listening():
            os.kill(os.getpid(), signal.SIGHUP)
            assert signals.requested() is StopRequest.NONE
    finally:
        signal.signal(signal.SIGHUP, previous)
