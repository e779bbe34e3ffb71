"""A trial that prints without end does not fill the disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from sweep.domain import AttemptEnd
from sweep.execution.local import LocalExecutor
from sweep.execution.trial_log import cut_middle
from sweep.execution.warm_client import WarmParent
from sweep.ports import AttemptLimits, Ended
from sweep.testing.executor import gather, the_end, toy_request
from sweep.testing.toy_objectives import LOADER


@pytest.mark.parametrize("size", [100, 1000, 1001, 5000])
def test_pain_27_a_long_log_keeps_its_beginning_and_its_end(tmp_path: Path, size: int) -> None:
    log = tmp_path / "log"
    lines = [f"{number:09d}\n" for number in range(size // 10)] + ["x" * (size % 10)]
    log.write_text("".join(lines))
    cut_middle(log, 1000)
    found = log.read_text()
    if size <= 1000:
        assert found == "".join(lines)
        return
    assert len(found) < 600
    head, tail = found.split("\n[... a part of this log was cut out: it was longer than limits.log_mb allows ...]\n")
    assert "".join(lines).startswith(head)
    assert "".join(lines).endswith(tail)
    assert (len(head), len(tail) > 200) == (250, True)
    cut_middle(tmp_path / "none", 1000)


def test_pain_27_a_trial_that_prints_without_end_has_a_short_log(tmp_path: Path) -> None:
    parent = WarmParent(("sweep.testing.toy_objectives",))
    executor = LocalExecutor(1, parent, "toy", loader=LOADER, limits=AttemptLimits(log_bytes=200_000))
    log = tmp_path / "log"
    try:
        request = toy_request(tmp_path, reports=0, then="chatter")
        executor.start(request, log)
        largest: list[int] = []

        def has_been_cut(seen: object) -> bool:
            largest.append(log.stat().st_size if log.exists() else 0)
            return b"was cut out" in (log.read_bytes() if log.exists() else b"")

        gather(executor, has_been_cut)
        assert max(largest) > 200_000
        executor.leave(request.assignment.trial_number, 1)
        end = the_end(gather(executor, lambda seen: any(isinstance(event, Ended) for event in seen)))
        assert end.end is AttemptEnd.PREEMPTED
        text = log.read_bytes()
        assert b"\0" not in text, "no hole where the writer was"
        assert text.startswith(b"20")
        assert b"trial" in text[:200]
        assert b"ended: PREEMPTED" in text[-100:]
    finally:
        executor.close()
        parent.close()
