"""A short storm; the long one is `make storm`."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path

import pytest

from tests.storm.adversary import BAG, plan
from tests.storm.storm import storm


@pytest.mark.timeout(900)
def test_nothing_is_lost_in_a_short_storm(tmp_path: Path) -> None:
    said: list[str] = []
    outcome = storm(tmp_path, seed=1, trials=100, seconds=60.0, say=said.append)
    assert outcome.failures == [], "\n".join([*outcome.failures, *said])
    impossible = {name for name, why in outcome.not_done.items() if "cannot be mounted" in why}
    assert set(outcome.not_done) == impossible, "\n".join([str(dict(outcome.not_done)), *said])
    if impossible:
        pytest.skip(f"nothing was lost, yet not done: {dict(outcome.not_done)}")


def test_a_storm_s_plan_follows_from_its_seed_and_has_each_kind_of_deed_in_each_round() -> None:
    def opening(seed: int) -> list[tuple[str, float, float]]:
        deeds = itertools.islice(plan(seed), 2 * sum(BAG.values()))
        return [(name, pause, choices.random()) for name, pause, choices in deeds]

    assert opening(7) == opening(7) != opening(8)
    for start in (0, sum(BAG.values())):
        names = [name for name, _, _ in opening(7)[start : start + sum(BAG.values())]]
        assert dict(Counter(names)) == BAG
