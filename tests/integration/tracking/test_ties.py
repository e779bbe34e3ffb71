"""Equal values: whatever MLflow would put first, the tags name the winner of the ranking."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from sweep.layout import StudyLayout
from sweep.ports import Record
from sweep.tracking import SpoolRecorder
from tests.recording import BEGAN, Store, begun, kept, over, report, study_over, whole_trial


def _tied(number: int, value: float) -> list[Record]:
    records = [record for record in whole_trial(number) if record != over(number)]
    return [*records, over(number, value=value)]


def _session(layout: StudyLayout, at: float, records: Sequence[Record], ranking: list[int]) -> None:
    recorder = SpoolRecorder(layout, layout.tracking_uri)
    recorder.record_all([begun(at=BEGAN + at), *records, study_over(ranking, at=BEGAN + at + 500)])
    assert recorder.close(60) == 0


def _tags(store: Store, key: str) -> dict[str, str]:
    sql = (
        "SELECT m.name, t.tag_value FROM logged_models m JOIN logged_model_tags t USING (model_id) WHERE t.tag_key = ?"
    )
    return dict(store.rows(sql, key))


@pytest.mark.filterwarnings("ignore")
def test_of_three_equal_trials_the_tags_name_the_winner_also_after_a_resumed_session_found_a_better_one(
    tmp_path: Path,
) -> None:
    from mlflow import MlflowClient

    layout = StudyLayout(tmp_path, "demo")
    store = Store(tmp_path / "mlflow.db")
    client: Any = MlflowClient(tracking_uri=layout.tracking_uri)

    def tagged_best() -> list[str]:
        (experiment,) = [e.experiment_id for e in client.search_experiments() if e.name == "demo"]
        found = client.search_logged_models([experiment], filter_string="tags.`sweep.best` = 'true'")
        return [model.name for model in found]

    trials = [record for number in range(3) for record in _tied(number, 0.5)]
    # Worst first, so that the winner's model is the newest of the equal ones.
    models = [kept(layout, number, metrics=report(0, 30).metrics) for number in (2, 1, 0)]
    _session(layout, 0, [*trials, *models], [0, 1, 2])
    assert tagged_best() == ["trial-0000"]
    assert _tags(store, "sweep.rank") == {"trial-0000": "1", "trial-0001": "2", "trial-0002": "3"}
    (experiment,) = [e.experiment_id for e in client.search_experiments() if e.name == "demo"]
    for metric in ("objective_value", "accuracy"):
        order = [{"field_name": f"metrics.{metric}", "ascending": False}]
        found = client.search_logged_models([experiment], order_by=order)
        assert [model.name for model in found] == ["trial-0000", "trial-0001", "trial-0002"]
    runs = client.search_runs([experiment], filter_string="tags.`sweep.best` = 'true'")
    assert [run.info.run_id for run in runs] == [store.run(0)]

    _session(layout, 1000, [*_tied(3, 0.6), kept(layout, 3)], [3, 0, 1, 2])
    assert tagged_best() == ["trial-0003"]
    assert _tags(store, "sweep.best") == {"trial-0003": "true"}
    assert _tags(store, "sweep.rank") == {
        "trial-0003": "1",
        "trial-0000": "2",
        "trial-0001": "3",
        "trial-0002": "4",
    }
