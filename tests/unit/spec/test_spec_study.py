"""What follows from a spec: fidelities, defaults, settings, storage, round trips, overrides, template."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from sweep.domain import RungLadder
from sweep.errors import InvalidSpecError
from sweep.spec import (
    FloatRange,
    StudySpec,
    bundled_spec,
    load_spec,
    parse_spec,
    spec_from_resolved,
    spec_text,
    study_name_from,
    template,
)
from sweep.spec.model import MetricSpec, ObjectiveSpec, SearchSpec, TrainingSpec

SETTLED = """\
study: intents
objective:
  task: text-classification
  model: bundled:minilm-l6
  data: {train: data/train.csv, test: data/test.csv, text: text, label: category, validation_fraction: 0.1}
  training: {epochs: 4, batch_size: 16, max_length: 64, keep_layers: [0, 2, 5], train_rows: 3000, precision: auto}
search:
  learning_rate: 1e-5..3e-3 log
  dropout: 0..0.5
  weight_decay: 1e-6..0.3 log
  seed: 0
metric: {name: accuracy, direction: maximize, from: best}
budget: {trials: 12}
resources: {cpus_per_trial: 1}
storage: mlruns
"""

OWN = """\
study: "2024"
objective:
  task: package.module:Own
  model: gpt2
  training: {steps: 100, rank: 4, scale: 2.0, note: "1e-5", words: ["yes", "null", "1..2", ""], none: null}
search:
  rank: 1..8 log
  kind: ["1", 1, a, "true"]
  scale: 1..2.5
metric: {name: reward, direction: maximize, from: last}
history: postgresql://me:secret@host/base
tracking: {uri: "http://127.0.0.1:5000"}
"""


@pytest.fixture
def study(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    for name in ("train", "test"):
        (tmp_path / "data" / f"{name}.csv").write_text("text,category\n", encoding="utf-8")
    path = tmp_path / "study.yaml"
    path.write_text(SETTLED, encoding="utf-8")
    return path


def small(search: str = "dropout: 0..0.5", training: str = "epochs: 4", **sections: str) -> StudySpec:
    text = f"""\
study: s
objective: {{model: x, data: bundled:tweets, training: {{{training}}}}}
search: {{{search}}}
"""
    text += "".join(f"{key}: {value}\n" for key, value in sections.items())
    return parse_spec(text, place="s.yaml", folder=Path("/base"))


def test_the_settled_spec_loads_from_any_folder(study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = load_spec(study)
    monkeypatch.chdir(tmp_path / "data")
    assert load_spec(Path("../study.yaml")) == spec
    assert spec.objective.data.train == (str(tmp_path / "data/train.csv"),)
    assert spec.storage == str(tmp_path / "mlruns")
    assert spec.layout.folder == tmp_path / "mlruns/studies/intents"
    assert spec.objective.training.keep_layers == (0, 2, 5)
    assert spec.search.space["learning_rate"] == FloatRange(low=1e-5, high=3e-3, log=True)
    assert (spec.rule.name, spec.rule.direction, spec.rule.source) == ("accuracy", "maximize", "best")
    assert spec.defaults() == {"learning_rate": 5e-5, "dropout": 0.1, "weight_decay": 0.01}


def test_home_and_folders_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "models/mine").mkdir(parents=True)
    (tmp_path / "rows.JSONL").write_text("{}\n", encoding="utf-8")
    text = """\
