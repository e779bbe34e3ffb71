"""Numbers, ranges and choices mean what they say, however YAML types them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from sweep.domain import HyperparameterValue
from sweep.spec import Choices, Distribution, FloatRange, IntRange, StudySpec, parse_spec
from sweep.spec.model import DataSpec, TrainingSpec
from sweep.spec.space import within


def spec_of(search: str, training: str = "{}", task: str = "text-classification") -> StudySpec:
    text = f"""\
study: s
objective:
  task: {task}
  model: bundled:minilm-l6
  data: bundled:tweets
  training: {training}
search: {search}
metric: accuracy
"""
    return parse_spec(text, place="study.yaml", folder=Path("/"))


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("2e-5", 2e-5),
        ("2E-5", 2e-5),
        ("+2.0e-05", 2e-5),
        (".5", 0.5),
        ("5.", 5.0),
        ("1", 1.0),
        ("1_000", 1000.0),
        ('"1e-4"', 1e-4),
        ("'0.01'", 0.01),
        ("!!float 3", 3.0),
    ],
)
def test_a_number_is_read_as_written(written: str, value: float) -> None:
    read = spec_of("{dropout: 0..0.5}", f"{{learning_rate: {written}}}").objective.training.learning_rate
    assert read == value
    assert type(read) is float


@pytest.mark.parametrize(
    ("written", "value"),
    [("16", 16), ("1_000", 1000), ("1e5", 100_000), ("16.0", 16), ('"32"', 32), ("010", 10), ("1.6e1", 16)],
)
def test_a_whole_number_is_read_as_written(written: str, value: int) -> None:
    read = spec_of("{dropout: 0..0.5}", f"{{batch_size: {written}}}").objective.training.batch_size
    assert read == value
    assert type(read) is int


@pytest.mark.parametrize(
    ("key", "written", "distribution"),
    [
        ("learning_rate", "1e-6..1e-3 log", FloatRange(low=1e-6, high=1e-3, log=True)),
        ("learning_rate", "{low: 1e-6, high: 1e-3, log: true}", FloatRange(low=1e-6, high=1e-3, log=True)),
        ("learning_rate", "{low: '1e-6', high: 1E-3, log: yes}", FloatRange(low=1e-6, high=1e-3, log=True)),
        ("dropout", "0..0.5", FloatRange(low=0.0, high=0.5)),
        ("dropout", "0 .. .5", FloatRange(low=0.0, high=0.5)),
        ("dropout", '"0..0.5"', FloatRange(low=0.0, high=0.5)),
        ("weight_decay", "0..1 step 0.1", FloatRange(low=0.0, high=1.0, step=0.1)),
        ("weight_decay", "{low: 0, high: 1, step: 0.1, log: null}", FloatRange(low=0.0, high=1.0, step=0.1)),
        ("epochs", "1..4", FloatRange(low=1.0, high=4.0)),
        ("epochs", "1..4 step 1", FloatRange(low=1.0, high=4.0, step=1.0)),
        ("batch_size", "16..128 log", IntRange(low=16, high=128, log=True)),
        ("batch_size", "8..64 step 8", IntRange(low=8, high=64, step=8)),
        ("batch_size", "[8, 16, 32]", Choices((8, 16, 32))),
        ("batch_size", "{choices: [8, 16]}", Choices((8, 16))),
        ("train_rows", "1e2..1e4", IntRange(low=100, high=10_000)),
        ("steps", "100..1_000", IntRange(low=100, high=1000)),
        ("accumulation", "1..6", IntRange(low=1, high=6)),
        ("max_length", "16..128", IntRange(low=16, high=128)),
        ("evaluation_batch_size", "16..128", IntRange(low=16, high=128)),
        ("keep_layers", "[[0, 2, 5], [0, 5]]", Choices(((0, 2, 5), (0, 5)))),
        ("keep_layers", "[null, [0, 5]]", Choices((None, (0, 5)))),
        ("freeze", "[[], [embeddings]]", Choices(((), ("embeddings",)))),
        ("schedule", "[linear, constant]", Choices(("linear", "constant"))),
        ("optimizer", "[adamw, lion]", Choices(("adamw", "lion"))),
        ("layer_decay", "0.7..1", FloatRange(low=0.7, high=1.0)),
        ("warmup", "0..0.3", FloatRange(low=0.0, high=0.3)),
        ("warmup_steps", "[null, 10]", Choices((None, 10))),
        ("cooldown", "0.1..0.5", FloatRange(low=0.1, high=0.5)),
        ("label_smoothing", "[0, 0.1]", Choices((0.0, 0.1))),
        ("dropout", "[null, 0.1]", Choices((None, 0.1))),
        ("learning_rate", "[1e-5, 3e-5]", Choices((1e-5, 3e-5))),
    ],
)
def test_a_range_means_what_it_says(key: str, written: str, distribution: Distribution) -> None:
    needed = "{schedule: wsd}" if key == "cooldown" else "{}"
    read = spec_of(f"{{{key}: {written}}}", needed).search.space[key]
    assert read == distribution
    assert repr(read) == repr(distribution)  # 1 and 1.0 are equal, and not the same


@pytest.mark.parametrize(
    ("written", "distribution"),
    [
        ("1..6", IntRange(low=1, high=6)),
        ("1..6.0", FloatRange(low=1.0, high=6.0)),
        ("1..4 step 0.5", FloatRange(low=1.0, high=4.0, step=0.5)),
        ("1..1000 log", IntRange(low=1, high=1000, log=True)),
        ("[2.5, a, '3', true, null, [1, x]]", Choices((2.5, "a", "3", True, None, (1, "x")))),
    ],
)
def test_an_own_objective_has_hyperparameters_of_its_own(written: str, distribution: Distribution) -> None:
    read = spec_of(f"{{rank: {written}}}", "{rank: 4, words: [a, 2], learning_rate: 1e-4}", "pkg.mod:Own")
    assert repr(read.search.space["rank"]) == repr(distribution)
    assert read.objective.training.extra == {"rank": 4, "words": ("a", 2)}
    assert read.settings({"rank": 3})["rank"] == 3
    assert read.settings({})["words"] == ["a", 2]


@pytest.mark.parametrize("word", ["yes", "No", "on", "OFF"])
def test_a_word_that_may_be_a_truth_value_is_refused_where_no_type_is_known(word: str) -> None:
    with pytest.raises(Exception, match="may mean a truth value or a word"):
        spec_of("{rank: 1..2}", f"{{flag: {word}}}", "pkg.mod:Own")


@pytest.mark.parametrize("name", ["no", "on", "2024", "1e5"])
def test_a_text_stays_the_text_that_was_written(name: str) -> None:
    text = f"study: {name}\nobjective: {{model: x, data: bundled:tweets}}\nsearch: {{dropout: 0..0.1}}"
    assert parse_spec(text, place="s", folder=Path("/")).study == name


@pytest.mark.parametrize(
    "wrong",
    [
        {"learning_rate": 0.0},
        {"dropout": 1.0},
        {"weight_decay": -0.1},
        {"warmup": 1.0},
        {"batch_size": 0},
        {"epochs": 0.0},
        {"epochs": math.nan},
        {"keep_layers": ()},
        {"keep_layers": (1, 0)},
        {"epochs": 1.0, "steps": 1},
        {"learning_rate": "1e-5"},
    ],
)
def test_values_built_in_code_obey_the_same_bounds(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        TrainingSpec(**wrong)


def test_data_built_in_code_has_one_origin() -> None:
    with pytest.raises(ValidationError, match="goes with no files"):
        DataSpec(source="bundled:tweets", train=("/a.csv",))


@pytest.mark.parametrize(
    "make",
    [
        lambda: FloatRange(low=2.0, high=1.0),
        lambda: FloatRange(low=0.0, high=1.0, log=True),
        lambda: FloatRange(low=0.0, high=math.inf),
        lambda: FloatRange(low=0.0, high=1.0, step=0.3),
        lambda: FloatRange(low=0.1, high=1.0, log=True, step=0.1),
        lambda: IntRange(low=3, high=3),
        lambda: IntRange(low=0, high=3, log=True),
        lambda: IntRange(low=0, high=3, step=5),
        lambda: Choices((1,)),
        lambda: Choices((1, 1)),
    ],
)
def test_distributions_refuse_what_cannot_be_drawn_from(make: Any) -> None:
    with pytest.raises(ValueError, match=r"\.$"):
        make()


@given(
    st.sampled_from(
        [
            FloatRange(low=1e-5, high=1e-3, log=True),
            FloatRange(low=-1.0, high=0.0),
            FloatRange(low=0.0, high=1.0, step=0.1),
            IntRange(low=3, high=12, step=3),
            IntRange(low=16, high=128, log=True),
        ]
    ),
    st.one_of(st.none(), st.floats(allow_nan=False), st.integers()),
)
def test_the_nearest_value_lies_in_the_distribution(
    distribution: FloatRange | IntRange, value: HyperparameterValue
) -> None:
    near = within(distribution, value)
    assert isinstance(near, float if isinstance(distribution, FloatRange) else int)
    assert distribution.low <= near <= distribution.high
    if isinstance(distribution, IntRange):
        assert (near - distribution.low) % distribution.step == 0
    elif distribution.step:
        assert near == round(near, 1)
