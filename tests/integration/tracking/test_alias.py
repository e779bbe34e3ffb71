"""An alias of the registry that two storages move at the same moment: MLflow itself moves it unconditionally."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sweep.deployment.alias_history import earlier, settled
from sweep.errors import PromotionRefusedError
from sweep.promotion import move, roll_back
from sweep.tracking.registry import Registry, Version
from sweep.tracking.store import cache_folder, prepare_sqlite
from tests.recording import own_cache

__all__ = ["own_cache"]

NAME, ALIAS = "shared", "champion"


class Interrupted:
    """Stands before MLflow's client and lets somebody else act before its n-th call of a method."""

    def __init__(self, client: Any, method: str, number: int, act: Callable[[], None]) -> None:
        self._client, self._method, self._left, self._act = client, method, number, act

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        if name != self._method:
            return method

        def call(*arguments: Any, **named: Any) -> Any:
            self._left -= 1
            if self._left == 0:
                self._act()
            return method(*arguments, **named)

        return call


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """Three versions of a model; the first is the champion."""
    prepare_sqlite(tmp_path / "mlflow.db", cache_folder())
    registry = Registry(f"sqlite:///{tmp_path}/mlflow.db", None)
    registry._client.create_registered_model(NAME)
    for _ in range(3):
        registry._client.create_model_version(NAME, source=str(tmp_path))
    move(registry, version(registry, 1), ALIAS, None, why="the first")
    return registry


def version(registry: Registry, number: int) -> Version:
    found = registry.version(NAME, number)
    assert found is not None
    return found


def champion(registry: Registry) -> int | None:
    found = registry.champion(NAME, ALIAS)
    return None if found is None else found.number


LOOKS_OF_A_MOVE = 3  # whether it may begin, and before it: the history, then the alias


@pytest.mark.parametrize(
    ("method", "number", "left", "refused"),
    [
        ("set_registered_model_tag", 1, 3, "mine"),
        ("get_registered_model", LOOKS_OF_A_MOVE, 3, "mine"),
        ("set_registered_model_alias", 1, 2, "mine"),  # the other is told that it worked, and history shows that it did
        ("get_registered_model", LOOKS_OF_A_MOVE + 1, 2, "other"),
    ],
)
def test_of_two_moves_at_the_same_moment_one_is_refused_and_the_way_back_is_right(
    registry: Registry, tmp_path: Path, method: str, number: int, left: int, refused: str
) -> None:
    told: dict[str, str] = {}

    def act(who: str, client: Registry, to: int) -> None:
        try:
            move(client, version(registry, to), ALIAS, version(registry, 1), why=who)
        except PromotionRefusedError as err:
            told[who] = str(err)

    mine, other = (Registry(f"sqlite:///{tmp_path}/mlflow.db", None) for _ in range(2))
    mine._client = Interrupted(mine._client, method, number, lambda: act("other", other, 3))
    act("mine", mine, 2)
    assert list(told) == [refused]
    assert "somebody else moved it" in told[refused]
    assert "Run the same command again" in told[refused]
    assert champion(registry) == left
    history = settled(registry.history(NAME, ALIAS), left)
    assert history[-1]["version"] == left
    assert earlier(history) in ([1], [3, 1]), "a version that never was champion is no way back"


def test_an_alias_moved_by_hand_in_the_midst_of_a_rollback_stays_where_it_was_moved(
    registry: Registry, tmp_path: Path
) -> None:
    move(registry, version(registry, 2), ALIAS, version(registry, 1), why="better")
    mine = Registry(f"sqlite:///{tmp_path}/mlflow.db", None)
    by_hand = registry._client.set_registered_model_alias
    mine._client = Interrupted(mine._client, "set_registered_model_tag", 1, lambda: by_hand(NAME, ALIAS, "3"))
    with pytest.raises(PromotionRefusedError, match="it is version 3 now"):
        roll_back(mine, name=NAME, alias=ALIAS, why="mine")
    assert champion(registry) == 3
    assert earlier(settled(registry.history(NAME, ALIAS), 3)) == [2, 1]
