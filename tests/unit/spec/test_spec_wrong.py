"""Wrong specs: each gives exactly one line that names place, value, rule and remedy."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from sweep.errors import InvalidSpecError
from sweep.spec import load_spec, parse_spec

GOOD = """\
study: intents
objective:
  task: text-classification
  model: bundled:minilm-l6
  data: {train: train.csv, text: text, label: category}
  training: {epochs: 4, batch_size: 16}
search:
  learning_rate: 1e-5..3e-3 log
metric: accuracy
budget: {trials: 12}
"""


class Wrong(NamedTuple):
    """A change of the good spec, and the one problem that follows."""

    was: str
    becomes: str
    problem: str


RATE, TRAINING, DATA = "learning_rate: 1e-5..3e-3 log", "{epochs: 4, batch_size: 16}", "{train: train.csv"

WRONG = [
    # names
    Wrong(
        "study: intents",
        "study: ../escape",
        "1: study=../escape is not a study name: 1 to 64 letters, digits, '.', '_' or '-', "
        "the first a letter or digit. Rename it.",
    ),
    Wrong("study: intents\n", "", "1: study is missing. Add 'study: my-study'."),
    Wrong("study: intents", "study:", "1: study has no value. Give one, or leave the key out."),
    Wrong(
        "study: intents",
        "study: [a]",
        "1: study is a list. Write a single word.".replace("study ", "study=[a] "),
    ),
    Wrong("budget:", "budgte:", "10: budgte is not a known key. Did you mean budget?"),
    Wrong("budget: {trials: 12}", "trials: 12", "10: trials is not a known key. Move it to budget."),
    Wrong("{epochs: 4, ", "{epoch: 4, ", "6: objective.training.epoch is not a known key. Did you mean epochs?"),
    Wrong("label: category", "lable: x", "5: objective.data.lable is not a known key. Did you mean label?"),
    Wrong("{trials: 12}", "{zzz: 1}", "10: budget.zzz is not a known key. Known keys: trials, hours, gpu_hours."),
    # task and model
    Wrong(
        "text-classification",
        "text-clasification",
        "3: objective.task=text-clasification is not a known task. Did you mean text-classification?",
    ),
    Wrong(
        "text-classification",
        "pkg.mod:1",
        "3: objective.task=pkg.mod:1 is not of the form package.module:Class. Name the class of your objective.",
    ),
    Wrong(
        "bundled:minilm-l6",
        "bundled:minilm",
        "4: objective.model=bundled:minilm is not a bundled model. Did you mean bundled:minilm-l6?",
    ),
    Wrong(
        "bundled:minilm-l6",
        "models:/best",
        "4: objective.model=models:/best is not a registered model. Write models:/name@alias or models:/name/1.",
    ),
    Wrong(
        "bundled:minilm-l6",
        "/nowhere/model",
        "4: objective.model=/nowhere/model does not exist. Name the folder that holds config.json and the weights.",
    ),
    Wrong(
        "bundled:minilm-l6",
        "a/b/c",
        "4: objective.model=a/b/c is neither a Hub id nor an existing folder. "
        "Write owner/name, the path of a folder, or bundled:minilm-l6.",
    ),
    Wrong("  model: bundled:minilm-l6\n", "", "2: objective.model is missing. Add 'model: bundled:minilm-l6'."),
    # data
    Wrong(
        "  data: {train: train.csv, text: text, label: category}\n",
        "",
        "2: objective.data is missing. Add 'data: {train: train.csv, text: text, label: label}'.",
    ),
    Wrong(
        DATA,
        "{train: nosuch.csv",
        "5: objective.data.train=nosuch.csv does not exist (<folder>/nosuch.csv). Paths start from the spec's folder.",
    ),
    Wrong(
        DATA,
        "{train: rows.xlsx",
        "5: objective.data.train=rows.xlsx has no known extension. Use one of .csv, .tsv, .jsonl, .json, .parquet.",
    ),
    Wrong(
        DATA,
        "{train: .",
        "5: objective.data.train=. is a folder that holds no */*.txt. Name a file in it, or a pattern such as "
        "folder/*.jsonl.",
    ),
    Wrong(
        DATA,
        "{train: [train.csv, gone.csv]",
        "5: objective.data.train[1]=gone.csv does not exist (<folder>/gone.csv). Paths start from the spec's folder.",
    ),
    Wrong(
        DATA,
        "{train: train.csv, test: ./train.csv",
        "5: objective.data.test=./train.csv is already in objective.data.train. "
        "Use each file once: shared rows make scores too good.",
    ),
    Wrong(
        DATA,
        "{source: bundled:tweets, train: train.csv",
        "5: objective.data.train=train.csv goes with source=bundled:tweets. Keep the files or source, not both.",
    ),
    Wrong(
        "{train: train.csv, ",
        "{",
        "5: objective.data names no rows to train on. Add source: bundled:tweets, or train: with a file; "
        "text-classification reads text and label, and text_pair where data names its column, of csv, tsv, jsonl, "
        'json, parquet files (or a folder with */*.txt) with rows such as {"text": "what a day", "label": "good"}.',
    ),
    Wrong(
        "{train: train.csv, text: text, label: category}",
        "train.csv",
        "5: objective.data.source=train.csv is a file, not a data set's id. Write data: {train: train.csv}.",
    ),
    Wrong(
        "{train: train.csv, text: text, label: category}",
        "bundled:tweet",
        "5: objective.data.source=bundled:tweet is not a bundled data set. Did you mean bundled:tweets?",
    ),
    Wrong(
        DATA,
        "{train: train.csv, validation_fraction: 1.5",
        "5: objective.data.validation_fraction=1.5 is not below 1. Use a value below 1.",
    ),
    Wrong(
        DATA,
        "{train: train.csv, validation_fraction: 0.6, test_fraction: 0.4",
        "5: objective.data.test_fraction=0.4 leaves no rows to train on: both fractions make 1. "
        "Lower them until their sum is below 1.",
    ),
    Wrong(
        "{train: train.csv, text: text, label: category}",
        "a/b:c/d",
        "5: objective.data.source=a/b:c/d is not a data set's id. "
        "Write owner/name, owner/name:configuration, bundled:tweets, or name files under train.",
    ),
    Wrong(
        "label: category",
        "label: text",
        "5: objective.data.label=text is the text column too. Name two columns.",
    ),
    Wrong(
        "text: text, label: category",
        "text: label",
        "5: objective.data.text=label is the label column too. Name two columns.",
    ),
    Wrong(
        "{train: train.csv, text: text, label: category}",
        "{source: bundled:tweets, test_fraction: 0.1}",
        "5: objective.data.test_fraction=0.1 does not fit bundled:tweets, which has its test rows. Leave it out.",
    ),
    Wrong(
        DATA,
        "{train: train.csv, test: other.csv, test_fraction: 0.1",
        "5: objective.data.test_fraction=0.1 goes with no test file. Leave it out.",
    ),
    Wrong(
        DATA,
        "{train: train.csv, validation: other.csv, validation_fraction: 0.1",
        "5: objective.data.validation_fraction=0.1 goes with no validation file. Leave it out.",
    ),
    # training
    Wrong(
        TRAINING,
        "{precision: fp16}",
        "6: objective.training.precision=fp16 needs a GPU. Use auto, bf16 or fp32, or set resources.gpus_per_trial.",
    ),
    Wrong(
        RATE,
        "precision: [fp32, fp16]",
        "8: search.precision=[fp32, fp16] holds fp16, which needs a GPU. "
        "Use auto, bf16 or fp32, or set resources.gpus_per_trial.",
    ),
    Wrong(
        TRAINING,
        "{epochs: 4, steps: 50}",
        "6: objective.training.steps=50 goes with objective.training.epochs. Keep one of them.",
    ),
    Wrong(TRAINING, "{epochs: 0}", "6: objective.training.epochs=0 is not above 0. Use a value above 0."),
    Wrong(TRAINING, "{dropout: -0.1}", "6: objective.training.dropout=-0.1 is below 0. Use 0 or more."),
    Wrong(
        TRAINING,
        "{batch_size: 16.5}",
        "6: objective.training.batch_size=16.5 is not a whole number. Write a whole number.",
    ),
    Wrong(
        TRAINING,
        "{epochs: yes}",
        "6: objective.training.epochs=yes is not a number. Write a number, such as 0.1 or 2e-5.",
    ),
    Wrong(
        TRAINING,
        "{learning_rate: .nan}",
        "6: objective.training.learning_rate=.nan is not a finite number. Write a finite number.",
    ),
    Wrong(
        TRAINING,
        "{learning_rate: 1e-5..1e-3}",
        "6: objective.training.learning_rate=1e-5..1e-3 is a range. Write it as search.learning_rate.",
    ),
    Wrong(
        TRAINING,
        "{batch_size: [8, 16]}",
        "6: objective.training.batch_size=[8, 16] is a list. "
        "Write it as search.batch_size to search it, or give one value.",
    ),
    Wrong(
        TRAINING,
        "{keep_layers: [2, 0]}",
        "6: objective.training.keep_layers=[2, 0] is not ascending without doubles. Write [0, 2].",
    ),
    Wrong(
        TRAINING,
        "{keep_layers: [0, x]}",
        "6: objective.training.keep_layers[1]=x is not a whole number. Write a whole number.",
    ),
    Wrong(
        TRAINING,
        "{precision: bf32}",
        "6: objective.training.precision=bf32 is not one of auto, fp32, bf16, fp16. Did you mean fp32?",
    ),
    Wrong(
        TRAINING,
        "{evaluate_every: 1e-9}",
        "6: objective.training.evaluate_every=1e-9 asks for more than 1000 evaluations in 3 epochs. Use 0.003 or more.",
    ),
    # search
    Wrong(
        RATE,
        "learning_rate: 1e-2..1e-4 log",
        "8: search.learning_rate.low=1e-2 is above high=1e-4. Swap them.",
    ),
    Wrong(
        RATE,
        "learning_rate: {low: 1e-2, high: 1e-4}",
        "8: search.learning_rate.low=1e-2 is above high=1e-4. Swap them.",
    ),
    Wrong(RATE, "learning_rate: 0..1e-3", "8: search.learning_rate.low=0 is not above 0. Use a value above 0."),
    Wrong(
        RATE,
        "weight_decay: 0..0.3 log",
        "8: search.weight_decay.low=0 is not above 0, as a log range needs. Raise it, or leave log out.",
    ),
    Wrong(
        RATE,
        "weight_decay: 0.1..0.3 log step 0.1",
        "8: search.weight_decay.step=0.1 cannot go with log. Leave one of them out.",
    ),
    Wrong(
        RATE,
        "dropout: 0.1..0.1",
        "8: search.dropout.low=0.1 equals high, which leaves nothing to search. "
        "Widen the range, or fix the value under objective.training.",
    ),
    Wrong(
        RATE,
        "batch_size: 8..64 step 6",
        "8: search.batch_size.high=64 is not on the grid of step 6 from 8. Use 62 or 68.",
    ),
    Wrong(
        RATE,
        "dropout: 0...0.5",
        "8: search.dropout=0...0.5 has three dots. Write low..high, low..high log, or low..high step s.",
    ),
    Wrong(
        RATE,
        "dropout: 0..0.5 lgo",
        "8: search.dropout=0..0.5 lgo is not a range. Write low..high, low..high log, or low..high step s.",
    ),
    Wrong(
        RATE,
        "dropout: 0.1",
        "8: search.dropout=0.1 is one fixed value. Write low..high or [a, b], or move it to objective.training.",
    ),
    Wrong(
        RATE,
        "batch_size: [16]",
        "8: search.batch_size=[16] has one choice, which leaves nothing to search. "
        "Fix it under objective.training instead.",
    ),
    Wrong(RATE, "batch_size: []", "8: search.batch_size=[] has no choices. Give two or more."),
    Wrong(RATE, "batch_size: [8, 1_6, 16]", "8: search.batch_size=[8, 1_6, 16] holds 16 twice. Remove one."),
    Wrong(
        RATE,
        "schedule: [linear, polynomial]",
        "8: search.schedule[1]=polynomial is not one of linear, cosine, constant, wsd. Use one of them.",
    ),
    Wrong(
        RATE,
        "dropout: auto",
        "8: search.dropout=auto is one fixed value. Write low..high or [a, b], or move it to objective.training.",
    ),
    Wrong(
        RATE,
        "schedule: 1..2",
        "8: search.schedule=1..2 is a range, where only choices make sense. "
        "Write choices, such as [linear, cosine, constant, wsd].",
    ),
    Wrong(
        RATE,
        "keep_layers: [0, 2, 5]",
        "8: search.keep_layers[0]=0 is not a list. Each choice is a list, such as [[0], …].\n"
        "8: search.keep_layers[1]=2 is not a list. Each choice is a list, such as [[2], …].\n"
        "8: search.keep_layers[2]=5 is not a list. Each choice is a list, such as [[5], …].",
    ),
    Wrong(RATE, "lr: 1e-5..1e-3 log", "8: search.lr is not a known setting. Did you mean learning_rate?"),
    Wrong(
        RATE,
        "evaluate_every: 0.1..1",
        "8: search.evaluate_every=0.1..1 cannot be searched: it changes how trials are measured. "
        "Set it under objective.training.",
    ),
    Wrong(
        RATE,
        "steps: 10..100",
        "8: search.steps=10..100 goes with objective.training.epochs. Keep one of them.",
    ),
    Wrong(
        RATE,
        "seed: 3",
        "7: search names no hyperparameter: nothing to search. Add learning_rate: 1e-5..1e-3 log.",
    ),
    Wrong(
        RATE,
        "dropout: {low: 0.1}",
        "8: search.dropout={low: 0.1} has no high. Give low and high, or choices.",
    ),
    Wrong(
        RATE,
        RATE + "\n  sampler: tpee",
        "9: search.sampler.name=tpee is not one of sobol, tpe, random, gp. Did you mean tpe?",
    ),
    Wrong(
        RATE,
        RATE + "\n  pruner: {first_rung: 1}",
        "9: search.pruner.first_rung=1 is not below 1. Use a value below 1.",
    ),
    # metric, budget, resources, stores
    Wrong(
        "metric: accuracy",
        "metric: acuracy",
        "9: metric.name=acuracy is not a metric of text-classification. Did you mean accuracy?",
    ),
    Wrong(
        "metric: accuracy",
        "metric: f1",
        "9: metric.name=f1 is not a metric of text-classification. Did you mean macro_f1?",
    ),
    Wrong(
        "metric: accuracy",
        "metric: {name: loss, direction: maximize}",
        "9: metric.direction=maximize does not fit loss, which is better when smaller. "
        "Use minimize, or leave direction out.",
    ),
    Wrong("{trials: 12}", "{trials: 0}", "10: budget.trials=0 is below 1. Use 1 or more."),
    Wrong("{trials: 12}", "{hours: 0}", "10: budget.hours=0 is not above 0. Use a value above 0."),
    Wrong(
        "budget: {trials: 12}",
        "resources: {workers: 0}",
        "10: resources.workers=0 is below 1. Use 1 or more.",
    ),
    Wrong(
        "budget: {trials: 12}",
        "resources: {gpus_per_trial: 1.5}",
        "10: resources.gpus_per_trial=1.5 is above 1 and not whole. Use a share of one GPU, or whole ones.",
    ),
    Wrong(
        "budget: {trials: 12}",
        "resources: {devices_per_trial: 2}",
        "10: resources.devices_per_trial=2 needs a CPU for the process of each device, and resources.cpus_per_trial "
        "is 1. Set resources.cpus_per_trial to 2 or more.",
    ),
    Wrong(
        "budget: {trials: 12}",
        "resources: {devices_per_trial: 2, cpus_per_trial: 2, gpus_per_trial: 0.5}",
        "10: resources.devices_per_trial=2 does not fit resources.gpus_per_trial=0.5. "
        "Set that to 2, a GPU for each device, or to 0.",
    ),
    Wrong(
        "budget: {trials: 12}",
        "resources: {strategy: fsdp}",
        "10: resources.strategy=fsdp spreads a model over several devices, and resources.devices_per_trial is 1. "
        "Raise that, or use ddp.",
    ),
    Wrong(
        "budget: {trials: 12}",
        "tracking: {uri: ./mlruns}",
        "10: tracking.uri=./mlruns is a file store, which MLflow 3.17 refuses. "
        "Use sqlite:///mlflow.db or http://host:port, or leave the key out.",
    ),
    Wrong(
        "budget: {trials: 12}",
        "history: redis://me:secret@host/0",
        "10: history=redis://me:***@host/0 is not a postgresql://, mysql:// or sqlite:/// URL. "
        "Use postgresql://user@host/database, or leave the key out for a file in the storage.",
    ),
    Wrong(
        "budget: {trials: 12}",
        "storage: s3://bucket",
        "10: storage=s3://bucket is a URL. Name a folder; a shared record goes to tracking.uri and history.",
    ),
    Wrong("budget: {trials: 12}", "keep: 0", "10: keep=0 is below 1. Use 1 or more."),
    # YAML
    Wrong("budget: {trials: 12}", "study: twice", "10: study is given twice, first in line 1. Remove one."),
    Wrong(
        "{trials: 12}",
        "{trials: 12, trials: 12, trials: 12}",
        "10: trials is given twice, first in line 10. Remove one.",
    ),
    Wrong("{trials: 12}", "&b {trials: 12}\nkeep: *b", "11: alias *b is not supported. Write the value out."),
    Wrong(
        "{trials: 12}",
        "!!python/object:os.system {trials: 12}",
        "10: tag tag:yaml.org,2002:python/object:os.system is not supported. Leave it out.",
    ),
    Wrong("{trials: 12}", "{[a]: 12}", "10: a list or mapping is no key. Write 'key: value'."),
    Wrong("{trials: 12}", "[12]", "10: budget=[12] is not a mapping. Write keys with values below it."),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("train.csv", "other.csv"):
        (tmp_path / name).write_text("text,category\n", encoding="utf-8")
    return tmp_path


def problems_of(text: str, folder: Path, overrides: tuple[str, ...] = ()) -> list[str]:
    with pytest.raises(InvalidSpecError) as caught:
        parse_spec(text, place="study.yaml", folder=folder, overrides=overrides)
    assert caught.value.exit_code == 2
    return caught.value.problems


def test_the_good_spec_of_the_table_loads(folder: Path) -> None:
    assert parse_spec(GOOD, place="study.yaml", folder=folder).study == "intents"


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: wrong.becomes.replace("\n", " ")[:50] or "left out")
def test_a_wrong_spec_tells_its_one_problem(wrong: Wrong, folder: Path) -> None:
    assert GOOD.count(wrong.was) == 1
    expected = [f"study.yaml:{line}" for line in wrong.problem.replace("<folder>", str(folder)).split("\n")]
    assert problems_of(GOOD.replace(wrong.was, wrong.becomes), folder) == expected


def test_all_problems_are_told_at_once_in_the_order_of_their_lines(folder: Path) -> None:
    text = """\