study: s
objective: {model: models/mine, data: {train: [~/rows.JSONL]}}
search: {dropout: 0..0.1}
storage: ~/runs
tracking: {uri: "sqlite:///mlflow.db"}
history: sqlite:///history.db?timeout=5
"""
    spec = parse_spec(text, place="s", folder=tmp_path)
    assert spec.objective.model == str(tmp_path / "models/mine")
    assert spec.objective.data.train == (str(tmp_path / "rows.JSONL"),)
    assert spec.storage == str(tmp_path / "runs")
    assert spec.tracking.uri == f"sqlite:///{tmp_path}/mlflow.db"
    assert spec.history == f"sqlite:///{tmp_path}/history.db?timeout=5"


def test_rungs_start_near_six_percent_and_grow_by_eta() -> None:
    assert small().ladder == RungLadder(min_fidelity=0.25, max_fidelity=4.0, reduction_factor=3)
    assert small(search="dropout: 0..0.5, pruner: none").ladder is None
    assert small(search="dropout: 0..0.5, pruner: median").ladder is None


def test_rungs_in_steps_are_whole() -> None:
    ladder = small(training="steps: 100").ladder
    assert ladder is not None
    assert ladder.rungs == (6.0, 18.0, 54.0)
    assert small(training="steps: 3").ladder == RungLadder(min_fidelity=1.0, max_fidelity=3.0)
    assert small(training="steps: 1").ladder is None


@pytest.mark.parametrize(
    ("search", "training", "fidelities"),
    [
        ("pruner: none", "epochs: 4", (1, 2, 3, 4)),
        ("pruner: none", "epochs: 2.5", (1, 2, 2.5)),
        ("pruner: none", "epochs: 3.1", (1, 2, 3.1)),  # 3 gives way to the full run
        ("pruner: none", "epochs: 0.5", (0.5,)),
        ("pruner: none", "epochs: 12", tuple(range(1, 13))),
        ("pruner: none", "epochs: 1, evaluate_every: 0.25", (0.25, 0.5, 0.75, 1)),
        ("pruner: none", "epochs: 1, evaluate_every: 0.1", (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1)),
        ("pruner: none", "steps: 100", (25, 50, 75, 100)),
        ("pruner: none", "steps: 10", (2, 5, 8, 10)),
        ("pruner: none", "steps: 100, evaluate_every: 40", (40, 80, 100)),
        ("seed: 1", "epochs: 4", (0.25, 0.75, 2.25, 3, 4)),  # 1 and 2 give way to the rungs
        ("seed: 1", "epochs: 3", (0.1875, 0.5625, 1, 1.6875, 3)),
        ("pruner: {first_rung: 0.25}", "epochs: 4", (1, 2, 3, 4)),
        ("pruner: {first_rung: 0.24}", "epochs: 4", (0.96, 2, 2.88, 4)),  # 1 and 3 give way to the rungs
        ("epochs: 1..4, pruner: none", "{}", (1, 2, 3, 4)),
        ("steps: [10, 40], pruner: none", "batch_size: 8", (10, 20, 30, 40)),
    ],
)
def test_evaluations_are_the_rungs_and_the_epochs(search: str, training: str, fidelities: tuple[float, ...]) -> None:
    spec = small(f"dropout: 0..0.5, {search}", training.strip("{}"))
    assert spec.evaluate_at == pytest.approx(fidelities)
    assert spec.evaluate_at[-1] == spec.max_fidelity


def test_a_very_long_run_is_evaluated_a_thousand_times_at_most() -> None:
    for epochs in ("1e30", "1e308", "5000"):
        spec = small("dropout: 0..0.5, pruner: none", f"epochs: {epochs}")
        assert len(spec.evaluate_at) == 1000
        assert spec.evaluate_at[-1] == spec.max_fidelity


def test_searched_length_tells_unit_and_top() -> None:
    spec = small("steps: 10..40", "batch_size: 8")
    assert (spec.fidelity_unit, spec.max_fidelity) == ("steps", 40.0)
    assert spec.defaults() == {"steps": 40}
    assert spec.settings({"steps": 20})["epochs"] is None
    spec = small("epochs: [1, 2]", "batch_size: 8")
    assert (spec.fidelity_unit, spec.max_fidelity) == ("epochs", 2.0)
    assert spec.defaults() == {"epochs": 1.0}
    assert small(training="").objective.training.epochs == 3.0


@pytest.mark.parametrize(
    ("search", "training", "default"),
    [
        ("learning_rate: 1e-4..1e-3 log", "", 1e-4),
        ("learning_rate: 1e-4..1e-3 log", "learning_rate: 5e-4", 5e-4),
        ("learning_rate: 1e-6..1e-5 log", "", 1e-5),
        ("dropout: 0..0.5", "", 0.1),
        ("dropout: 0.2..0.5", "", 0.2),
        ("dropout: 0..0.5 step 0.25", "", 0.0),
        ("dropout: 0..0.5", "dropout: null", 0.1),
        ("dropout: [0.2, 0.3]", "", 0.2),
        ("dropout: [0.2, null]", "", None),
        ("batch_size: 8..12 step 4", "", 12),
        ("batch_size: [8, 32]", "", 8),
        ("batch_size: [8, 16]", "", 16),
        ("keep_layers: [[0, 1], [0, 2, 5]]", "keep_layers: [0, 2, 5]", (0, 2, 5)),
        ("keep_layers: [[0, 1], [0, 2, 5]]", "", (0, 1)),
        ("train_rows: 100..1000", "", 1000),
        ("schedule: [constant, linear]", "", "linear"),
        ("warmup_steps: 0..50", "", 0),
        ("attention_dropout: 0..0.5", "", 0.1),
        ("layer_drop: 0..0.5", "", 0.0),
        ("patience: 1..5", "", 5),
        ("learning_rate: 1e-5..1e-2 log", "method: lora", 5e-4),
    ],
)
def test_trial_0_takes_the_nearest_to_the_training_value(search: str, training: str, default: object) -> None:
    (value,) = small(search, training).defaults().values()
    assert value == default
    assert type(value) is type(default)


@pytest.mark.parametrize(
    ("search", "training", "told"),
    [
        ("learning_rate: 1e-4..1e-3 log", "", "trial 0 takes learning_rate 0.0001: the built-in default 5e-05 "),
        ("learning_rate: 1e-4..1e-3 log", "learning_rate: 2e-5", None),
        ("learning_rate: 1e-5..1e-3 log", "", None),
        ("learning_rate: 1e-5..1e-4 log", "method: lora", "built-in default 0.0005 "),
        ("batch_size: [8, 32]", "", "trial 0 takes batch_size 8: the built-in default 16 "),
        ("dropout: 0.2..0.5", "", None),
        ("epochs: 1..2", "", "trial 0 takes epochs 2: the built-in default 3 "),
        ("steps: 10..20", "", None),
    ],
)
def test_a_default_that_cannot_be_drawn_is_told(search: str, training: str, told: str | None) -> None:
    found = small(search, training).moved_defaults()
    assert [told in line for line in found if told] == [True] * (told is not None)
    assert len(found) == (told is not None)


@pytest.mark.parametrize(
    ("search", "training", "written"),
    [
        ("learning_rate: 1e-4..1e-3 log", "learning_rate: 5e-5", 5e-5),
        ("dropout: 0..0.5 step 0.25", "dropout: 0.4", 0.4),
        ("batch_size: [8, 32]", "batch_size: 16", 16),
        ("batch_size: 8..12 step 4", "batch_size: 9", 9),
        ("keep_layers: [[0, 1], [0, 2]]", "keep_layers: [0, 5]", (0, 5)),
        ("keep_layers: [[0, 1], [0, 2]]", "keep_layers: null", None),
        ("schedule: [constant, linear]", "schedule: constant", "constant"),
        ("epochs: 1..3", "epochs: 5", 5.0),
        ("steps: 10..30", "steps: 5", 5),
    ],
)
def test_trial_0_is_what_was_written_even_outside_of_the_space(search: str, training: str, written: object) -> None:
    spec = small(search, training)
    (value,) = spec.defaults().values()
    assert value == written
    assert type(value) is type(written)
    assert spec_from_resolved(spec.resolved()).defaults() == spec.defaults()


def test_what_was_not_written_stays_within_the_space_after_storing() -> None:
    spec = small("learning_rate: 1e-4..1e-3 log, dropout: [0.2, 0.3], keep_layers: [[0], [1]]", "epochs: 1")
    assert spec.defaults() == {"learning_rate": 1e-4, "dropout": 0.2, "keep_layers": (0,)}
    assert spec_from_resolved(spec.resolved()).defaults() == spec.defaults()


def test_a_written_length_above_the_range_is_run_and_evaluated_to_its_end() -> None:
    spec = small("epochs: 1..3", "epochs: 5")
    assert (spec.max_fidelity, spec.evaluate_at[-1]) == (5.0, 5.0)
    assert spec.ladder is not None
    assert spec.ladder.max_fidelity == 5.0
    assert small("epochs: 1..3", "epochs: 2").max_fidelity == 3.0
    assert small("steps: 10..40", "steps: 100").evaluate_at[-1] == 100.0
    with pytest.raises(InvalidSpecError, match="more than 1000 evaluations in 20000 epochs"):
        small("epochs: 1..3", "epochs: 20000, evaluate_every: 1")


def test_an_own_setting_is_trial_0s_as_written() -> None:
    spec = parse_spec(OWN.replace("rank: 4", "rank: 40"), place="own.yaml", folder=Path("/"))
    assert spec.defaults() == {"rank": 40, "kind": "1", "scale": 2.0}


def test_drawn_values_lie_over_the_settings_and_all_is_jsonable(study: Path) -> None:
    spec = load_spec(study)
    settings = spec.settings({"learning_rate": 1e-3, "keep_layers": (0, 5)})
    assert (settings["learning_rate"], settings["keep_layers"], settings["max_length"]) == (1e-3, [0, 5], 64)
    assert "extra" not in settings
    told = spec.objective_settings()
    assert json.loads(json.dumps(told)) == told
    assert set(told) == {"task", "model", "trust_remote_code", "data", "training", "space", "metric", "seed"}
    assert told["space"]["dropout"] == {"low": 0.0, "high": 0.5}
    assert small("keep_layers: [[0], [1]]").objective_settings()["space"] == {"keep_layers": {"choices": [[0], [1]]}}


@pytest.mark.parametrize("text", [SETTLED, OWN, template()], ids=["settled", "own", "template"])
def test_a_resolved_spec_loads_to_an_equal_one_through_every_door(text: str, study: Path, tmp_path: Path) -> None:
    spec = parse_spec(text, place="study.yaml", folder=study.parent)
    stored = json.loads(json.dumps(spec.resolved()))
    assert repr(spec_from_resolved(stored)) == repr(spec)
    elsewhere = tmp_path / "spec.yaml"
    elsewhere.write_text(spec_text(spec.resolved()), encoding="utf-8")
    assert repr(load_spec(elsewhere)) == repr(spec)


def test_a_resolved_spec_with_files_for_every_split_loads_to_an_equal_one(study: Path, tmp_path: Path) -> None:
    (tmp_path / "data/v.json").write_text("[]", encoding="utf-8")
    text = SETTLED.replace("validation_fraction: 0.1", "validation: data/v.json")
    spec = parse_spec(text, place="study.yaml", folder=study.parent)
    assert repr(spec_from_resolved(spec.resolved())) == repr(spec)
    assert repr(parse_spec(spec_text(spec.resolved()), place="stored.yaml", folder=tmp_path)) == repr(spec)
    stored = spec.resolved()
    stored["objective"]["data"]["validation_fraction"] = 0.1  # as studies were stored once
    assert spec_from_resolved(stored) == spec


def test_a_hub_data_set_may_name_its_configuration() -> None:
    data = "{source: 'nyu-mll/glue:sst2', text: sentence}"
    text = f"study: s\nobjective: {{model: x, data: {data}}}\nsearch: {{dropout: 0..0.1}}"
    assert parse_spec(text, place="s.yaml", folder=Path("/")).objective.data.source == "nyu-mll/glue:sst2"


def test_half_precision_is_for_studies_with_a_gpu() -> None:
    spec = small(training="precision: fp16", resources="{gpus_per_trial: 0.5}")
    assert spec.objective.training.precision == "fp16"


def test_what_does_not_go_with_a_sharded_model_is_told_for_each_setting() -> None:
    resources = "{devices_per_trial: 2, cpus_per_trial: 2, strategy: fsdp}"
    assert small(training="optimizer: lion", resources=resources).resources.strategy == "fsdp"
    with pytest.raises(InvalidSpecError) as told:
        small(training="method: lora, compile: true, layer_drop: 0.1", resources=resources)
    for name in ("method=lora", "compile=true", "layer_drop=0.1"):
        assert f"objective.training.{name} does not go with resources.strategy=fsdp" in str(told.value)


def test_a_stored_spec_outlives_its_files(study: Path) -> None:
    spec = load_spec(study)
    (study.parent / "data/train.csv").unlink()
    assert spec_from_resolved(spec.resolved()) == spec
    with pytest.raises(InvalidSpecError, match="does not exist"):
        load_spec(study)


def test_stored_values_that_are_no_spec_are_refused() -> None:
    with pytest.raises(InvalidSpecError, match="stored spec: study is missing"):
        spec_from_resolved({"objective": None, 3: [object()]})  # type: ignore[dict-item]


def test_a_spec_built_in_code_equals_one_that_was_loaded() -> None:
    loaded = small("learning_rate: 1e-5..1e-3 log", "batch_size: 8")
    built = StudySpec(
        study="s",
        objective=ObjectiveSpec(model="x", data=loaded.objective.data, training=TrainingSpec(batch_size=8)),
        search=SearchSpec(space={"learning_rate": FloatRange(low=1e-5, high=1e-3, log=True)}),
        metric=MetricSpec(source="best"),
        storage="/base/mlruns",
    )
    assert built == loaded


def test_overrides_lie_over_the_file_in_their_order(study: Path) -> None:
    spec = load_spec(
        study,
        [
            "budget.trials=3",
            "budget.trials=4",
            "search.learning_rate=1e-4..1e-2 log",
            "search.batch_size=[8, 16]",
            "objective.training.epochs=null",
            "objective.training.steps=1e2",
            "search.pruner=median",
            "search.pruner.first_rung=0.5",
            "metric=loss",
            "objective.data.test=",
            "tracking.uri=http://127.0.0.1:5000",
        ],
    )
    assert spec.budget.trials == 4
    assert spec.search.space["learning_rate"] == FloatRange(low=1e-4, high=1e-2, log=True)
    assert spec.defaults()["batch_size"] == 16
    assert (spec.fidelity_unit, spec.max_fidelity) == ("steps", 100.0)
    assert (spec.search.pruner.name, spec.search.pruner.first_rung) == ("median", 0.5)
    assert (spec.metric.name, spec.metric.direction) == ("loss", "minimize")
    assert spec.tracking.uri == "http://127.0.0.1:5000"


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("budget.trials=0", "budget.trials=0 is below 1. Use 1 or more."),
        ("budgte.trials=1", "budgte is not a known key. Did you mean budget?"),
        ("search.dropout=0.5..0.1", "search.dropout.low=0.5 is above high=0.1. Swap them."),
        ("trials", "is not of the form a.b=c. Write --set search.seed=1, for example."),
        ("a..b=1", "is not of the form a.b=c. Write --set search.seed=1, for example."),
        (
            "search.dropout.low=0.1",
            "search.dropout=0..0.5 has no keys inside. Set search.dropout as a whole.",
        ),
        (
            "keep=[1",
            "is not valid YAML: while parsing a flow sequence; expected ',' or ']', but got "
            "'<stream end>'. Mind indentation, colons, brackets and quotes.",
        ),
    ],
)
def test_a_wrong_override_is_named_as_it_was_typed(override: str, problem: str, study: Path) -> None:
    with pytest.raises(InvalidSpecError) as caught:
        load_spec(study, [override])
    assert caught.value.problems == [f"--set {override}: {problem}"]


def test_an_own_objective_needs_a_direction_and_no_data() -> None:
    spec = parse_spec(OWN, place="own.yaml", folder=Path("/"))
    assert spec.objective.data.source is None
    assert spec.defaults()["rank"] == 4
    with pytest.raises(InvalidSpecError) as caught:
        parse_spec(OWN.replace("direction: maximize, ", ""), place="own.yaml", folder=Path("/"))
    assert caught.value.problems == [
        "own.yaml:10: metric.name=reward has no direction, and only you know which way is better. "
        "Add direction: maximize or direction: minimize."
    ]


def test_an_empty_section_is_one_left_out() -> None:
    assert small(budget="", resources="null", metric="") == small()


def test_the_template_says_beside_each_key_what_folds_want_of_it(tmp_path: Path) -> None:
    text = template().replace("folds: null", "folds: 5")
    with pytest.raises(InvalidSpecError) as refused:
        parse_spec(text, place="study.yaml", folder=tmp_path)
    wrong = [int(problem.split(":")[1]) for problem in refused.value.problems]
    assert len(wrong) == 3
    assert all("folds" in text.splitlines()[line - 1] for line in wrong)


def test_the_template_runs_as_written_and_names_every_key(tmp_path: Path) -> None:
    spec = parse_spec(template(), place="study.yaml", folder=tmp_path)
    assert spec.objective.data.source == "bundled:tweets"
    written = yaml.load(template(), yaml.BaseLoader)  # makes texts only; YAML 1.1 reads `on` as true
    resolved = spec.resolved()
    for section in ("objective", "search", "metric", "budget", "resources", "limits", "on", "tracking"):
        assert set(resolved[section]) <= set(written[section])
    assert set(resolved) == set(written)
    assert set(resolved["objective"]["training"]) - set(written["objective"]["training"]) == {"steps"}
    for key in resolved["objective"]["data"]:
        assert f" {key}: " in template()
    assert len(template().splitlines()) < 130
    assert max(map(len, template().splitlines())) <= 110


def test_a_range_of_rates_that_is_to_be_found_stands_in_the_spec_until_it_is() -> None:
    spec = small("learning_rate: auto", "")
    assert spec.search.finds_rate
    assert spec.resolved()["search"]["learning_rate"] == "auto"
    assert spec_from_resolved(spec.resolved()) == spec
    assert spec.defaults() == {"learning_rate": 5e-5}
    found = spec.with_rates(2e-5, 8e-4)
    assert found.search.space == {"learning_rate": FloatRange(low=2e-5, high=8e-4, log=True)}
    assert not found.search.finds_rate
    assert found.resolved()["search"]["learning_rate"] == {"low": 2e-5, "high": 8e-4, "log": True, "step": None}
    assert spec_from_resolved(found.resolved()) == found


@pytest.mark.parametrize("train", ["rows.csv", "my rows: #1.csv", "null.csv", 'it"s.tsv', "{a}.csv", "ü.jsonl"])
def test_the_template_takes_any_file_and_any_column(train: str, tmp_path: Path) -> None:
    (tmp_path / train).write_text("a,b\n", encoding="utf-8")
    for column in ("category", "yes", "1", "- text: #", "{label}", "null"):
        for columns in ((column, "other"), ("other", column)):
            named = dict(zip(("text", "label"), columns, strict=True))
            text = template(study=study_name_from(train), train=train, columns=named)
            spec = parse_spec(text, place="study.yaml", folder=tmp_path)
            assert spec.objective.data.train == (str(tmp_path / train),)
            assert tuple(spec.objective.data.columns[part] for part in ("text", "label")) == columns


@pytest.mark.parametrize(
    ("text", "name"),
    [("intents", "intents"), ("my data.v2", "my-data.v2"), ("../..", "my-study"), ("ü", "my-study")],
)
def test_a_study_name_resembles_its_file(text: str, name: str) -> None:
    assert study_name_from(text) == name


def test_the_bundled_study_loads_and_takes_overrides(tmp_path: Path) -> None:
    spec = bundled_spec(tmp_path, ["budget.trials=2"])
    assert (spec.study, spec.budget.trials, spec.storage) == ("tweets", 2, str(tmp_path))
    assert list(spec.search.space) == ["learning_rate", "dropout", "weight_decay"]
    assert spec.objective.data.source == "bundled:tweets"


def test_importing_the_room_loads_no_heavy_library() -> None:
    code = "import sys, sweep.spec; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(run.stdout.split())
    assert "pydantic" in loaded
    assert not loaded & {"torch", "transformers", "datasets", "ray", "mlflow", "optuna", "numpy", "scipy"}
