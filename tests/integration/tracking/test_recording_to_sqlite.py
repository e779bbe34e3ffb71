"""A whole study through the real writer process into MLflow's SQLite store."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from sweep.domain import TrialState
from sweep.errors import ModelError
from sweep.layout import StudyLayout
from sweep.ports import AttemptOver
from sweep.tracking import SpoolRecorder, drain, resolve_model, run_ids, undelivered
from tests.recording import BEGAN, STEPS, Store, attempt, begun, kept, over, report, study_over

STATES = {
    2: TrialState.PRUNED,
    4: TrialState.DIVERGED,
    5: TrialState.OOM,
    6: TrialState.TIMEOUT,
    7: TrialState.FAILED,
    8: TrialState.CANCELLED,
}


@dataclass(frozen=True)
class Study:
    layout: StudyLayout
    store: Store
    between: dict[int, str]
    left: tuple[int, int]

    def artifact(self, number: int, name: str) -> Path:
        ((uri,),) = self.store.rows("SELECT artifact_uri FROM runs WHERE run_uuid = ?", self.store.run(number))
        return Path(uri) / name


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Two sessions of a driver: the first one pauses trial 3, the second one finishes it, and trial 3 wins."""
    layout = StudyLayout(tmp_path_factory.mktemp("storage"), "demo")
    store = Store(layout.storage / "mlflow.db")
    layout.logs.mkdir(parents=True)
    layout.log(1).write_text("one line of log\n")
    layout.artifacts(1).mkdir(parents=True)
    (layout.artifacts(1) / "confusion.json").write_text("[[1]]")

    recorder = SpoolRecorder(layout, layout.tracking_uri)
    recorder.record(begun())
    recorder.record_all([attempt(0), report(0, 10), report(0, 20), report(0, 30), over(0)])
    recorder.record_all([attempt(1), report(1, 10, accuracy=float("nan"), odd=float("inf"))])
    recorder.record_all([report(1, 20, **{"precision@1": 0.5}), report(1, 30)])
    recorder.record(over(1, artifacts=str(layout.artifacts(1)), log=str(layout.log(1))))
    for number, state in STATES.items():
        recorder.record_all([attempt(number), report(number, 10), over(number, state, error="why", step=10)])
    recorder.record_all([attempt(3), report(3, 10), report(3, 10)])
    recorder.record(AttemptOver(trial_number=3, attempt=1, state=TrialState.PAUSED, reason="Ctrl-C", at=BEGAN + 350))
    recorder.record(study_over([1, 0], state="PAUSED", at=BEGAN + 400, COMPLETE=2, PAUSED=1))
    first = recorder.close(60)
    between = {number: store.info(store.run(number))["status"] for number in (0, 3)}
    between[-1] = store.info(store.parent())["status"]

    recorder = SpoolRecorder(layout, layout.tracking_uri)
    recorder.record(begun(at=BEGAN + 1000, budget={"trials": 9, "hours": None}))
    # A parameter that MLflow already has with another value is refused for good.
    recorder.record(attempt(3, 2, learning_rate=0.5))
    recorder.record_all([report(3, 10), report(3, 20), report(3, 30), over(3)])
    recorder.record(over(3, TrialState.FAILED))
    for number in (3, 1, 0):
        recorder.record(kept(layout, number, test={"accuracy": 0.99} if number == 3 else None))
    recorder.record(kept(layout, 3))
    recorder.record(study_over([3, 1, 0], COMPLETE=3, PRUNED=1))
    return Study(layout, store, between, (first, recorder.close(60)))


def test_everything_is_delivered(study: Study) -> None:
    assert study.left == (0, 0)
    assert undelivered(study.layout) == 0
    assert drain(study.layout, study.layout.tracking_uri, 30) == 0


def test_there_is_one_experiment_one_parent_and_one_child_for_each_trial(study: Study) -> None:
    assert study.store.experiments() == ["demo"]
    assert study.store.info(study.store.parent())["name"] == "demo"
    assert sorted(study.store.runs()) == [str(number) for number in range(9)]
    assert study.store.rows("SELECT count(*) FROM runs") == [(10,)]
    for number in range(9):
        assert study.store.tags(study.store.run(number))["mlflow.parentRunId"] == study.store.parent()
    assert run_ids(study.layout) == {number: study.store.run(number) for number in range(9)}


