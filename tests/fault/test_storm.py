"""A short storm; the long one is `make storm`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.storm.storm import storm


@pytest.mark.timeout(900)
def test_nothing_is_lost_in_a_short_storm(tmp_path: Path) -> None:
    said: list[str] = []
    outcome = storm(tmp_path, seed=1, trials=100, seconds=60.0, say=said.append)
    assert outcome.failures == [], "\n".join([*outcome.failures, *said])
    assert sum(outcome.deeds.values()) >= 10, outcome.deeds
