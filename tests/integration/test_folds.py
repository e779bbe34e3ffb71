"""A study with k-fold validation, from its spec to a model that keeps its promise."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from dashboards.charts import charts
from objectives.data.preparation import PreparedData
from sweep.domain import TrialState
from sweep.search import read_trials
from sweep.selection.winner import read_verdict
from sweep.spec import parse_spec
from sweep.spec.model import StudySpec
from sweep.study_files import read_facts, read_spec
from sweep.study_view import StudyWatch
from tests.task_studies import folded_study, under_test
from tests.tiny_study import materials, run, sweep

CORPORA = Path(__file__).parents[3] / "shared" / "data"
FOLDS = 6
SPEC = """
study: {name}
objective:
  model: {folder}/base
  data: {{train: {folder}/rows.jsonl, folds: {folds}, test_fraction: 0.3}}
  training: {{epochs: {epochs}, batch_size: 8, max_length: 16, precision: fp32, learning_rate: 1e-2, dropout: 0.0}}
search: {{learning_rate: [0.01, 1e-8, 0.02, 1e-7]}}
budget: {{trials: {trials}}}
storage: {folder}/mlruns
"""


def folded(folder: Path, name: str, *overrides: str, folds: int, epochs: int, trials: int) -> StudySpec:
    text = SPEC.format(name=name, folder=folder, folds=folds, epochs=epochs, trials=trials)
    return parse_spec(text, place="study.yaml", folder=folder, overrides=list(overrides))


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> StudySpec:
    folder = materials(tmp_path_factory.mktemp("folds"), rows=90)
    spec = folded(folder, "folds", folds=FOLDS, epochs=6, trials=4)
    run(spec)
    return spec


def folder_of(spec: StudySpec) -> Path:
    return Path(spec.storage).parent


def test_the_winner_is_the_best_mean_and_the_plainly_worse_are_stopped_early(study: StudySpec) -> None:
    trials = read_trials(study)
    best = max((t for t in trials if t.state is TrialState.COMPLETE), key=lambda t: t.value or 0.0)
    assert best.value is not None
    assert best.value > 0.8
    assert len(best.values) == FOLDS
    assert best.value == pytest.approx(sum(best.values.values()) / FOLDS)
    stopped = [trial for trial in trials if trial.state is TrialState.PRUNED]
    assert stopped
    for trial in stopped:
        assert float(str(trial.hyperparameters["learning_rate"])) < 1e-6
        assert len(trial.values) == FOLDS - 1


def test_the_model_that_is_kept_was_trained_on_all_rows_and_is_verified_by_them(study: StudySpec) -> None:
    folder = folder_of(study)
    told = json.loads(sweep(folder, "export", "folds", "--to", "taken", "--json").stdout)
    checked = json.loads(sweep(folder, "verify", "taken", "--json").stdout)
    assert {score["split"]: score["reproduced"] for score in checked["scores"]} == {"train": True, "test": True}
    assert told["metrics"]["train/accuracy"] > 0.8
    card = (folder / "taken" / "README.md").read_text()
    assert f"as the mean over {FOLDS} folds of the training rows" in card
    assert "trained on all of these rows" in card


def test_best_says_what_the_score_and_the_model_are(study: StudySpec) -> None:
    told = sweep(folder_of(study), "best", "folds").stdout
    assert f"mean of {FOLDS} folds [" in told
    assert "its model is trained on all rows" in told


def test_each_fold_is_in_mlflow(study: StudySpec) -> None:
    client = MlflowClient(tracking_uri=f"sqlite:///{study.storage}/mlflow.db")
    [experiment] = client.search_experiments(filter_string="name = 'folds'")
    [baseline] = client.search_runs([experiment.experiment_id], "tags.`sweep.trial_number` = '0'")
    [trial] = [trial for trial in read_trials(study) if trial.number == 0]
    own = client.get_metric_history(baseline.info.run_id, "fold/accuracy")
    assert [metric.value for metric in own] == pytest.approx(list(trial.values.values()))
    metrics = baseline.data.metrics
    assert metrics["accuracy"] == pytest.approx(trial.value)
    assert metrics["accuracy_low"] <= metrics["accuracy"] <= metrics["accuracy_high"]
    assert metrics["folds"] == FOLDS
    shown = {file.path for file in client.list_artifacts(baseline.info.run_id)}
    assert {f"fold-{fold}" for fold in range(1, FOLDS + 1)} <= shown


def test_the_curve_on_the_pages_is_that_of_the_folds(study: StudySpec) -> None:
    view = StudyWatch(study).read()
    assert (view.facts.fidelity_unit, view.facts.full_run) == ("folds", FOLDS)
    [trial] = [trial for trial in view.trials if trial.number == 0]
    stored = read_trials(study)[0]
    assert [point.fidelity for point in trial.curve] == list(range(1, FOLDS + 1))
    assert [point.value for point in trial.curve] == list(stored.values.values())


def test_the_charts_speak_of_folds(study: StudySpec) -> None:
    chart = charts(StudyWatch(study).read())["learning_curves"]
    assert chart["layout"]["xaxis"]["title"]["text"] == "folds"
    told = [text for trace in chart["data"] for text in trace["text"] if text]
    assert told
    assert all(re.fullmatch(r"trial \d, fold [1-6]: [\d.]+", text) for text in told)


def test_trials_in_folds_are_compared_by_their_means_and_the_test_rows_are_pointed_to(study: StudySpec) -> None:
    stopped = next(trial.number for trial in read_trials(study) if trial.state is TrialState.PRUNED)
    told = sweep(folder_of(study), "compare", "folds:0", f"folds:{stopped}").stdout
    assert f"(recorded, mean over {FOLDS} folds)" in told
    assert f"(recorded, mean over {FOLDS - 1} folds)" in told
    assert f" at fold {FOLDS}, as means\n" in told
    assert "note: folds:0 was validated in folds" in told
    assert "there is no paired test on them. Add `--split test`." in told


def test_check_tells_the_folds_and_a_pruner_that_can_say_nothing(study: StudySpec) -> None:
    folder = folder_of(study)
    text = SPEC.format(name="other", folder=folder, folds=4, epochs=1, trials=2)
    (folder / "other.yaml").write_text(text + "confirm: {finalists: 1, seeds: 2}\n")
    told = sweep(folder, "check", "other.yaml", "--set", "search.weight_decay=0.05..0.2").stdout
    assert "warning    trial 0 takes weight_decay 0.05: the built-in default 0.01 cannot be drawn" in told
    assert "folds      4 of 15 or 16 rows; a trial trains 5 models, the last on all rows" in told
    assert "evaluated  at 1, 2, 3, 4 folds" in told
    assert "3 folds can never say with p below 0.1 that a trial is worse" in told


@pytest.mark.slow
def test_a_final_repeats_the_folds_on_fresh_seeds_and_rows(tmp_path: Path) -> None:
    folder = materials(tmp_path, rows=60)
    final = "confirm={finalists: 1, seeds: 2, splits: fresh}"
    spec = folded(folder, "sure", final, folds=2, epochs=1, trials=2)
    run(spec)
    verdict = read_verdict(spec.layout)
    assert verdict is not None
    assert verdict.deploy is not None
    runs = read_trials(read_spec(spec.layout.confirmation, given=spec))
    assert {len(trial.values) for trial in runs} == {2}
    folders = read_facts(spec.layout.confirmation, "data")["prepared"]
    folds = [PreparedData.open(Path(own)).folds for own in folders]
    assert folds == [2, 2]


def test_a_few_hundred_real_messages_are_learnt(tmp_path: Path) -> None:
    file = CORPORA / "sms_spam" / "sms.tsv"
    if not file.is_file():
        pytest.skip(f"{file} is not there: this corpus does not come with the repository")
    lines = [line.partition("\t") for line in file.read_text(encoding="utf-8").splitlines()]
    random.Random(0).shuffle(lines)
    rows = [{"text": text, "label": label} for label, _, text in lines if label == "spam"][:150]
    rows += [{"text": text, "label": label} for label, _, text in lines if label == "ham"][:150]
    tested = under_test(folded_study(tmp_path, rows=rows, folds=5, epochs=4, learning_rate=5e-3, accumulation=1))
    [*_, last] = tested.create().train(tested.request())
    assert last.metrics["accuracy"] > 0.85
    assert last.metrics["accuracy_spread"] < 0.15
