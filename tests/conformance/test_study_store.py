"""The study store holds its port's promises on every storage."""

import os
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from sweep.search import OptunaStore, read_trials
from sweep.spec.model import DataSpec, ObjectiveSpec, SearchSpec, StudySpec, TrainingSpec
from sweep.spec.space import Choices, FloatRange
from sweep.testing.study_store import CHECKS, StoreUnderTest, evaluation

POSTGRES = os.environ.get("SWEEP_TEST_POSTGRES_URL")


@pytest.fixture(params=["journal", "sqlite", "postgresql"])
def spec(request: pytest.FixtureRequest, tmp_path: Path) -> StudySpec:
    history = {"journal": None, "sqlite": f"sqlite:///{tmp_path / 'history.db'}", "postgresql": POSTGRES}
    if request.param == "postgresql" and POSTGRES is None:
        pytest.skip("SWEEP_TEST_POSTGRES_URL is not set: no PostgreSQL server to test with")
    return StudySpec(
        study=f"conformance-{uuid.uuid4().hex[:8]}",
        objective=ObjectiveSpec(
            model="bundled:minilm-l6",
            data=DataSpec(source="bundled:tweets"),
            training=TrainingSpec(epochs=4.0),
        ),
        search=SearchSpec(
            space={
                "learning_rate": FloatRange(low=1e-5, high=3e-3, log=True),
                "keep_layers": Choices(((0, 2, 5), (0, 1, 2), None)),
            }
        ),
        storage=str(tmp_path),
        history=history[request.param],
    )


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
def test_store_keeps_the_promise(spec: StudySpec, check: Callable[[StoreUnderTest], None]) -> None:
    opened: list[OptunaStore] = []

    def remembered(store: OptunaStore) -> OptunaStore:
        opened.append(store)
        return store

    check(
        StoreUnderTest(
            create=lambda: remembered(OptunaStore.create(spec)),
            reopen=lambda: remembered(OptunaStore.open(spec)),
        )
    )
    for store in opened:
        store.close()


def test_a_reader_sees_what_the_driver_has_written_by_now(spec: StudySpec) -> None:
    store = OptunaStore.create(spec)
    reader = OptunaStore.open_readonly(spec)
    for number in range(3):
        store.ask()
        store.begin_attempt(number)
        store.report(evaluation(number, 5, 0.5), 0.5)
        assert list(reader.trials()) == list(store.trials()) == read_trials(spec)
        assert list(reader.reports(number)) == list(store.reports(number))
    reader.close()
    store.close()