def test_each_metric_has_one_value_a_step_with_the_time_of_its_report(study: Study) -> None:
    assert study.store.doubles() == []
    expected = [(s, report(0, s).metrics["accuracy"], round(report(0, s).reported_at * 1000)) for s in STEPS]
    assert study.store.metric(study.store.run(0), "accuracy") == expected
    assert [value for _, value, _ in study.store.metric(study.store.run(0), "epoch")] == [1.0, 2.0, 3.0]
    assert [value for _, value, _ in study.store.metric(study.store.run(0), "seconds")] == [1.0, 2.0, 3.0]


def test_what_is_not_a_number_stays_outside_and_odd_names_are_mended(study: Study) -> None:
    run_id = study.store.run(1)
    assert [step for step, _, _ in study.store.metric(run_id, "accuracy")] == [20, 30]
    assert study.store.metric(run_id, "odd") == []
    assert [value for _, value, _ in study.store.metric(run_id, "precision_1")] == [0.5]


def test_status_and_state_tell_the_truth(study: Study) -> None:
    assert study.between == {0: "FINISHED", 3: "SCHEDULED", -1: "SCHEDULED"}
    expected = {0: "FINISHED", 1: "FINISHED", 3: "FINISHED", 2: "KILLED", 8: "KILLED"}
    expected |= {4: "FAILED", 5: "FAILED", 6: "FAILED", 7: "FAILED"}
    seen = {number: study.store.info(study.store.run(number))["status"] for number in range(9)}
    assert seen == expected
    states = {n: study.store.tags(study.store.run(n))["sweep.state"] for n in range(9)}
    assert states == {0: "COMPLETE", 1: "COMPLETE", 3: "COMPLETE", **{n: s.value for n, s in STATES.items()}}
    assert study.store.info(study.store.parent())["status"] == "FINISHED"
    assert study.store.tags(study.store.parent())["sweep.state"] == "COMPLETE"


def test_runs_begin_and_end_when_their_trials_did(study: Study) -> None:
    info = study.store.info(study.store.run(0))
    assert (info["start"], info["end"]) == (round(attempt(0).at * 1000), round(over(0).at * 1000))
    assert study.store.info(study.store.parent())["start"] == round(BEGAN * 1000)


def test_the_winner_is_seen_at_a_glance_and_complete_trials_rank_before_the_others(study: Study) -> None:
    tags = {number: study.store.tags(study.store.run(number)) for number in range(9)}
    assert {n: t["sweep.rank"] for n, t in tags.items() if "sweep.rank" in t} == {
        3: "1",
        1: "2",
        0: "3",
        8: "4",
        7: "5",
        6: "6",
        5: "7",
        4: "8",
        2: "9",
    }
    assert [n for n, t in tags.items() if "sweep.best" in t] == [3], "the first session's winner lost its tag"
    names = [study.store.info(study.store.run(number))["name"] for number in (0, 1, 3)]
    assert names == ["trial-0000", "trial-0001", "trial-0003 ★ best"]
    assert study.store.tags(study.store.parent())["sweep.best_trial"] == "3"


def test_only_complete_trials_have_the_value_that_people_sort_by(study: Study) -> None:
    for number in (0, 1, 3):
        assert study.store.metric(study.store.run(number), "objective_value") == [
            (30, over(number).value, round(over(number).at * 1000))
        ]
    assert study.store.metric(study.store.run(2), "objective_value") == []
    assert len(study.store.metric(study.store.run(2), "value_when_stopped")) == 1


def test_hyperparameters_and_seed_are_the_parameters_of_a_trial(study: Study) -> None:
    assert study.store.params(study.store.run(1)) == {
        "learning_rate": "0.0002",
        "keep_layers": "[0, 2, 5]",
        "seed": "1",
    }


def test_the_parent_tells_what_was_gained_over_the_defaults(study: Study) -> None:
    parent = study.store.parent()
    (_, gain, _) = study.store.metric(parent, "gain")[-1]
    assert gain == pytest.approx(0.03)
    assert study.store.metric(parent, "baseline_value")[-1][1] == over(0).value
    assert study.store.params(parent)["trials"] == "4", "MLflow takes a parameter once; a resumed study keeps it"


def test_a_password_in_the_spec_reaches_nobody(study: Study) -> None:
    found = [p for p in study.layout.tracking_artifacts.rglob("*") if p.is_file() and b"secret" in p.read_bytes()]
    assert found == []
    assert study.store.rows("SELECT value FROM experiment_tags WHERE value LIKE '%secret%'") == []


