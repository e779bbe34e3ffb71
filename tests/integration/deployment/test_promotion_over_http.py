"""Promotion to an MLflow server, which may go away at any moment, and which several storages share."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from sweep import registries
from sweep.deployable import deployable
from sweep.deployment.alias_history import settled
from sweep.deployment.export import content_of_model
from sweep.errors import PromotionRefusedError, RecordingError, UserError
from sweep.execution.warm_client import WarmParent
from sweep.promotion import move, promote, register, roll_back
from sweep.spec.model import StudySpec
from sweep.tracking.registry import Registry, Version
from sweep.verification import Examiner, registered
from tests.fault_proxy import Faults, fault_proxy
from tests.integration.deployment.test_promotion import logged_models, serving_offer
from tests.mlflow_server import MlflowServer, running
from tests.tiny_study import materials, run, tiny_spec

ALIAS = "champion"
CHANGES = ("create_", "set_", "log_", "finalize_", "restore_")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    with running(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return materials(tmp_path_factory.mktemp("far"))


@pytest.fixture(scope="module")
def strong(rows: Path, server: MlflowServer) -> StudySpec:
    """A study that the server has the record of."""
    spec = tiny_spec(rows, "strong", f"tracking.uri={server.address}", trials=1)
    run(spec)
    return spec


@pytest.fixture(scope="module")
def weak(rows: Path, server: MlflowServer) -> StudySpec:
    spec = tiny_spec(rows, "weak", f"tracking.uri={server.address}", good=False, trials=1)
    run(spec)
    return spec


def registered_by(registry: Registry, spec: StudySpec, name: str, storage: Path) -> Version:
    """A version of a study's winner, without the gate."""
    chosen, lineage = deployable(spec)
    content = content_of_model(chosen.model)
    return register(registry, storage, chosen, lineage, serving_offer(lineage), name=name, content=content)


def test_a_model_is_promoted_refused_verified_and_rolled_back_over_http(
    strong: StudySpec, weak: StudySpec, parent: WarmParent
) -> None:
    registry = registries.registry_of(strong)
    options: dict[str, Any] = {"name": "far", "alias": ALIAS, "dry_run": False, "note": lambda line: None}
    stored = [len(logged_models(registry, spec)) for spec in (strong, weak)]
    first = promote(weak, registry, if_better=False, **options)
    assert first.decision.kind == "first"
    better = promote(strong, registry, if_better=False, **options)
    assert better.decision.passes
    refused = promote(weak, registry, if_better=True, **options)
    assert (refused.decision.passes, refused.version) == (False, None)
    assert registry.champion("far", ALIAS) == better.version
    assert [len(logged_models(registry, spec)) for spec in (strong, weak)] == stored, "weights are stored once"
    with registered(registry, f"models:/far@{ALIAS}") as (model, lineage):
        assert lineage.study == "strong"
        checks = Examiner(parent=parent, trust_remote_code=False).check(model, lineage)
    assert [check.reproduced for check in checks] == [True, True]
    assert roll_back(registry, name="far", alias=ALIAS, why="a test") == (better.version, first.version)
    assert registry.champion("far", ALIAS) == first.version


class Failing:
    """Stands before MLflow's client and has the server fail from the n-th request on that changes something."""

    def __init__(self, client: Any, number: int, fail: Callable[[], None]) -> None:
        self._client, self._left, self._fail = client, number, fail

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        if not name.startswith(CHANGES):
            return method

        def call(*arguments: Any, **named: Any) -> Any:
            if self._left == 0:
                self._fail()
            self._left -= 1
            return method(*arguments, **named)

        return call


STEPS = 6  # the files, the model's tag, the registered model, the version, the history, the alias


def test_a_server_that_fails_in_the_midst_is_told_and_nothing_is_half_done(
    strong: StudySpec, weak: StudySpec, server: MlflowServer, tmp_path: Path
) -> None:
    registry = registries.registry_of(strong)
    kept = len(logged_models(registry, strong))
    with fault_proxy(server.port, Faults()) as proxy:
        far = registries.registry_at(proxy.address)
        client = far._client

        def fail(faults: Faults) -> None:
            proxy.faults = faults

        # Asked in vain; and asked with success, but the answer is lost.
        for faults in (Faults(refused=1.0), Faults(lied=1.0)):
            for step in range(STEPS):
                name = f"failing-{step}-{faults.refused:g}"
                far._client = Failing(client, step, partial(fail, faults))
                with pytest.raises(RecordingError, match="Once it answers, run the same command again"):
                    move(far, registered_by(far, strong, name, tmp_path), ALIAS, None, why="mine")
                proxy.faults = Faults()
                champion = registry.champion(name, ALIAS)
                assert champion is None or (step == STEPS - 1 and faults.lied)
                now = registered_by(registry, strong, name, tmp_path)
                move(registry, now, ALIAS, champion, why="again")
                assert (now.number, registry.champion(name, ALIAS)) == (1, now), name
                assert {entry["version"] for entry in registry.history(name, ALIAS)} == {1}
    assert len(logged_models(registry, strong)) == kept, "weights are stored once"


def test_a_server_that_dies_between_history_and_alias_leaves_the_old_champion_until_the_next_promotion(
    strong: StudySpec, weak: StudySpec, server: MlflowServer, tmp_path: Path
) -> None:
    registry = registries.registry_of(strong)
    before = registered_by(registry, weak, "dying", tmp_path)
    move(registry, before, ALIAS, None, why="the first")
    better = registered_by(registry, strong, "dying", tmp_path)
    mortal = registries.registry_of(strong)
    mortal._client = Failing(mortal._client, 1, server.kill)
    with pytest.raises(RecordingError, match="Once it answers, run the same command again"):
        move(mortal, better, ALIAS, before, why="mine")
    with pytest.raises(RecordingError, match="Once it answers"):
        promote(strong, registry, name="dying", alias=ALIAS, if_better=False, dry_run=False, note=lambda line: None)
    server.start()
    assert registry.champion("dying", ALIAS) == before
    with pytest.raises(UserError, match="first that had it"):
        roll_back(registry, name="dying", alias=ALIAS, why="the move that never was is no way back")
    move(registry, better, ALIAS, before, why="again")
    assert registry.champion("dying", ALIAS) == better
    assert [entry["version"] for entry in registry.history("dying", ALIAS)] == [1, 2]


def test_two_storages_that_promote_to_one_server_at_once_leave_one_champion_and_a_way_back(
    strong: StudySpec, weak: StudySpec, server: MlflowServer, tmp_path: Path
) -> None:
    registry = registries.registry_of(strong)
    versions = [registered_by(registry, spec, "shared", tmp_path) for spec in (weak, strong)]
    start = threading.Barrier(2)
    told: dict[int, bool] = {}

    def act(version: Version) -> None:
        own = registries.registry_at(server.address)
        start.wait()
        try:
            move(own, version, ALIAS, None, why="at once")
            told[version.number] = True
        except PromotionRefusedError:
            told[version.number] = False

    threads = [threading.Thread(target=act, args=(version,)) for version in versions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(told) == [1, 2]
    assert sum(told.values()) <= 1
    champion = registry.champion("shared", ALIAS)
    number = None if champion is None else champion.number
    history = settled(registry.history("shared", ALIAS), number)
    assert (history[-1]["version"] if history else None) == number
    # Whoever was refused runs the same command again, and finds whom to compare with.
    loser = next(version for version in versions if not told[version.number])
    move(registry, loser, ALIAS, champion, why="again")
    assert registry.champion("shared", ALIAS) == loser
