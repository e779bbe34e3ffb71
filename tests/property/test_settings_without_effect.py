"""Whatever settings are given or searched together: those that would do nothing are refused, and no others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from sweep.errors import InvalidSpecError
from sweep.spec import parse_spec, spec_from_resolved, template
from sweep.spec.idle import needs
from sweep.spec.keys import searchable
from sweep.spec.tasks import sheet_of, task_sheets

# Another value than the default of each training setting, what it is searched by, and what makes it work, if it needs
# anything: told apart from the product's own declarations.
OTHER: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "epochs": (2, "1..2", {}),
    "batch_size": (4, "4..8", {}),
    "evaluation_batch_size": (4, "4..8", {}),
    "accumulation": (2, "1..4", {}),
    "max_length": (64, "16..64", {}),
    "keep_layers": ([0], [[0], [0, 1]], {}),
    "freeze": (["embeddings"], [[], ["embeddings"]], {"method": "full"}),
    "train_rows": (100, "10..100", {}),
    "precision": ("fp32", ["fp32", "bf16"], {}),
    "learning_rate": (1e-3, "1e-5..1e-3 log", {}),
    "dropout": (0.2, "0..0.3", {}),
    "attention_dropout": (0.2, "0..0.3", {}),
    "classifier_dropout": (0.2, "0..0.3", {}),
    "layer_drop": (0.2, "0..0.3", {}),
    "weight_decay": (0.2, "0..0.3", {}),
    "optimizer": ("lion", ["adamw", "lion"], {}),
    "layer_decay": (0.9, "0.5..1", {}),
    "warmup": (0.2, "0..0.3", {"warmup_steps": None}),
    "warmup_steps": (5, "0..5", {}),
    "schedule": ("cosine", ["cosine", "linear"], {}),
    "cooldown": (0.3, "0.1..0.3", {"schedule": "wsd"}),
    "gradient_clipping": (2.0, "0.5..2", {}),
    "label_smoothing": (0.1, "0..0.1", {}),
    "augment_delete": (0.1, "0..0.1", {}),
    "augment_swap": (0.1, "0..0.1", {}),
    "augment_mask": (0.1, "0..0.1", {}),
    "method": ("lora", ["full", "lora"], {}),
    "lora_rank": (4, "2..16", {"method": "lora"}),
    "lora_alpha": (4.0, "2..16", {"method": "dora"}),
    "lora_targets": ("all", ["all", "attention"], {"method": "lora"}),
    "lora_dropout": (0.1, "0..0.1", {"method": "lora"}),
    "quantization": ("nf4", ["none", "nf4"], {"method": "lora"}),
    "gradient_checkpointing": (True, [True, False], {}),
    "compile": (True, [True, False], {}),
    "patience": (2, "1..3", {}),
    "min_delta": (0.1, "0..0.1", {"patience": 3}),
}
WITHOUT = {"freeze": {"method": "lora"}, "warmup": {"warmup_steps": 10}}
"""What takes their effect from settings that have one by default."""


def problems(training: dict[str, Any], search: dict[str, Any], task: str = "text-classification") -> list[str]:
    data = {"source": "owner/name"}
    objective = {"task": task, "model": "x", "data": data, "training": training}
    metric = {"name": "loss", "direction": "minimize"}
    text = yaml.safe_dump({"study": "s", "objective": objective, "search": {"seed": 1, **search}, "metric": metric})
    try:
        parse_spec(text, place="study.yaml", folder=Path("/"))
    except InvalidSpecError as error:
        return error.problems
    return []


def idle(training: dict[str, Any], search: dict[str, Any]) -> set[str]:
    """Paths of what has no effect, by the rules of this file."""
    found = set()
    for name, (_, _, wanted) in OTHER.items():
        for other, value in wanted.items():
            usual = {"method": "full", "schedule": "linear"}.get(other)
            values = [training.get(other, usual)]
            if other in search:
                drawn = search[other] if isinstance(search[other], list) else ["something"]
                values = [*drawn, *([training[other]] if other in training else [])]
            adapters = value in ("lora", "dora")
            works = any(
                v in ("lora", "dora") if adapters else v is not None if value == 3 else v == value for v in values
            )
            if not works:
                found |= {f"objective.training.{name}"} if name in training else set()
                found |= {f"search.{name}"} if name in search else set()
    return found


def test_each_setting_that_may_be_searched_is_known_here() -> None:
    assert set(OTHER) == set(searchable()) - {"steps"}


@pytest.mark.parametrize("name", OTHER)
@pytest.mark.parametrize("place", ["training", "search"])
def test_a_setting_works_with_what_it_needs_and_is_refused_without(name: str, place: str) -> None:
    fixed, searched, wanted = OTHER[name]
    training, search = ({name: fixed}, {"learning_rate": "1e-5..1e-3 log"})
    if place == "search":
        training, search = {}, {**search, name: searched}
    assert problems({**training, **wanted}, search) == []
    if not wanted:
        assert problems(training, search) == []
        return
    [told] = problems({**training, **WITHOUT.get(name, {})}, search)
    path = f"search.{name}" if place == "search" else f"objective.training.{name}"
    assert f" {path}=" in told
    assert "has no effect while objective.training." in told
    assert told.endswith(f", or leave {name} out.")


@settings(max_examples=150, deadline=None)
@given(st.sets(st.sampled_from(sorted(OTHER)), max_size=8), st.sets(st.sampled_from(sorted(OTHER)), max_size=8))
def test_any_settings_together_are_refused_exactly_where_they_do_nothing(given_: set[str], drawn: set[str]) -> None:
    training, search = {name: OTHER[name][0] for name in given_}, {name: OTHER[name][1] for name in drawn}
    told = problems(training, search or {"learning_rate": "1e-5..1e-3 log"})
    wanted = idle(training, search)
    assert len(told) == len(wanted)
    assert all(any(f" {path}=" in line for line in told) for path in wanted)


@pytest.mark.parametrize("task", sorted(task_sheets()))
def test_settings_that_a_task_does_not_use_are_refused(task: str) -> None:
    unused = sheet_of(task).unused
    assert unused <= set(searchable())
    told = problems({name: OTHER[name][0] for name in unused}, {"learning_rate": "1e-5..1e-3 log"}, task)
    assert len(told) == len(unused)
    assert all(f"has no effect on {task}" in line for line in told)
    searched = problems({}, {name: OTHER[name][1] for name in unused} or {"dropout": "0..0.1"}, task)
    assert len(searched) == len(unused)


@pytest.mark.parametrize("key", ["tokenizer: byte-bpe", "vocabulary_size: 500"])
def test_a_tokenizer_is_trained_for_random_weights_alone(key: str) -> None:
    text = f"study: s\nobjective:\n  model: MODEL\n  data: {{source: owner/name, {key}}}\nsearch: {{dropout: 0..0.1}}"
    parse_spec(text.replace("MODEL", "random:bert-tiny"), place="study.yaml", folder=Path("/"))
    with pytest.raises(InvalidSpecError) as caught:
        parse_spec(text.replace("MODEL", "bundled:minilm-l6"), place="study.yaml", folder=Path("/"))
    [told] = caught.value.problems
    name, value = key.split(": ")
    assert told == (
        f"study.yaml:4: objective.data.{name}={value} has no effect while objective.model is bundled:minilm-l6. "
        f"Begin with model: random:bert-tiny, or leave {name} out."
    )


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ("{source: a/b, streaming: true, max_rows: 9, shuffle_buffer: 5}", []),
        ("{source: a/b, streaming: false, max_rows: null, shuffle_buffer: 0}", []),
        (
            "{source: 'bundled:tweets', streaming: true}",
            ["streaming=true has no effect while objective.data."],
        ),
        ("{train: train.txt, streaming: true}", ["streaming=true has no effect while objective.data.source is null"]),
        ("{source: a/b, max_rows: 9}", ["max_rows=9 has no effect while objective.data.streaming is false. Set"]),
        ("{source: a/b, shuffle_buffer: 9}", ["shuffle_buffer=9 has no effect while objective.data.streaming is"]),
    ],
)
def test_only_data_of_the_hub_is_streamed_and_only_streams_are_taken_in_part(
    tmp_path: Path, data: str, told: list[str]
) -> None:
    (tmp_path / "train.txt").write_text("words")
    task = "text-classification" if "tweets" in data else "causal-language-modeling"
    text = f"study: s\nobjective:\n  task: {task}\n  model: x\n  data: {data}\nsearch: {{dropout: 0..0.1}}"
    try:
        parse_spec(text, place="study.yaml", folder=tmp_path)
        found = []
    except InvalidSpecError as error:
        found = error.problems
    assert len(found) == len(told)
    assert all(f" objective.data.{part}" in problem for part, problem in zip(told, found, strict=True))


@pytest.mark.parametrize(
    ("pruner", "refused"),
    [
        ("{name: none, first_rung: 0.2}", 1),
        ("{name: median, first_rung: 0.2}", 0),
        ("{name: median, reduction_factor: 4}", 1),
        ("{reduction_factor: 4, first_rung: 0.2}", 0),
    ],
)
def test_what_only_some_pruners_heed_is_refused_beside_others(pruner: str, refused: int) -> None:
    assert len(problems({}, {"dropout": "0..0.1", "pruner": yaml.safe_load(pruner)})) == refused


def test_defaults_written_out_are_no_mistake_and_own_objectives_use_what_they_like() -> None:
    parse_spec(template(), place="study.yaml", folder=Path("/"))
    assert problems({"lora_rank": 4, "cooldown": 0.5}, {"min_delta": "0..1"}, "pkg.mod:Own") == []


def test_a_stored_study_goes_on_with_settings_that_were_once_allowed() -> None:
    spec = parse_spec(template(), place="study.yaml", folder=Path("/"))
    stored = spec.resolved()
    stored["objective"]["training"]["lora_rank"] = 3
    assert spec_from_resolved(stored).objective.training.lora_rank == 3


def test_what_a_setting_needs_is_a_setting_that_there_is() -> None:
    stored = parse_spec(template(), place="study.yaml", folder=Path("/")).resolved()
    assert len(needs()) >= 11
    for path in [*needs(), *(need.path for need in needs().values())]:
        value: Any = stored
        for key in path.split("."):
            value = value[key]