study: bad/name
objective:
  model: bundled:minilm-l6
  data:
    train: gone.csv
    lable: x
  training:
    batch_size: 0
    keep_layers:
      - 3
      - 1
search:
  learning_rate:
    high: 1e-4
    low: 1e-2
  dropout: -1..0.5
metric: {name: mc, from: lst}
keep: none
"""
    found = problems_of(text, folder, ("budget.trials=0", "search.seed=-1"))
    assert [line.split(" ")[0 if "--set" not in line else 1] for line in found] == [
        "study.yaml:1:",
        "study.yaml:5:",
        "study.yaml:6:",
        "study.yaml:8:",
        "study.yaml:9:",
        "study.yaml:15:",
        "study.yaml:16:",
        "study.yaml:17:",
        "study.yaml:17:",
        "study.yaml:18:",
        "budget.trials=0:",
        "search.seed=-1:",
    ]
    assert len(set(found)) == len(found)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "study.yaml:1: is empty. Write a spec with 'sweep init'."),
        ("# nothing\n", "study.yaml:1: is empty. Write a spec with 'sweep init'."),
        (
            "- a\n- b\n",
            "study.yaml:1: is a list, not a mapping of keys. "
            "Start with 'study: my-study'; 'sweep init' writes a whole one.",
        ),
        (
            "just words",
            "study.yaml:1: is a single value, not a mapping of keys. "
            "Start with 'study: my-study'; 'sweep init' writes a whole one.",
        ),
        (
            "study: a\n  b: c\n",
            "study.yaml:2: is not valid YAML: mapping values are not allowed here. "
            "Mind indentation, colons, brackets and quotes.",
        ),
        (
            "a: b\n---\nc: d\n",
            "study.yaml:2: is not valid YAML: expected a single document in the stream; but found another document. "
            "Mind indentation, colons, brackets and quotes.",
        ),
        (
            "a: 1\nb: \0\n",
            "study.yaml:2: holds a character that text cannot have. Save the file as plain UTF-8 text.",
        ),
        ("x: " + "[" * 30, "study.yaml:1: nesting is deeper than 20. A spec needs 5 levels at most."),
        (
            "x: [" + "1," * 20_000 + "]",
            "study.yaml:1: more than 10000 values are too many for a spec. Is this the right file?",
        ),
    ],
    ids=["empty", "comment", "list", "words", "indentation", "two documents", "NUL", "deep", "many"],
)
def test_what_is_no_spec_at_all_is_one_clear_error(text: str, problem: str, folder: Path) -> None:
    assert problems_of(text, folder) == [problem]


def test_files_that_are_no_text_are_one_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"

    def problem() -> str:
        with pytest.raises(InvalidSpecError) as caught:
            load_spec(path)
        (line,) = caught.value.problems
        return line.removeprefix(str(path))

    assert problem() == f": does not exist. Write one with 'sweep init {path}'."
    path.write_bytes(b"study: a\nkeep: \xff\xfe\n")
    assert problem() == ":2: is not UTF-8 text. Save the file as UTF-8."
    path.write_bytes(b"\0" * 100)
    assert problem() == ":1: holds a character that text cannot have. Save the file as plain UTF-8 text."
    path.write_bytes(b"#" * (1024 * 1024 + 1))
    assert problem() == ": is larger than 1 MiB, which no spec is. Is this the right file?"
    path.unlink()
    path.mkdir()
    assert problem() == ": is a folder. Name the YAML file in it."
