"""When an alias may move, and where it goes back to."""

from __future__ import annotations

from typing import Any

import pytest

from sweep.deployment.alias_history import earlier, moved, settled
from sweep.deployment.gate import Comparison, Decision, decide


def decision(gain: float, interval: tuple[float, float] | None, *, if_better: bool = False) -> Decision:
    comparison = Comparison(
        metric="accuracy",
        direction="maximize",
        rows=600,
        challenger=0.9 + gain,
        champion=0.9,
        gain=gain,
        interval=interval,
        p_value=None,
    )
    return decide(comparison, if_better=if_better)


@pytest.mark.parametrize(
    ("gain", "interval", "by_default", "if_better"),
    [
        (0.02, (0.01, 0.03), True, True),
        (0.02, (-0.01, 0.05), False, True),
        (0.02, (0.0, 0.05), False, True),
        (0.02, None, False, True),
        (0.0, (-0.01, 0.01), False, False),
        (-0.02, (-0.03, -0.01), False, False),
        (float("nan"), None, False, False),
    ],
)
def test_the_gate_wants_a_gain_beyond_chance_unless_a_better_score_is_said_to_be_enough(
    gain: float, interval: tuple[float, float] | None, by_default: bool, if_better: bool
) -> None:
    assert decision(gain, interval).passes is by_default
    assert decision(gain, interval, if_better=True).passes is if_better


def test_a_refusal_that_a_better_score_would_turn_says_so() -> None:
    assert "--if-better" in decision(0.02, (-0.01, 0.05)).reason
    assert "--if-better" not in decision(-0.02, (-0.03, -0.01)).reason


class Alias:
    """An alias and its history, moved as the registry moves them."""

    def __init__(self) -> None:
        self.current: int | None = None
        self.history: list[dict[str, Any]] = []

    def move(self, kind: str, version: int, *, dies_before_it_moves: bool = False) -> None:
        known = settled(self.history, self.current)
        self.history = moved(known, kind, version, at="now", by="ann", why="")
        if not dies_before_it_moves:
            self.current = version

    def back(self, **how: bool) -> None:
        self.move("rollback", earlier(settled(self.history, self.current))[0], **how)


def test_each_rollback_goes_one_version_further_back_and_none_goes_forth_again() -> None:
    alias = Alias()
    for version in (1, 2, 3):
        alias.move("promote", version)
    alias.back()
    assert alias.current == 2
    alias.back()
    assert alias.current == 1
    assert earlier(settled(alias.history, alias.current)) == []
    alias.move("promote", 4)
    alias.back()
    assert alias.current == 1


def test_a_move_that_was_written_down_and_not_made_is_not_in_the_way() -> None:
    alias = Alias()
    alias.move("promote", 1)
    alias.move("promote", 2, dies_before_it_moves=True)
    alias.move("promote", 2)
    assert [entry["version"] for entry in alias.history] == [1, 2]
    alias.back(dies_before_it_moves=True)
    assert alias.current == 2
    alias.back()
    assert alias.current == 1


def test_a_move_by_somebody_else_is_known_and_can_be_undone() -> None:
    alias = Alias()
    alias.move("promote", 1)
    alias.current = 7
    alias.move("promote", 8)
    assert [entry["kind"] for entry in alias.history] == ["promote", "found", "promote"]
    alias.back()
    assert alias.current == 7


def test_a_version_that_is_promoted_again_after_a_rollback_leads_back_to_where_it_came_from() -> None:
    alias = Alias()
    for version in (1, 2):
        alias.move("promote", version)
    alias.back()
    alias.move("promote", 2)
    alias.back()
    assert alias.current == 1


def test_a_history_stays_within_what_a_tag_holds() -> None:
    alias = Alias()
    for version in range(500):
        alias.move("promote", version)
    assert len(alias.history) <= 100
    assert alias.history[-1]["version"] == 499