def test_artifacts_of_a_trial_are_its_log_files_settings_and_curves(study: Study) -> None:
    assert study.artifact(1, "log.txt").read_text() == "one line of log\n"
    assert study.artifact(1, "confusion.json").read_text() == "[[1]]"
    assert study.artifact(0, "learning_curves.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads(study.artifact(0, "settings.json").read_text())["seed"] == 0
    with study.artifact(0, "curves.csv").open() as file:
        assert [int(row["step"]) for row in csv.DictReader(file)] == list(STEPS)


def test_the_leaderboard_lists_ranked_trials_first(study: Study) -> None:
    ((uri,),) = study.store.rows("SELECT artifact_uri FROM runs WHERE run_uuid = ?", study.store.parent())
    board = json.loads((Path(uri) / "leaderboard.json").read_text())
    assert [(row["rank"], row["trial_number"]) for row in board[:4]] == [(1, 3), (2, 1), (3, 0), (4, 8)]


def test_a_refused_record_is_set_aside_with_the_reason_and_the_rest_arrives(study: Study) -> None:
    lines = (study.layout.spool / "rejected.jsonl").read_text().splitlines()
    (rejected,) = [json.loads(line) for line in lines]
    assert rejected["record"]["kind"] == "attempt_begun"
    assert "learning_rate" in rejected["reason"]
    assert len(study.store.metric(study.store.run(3), "accuracy")) == 3


def test_kept_models_are_ready_once_with_metrics_and_files(study: Study) -> None:
    assert study.store.models() == [("trial-0000", 2), ("trial-0001", 2), ("trial-0003", 2)]
    ((location,),) = study.store.rows("SELECT artifact_location FROM logged_models WHERE name = 'trial-0003'")
    weights = Path(location) / "model.safetensors"
    assert weights.read_bytes() == b"w" * 2_000_000
    assert weights.samefile(study.layout.exports / "trial-0003" / "model.safetensors"), "kept on disk once"
    assert not (Path(location) / "config.json").samefile(study.layout.exports / "trial-0003" / "config.json")
    tested = study.store.rows("SELECT metric_value FROM logged_model_metrics WHERE metric_name = 'test_accuracy'")
    assert tested == [(0.99,)], "a model kept again for the same step is ignored"


@pytest.mark.filterwarnings("ignore")
def test_search_logged_models_finds_the_winner_of_the_ranking(study: Study) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=study.layout.tracking_uri)
    experiment = client.get_experiment_by_name("demo")
    for metric in ("objective_value", "accuracy"):
        order = [{"field_name": f"metrics.{metric}", "ascending": False}]
        best = client.search_logged_models([experiment.experiment_id], order_by=order, max_results=1)[0]
        assert best.name == "trial-0003"
        assert best.source_run_id == study.store.run(3)
        assert best.metrics[0].dataset_name == "demo"


def test_nothing_is_written_into_the_working_directory(study: Study, request: pytest.FixtureRequest) -> None:
    assert not (request.config.invocation_params.dir / "mlflow.db").exists()
    ((location,),) = study.store.rows("SELECT artifact_location FROM experiments WHERE name = 'Default'")
    assert location.startswith(str(study.layout.tracking_artifacts))


@pytest.mark.filterwarnings("ignore")
def test_a_registered_model_is_found_by_its_alias_and_an_unknown_one_is_told(study: Study) -> None:
    import mlflow
    from mlflow import MlflowClient

    uri = study.layout.tracking_uri
    mlflow.set_tracking_uri(uri)
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    ((model_id,),) = study.store.rows("SELECT model_id FROM logged_models WHERE name = 'trial-0003'")
    client.create_registered_model("intents")
    version = client.create_model_version("intents", source=f"models:/{model_id}", model_id=model_id)
    client.set_registered_model_alias("intents", "champion", version.version)
    assert (resolve_model("models:/intents@champion", uri) / "config.json").read_text() == "{}"
    assert (resolve_model(f"models:/{model_id}", uri) / "model.safetensors").is_file()
    for unknown in ("models:/intents@nobody", "models:/nothing/1"):
        with pytest.raises(ModelError, match="Check the name and the alias"):
            resolve_model(unknown, uri)
