"""Whatever is in the file: a spec, or problems on single lines, and never anything else."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sweep.errors import InvalidSpecError
from sweep.spec import StudySpec, load_spec, parse_spec, spec_from_resolved, template

GOOD = template()
LINES = GOOD.splitlines()
BOUNDED = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
SNIPPETS = [
    "..", "1..2", "1e-5..1e-3 log", "0..1 step 0.1", "log", "null", "~", "yes", "-1", "0", "1e999", ".inf", "1_0",
    "[", "]", "{", "}", ": ", "- ", "# ", "&a ", "*a", "!!int ", "!x ", '"', "'", "|", ">", "%", "@", "\t", "\r", "\n",
    "? ", "---\n", "...\n", "<<: ", "\\UFFFFFFFF", '"\\UFFFFFFFF"', '"\\ud800"', '"\\0"', "[[0, 1], [0]]", "[null]",
    "{choices: [1]}", "{low: 1, high: 2}", "bundled:", "models:/", "/", "~/x", "a" * 300, "9" * 30, "1e-320", "\x85",
    "package.module:Own", "search:", "data: x.csv", "steps: 3", "../../x", "sqlite:///", "http://[", "\ufeff", "😀",
]  # fmt: skip


def tried(load: Callable[[], StudySpec]) -> StudySpec | list[str]:
    try:
        return load()
    except InvalidSpecError as error:
        return error.problems


def is_told_well(problems: list[str], *places: str) -> bool:
    once = len(set(problems)) == len(problems) > 0
    return once and all(line.startswith(places) and line.isprintable() for line in problems)


def outcome(text: str, overrides: tuple[str, ...] = ()) -> StudySpec | None:
    spec = tried(lambda: parse_spec(text, place="study.yaml", folder=Path("/nowhere"), overrides=overrides))
    if isinstance(spec, list):
        assert is_told_well(spec, "study.yaml:", "--set ")
        return None
    assert spec.evaluate_at[-1] == spec.max_fidelity
    assert list(spec.evaluate_at) == sorted(set(spec.evaluate_at))
    assert set(spec.defaults()) == set(spec.search.space)
    assert spec_from_resolved(json.loads(json.dumps(spec.resolved(), allow_nan=False))) == spec
    return spec


@BOUNDED
@given(st.text(max_size=200))
def test_any_text_gives_a_spec_or_problems(text: str) -> None:
    outcome(text)


@BOUNDED
@given(st.lists(st.sampled_from([*SNIPPETS, "study", "objective", "model", "search", " ", "x"]), max_size=30))
def test_any_salad_of_yaml_gives_a_spec_or_problems(parts: list[str]) -> None:
    outcome("".join(parts))


@BOUNDED
@given(st.data())
def test_any_value_anywhere_gives_a_spec_or_problems(data: st.DataObject) -> None:
    lines = list(LINES)
    for _ in range(data.draw(st.integers(1, 3))):
        index = data.draw(st.integers(0, len(lines) - 1))
        key, colon, rest = lines[index].partition(": ")
        snippet = data.draw(st.one_of(st.sampled_from(SNIPPETS), st.text(max_size=12)))
        change = data.draw(st.sampled_from(["value", "key", "cut", "twice", "insert"]))
        if change == "value":
            lines[index] = key + colon + snippet
        elif change == "key":
            lines[index] = f"  {snippet}{colon}{rest}"
        elif change == "cut":
            del lines[index]
        elif change == "twice":
            lines.insert(index, lines[index])
        else:
            lines.insert(index, snippet)
    outcome("\n".join(lines))


@BOUNDED
@given(
    st.sampled_from(
        ["study", "objective.data", "objective.training.epochs", "objective.task", "search.dropout", "search.x",
         "search.pruner", "search.keep_layers", "metric.from", "budget", "storage", "history", "tracking.uri", "..", ""]
    ),
    st.one_of(st.sampled_from(SNIPPETS), st.text(max_size=20)),
)  # fmt: skip
def test_any_override_gives_a_spec_or_problems(key: str, value: str) -> None:
    outcome(GOOD, (f"{key}={value}",))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def paths(value: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    if not isinstance(value, dict):
        return [path]
    return [path, *(below for key, item in value.items() for below in paths(item, (*path, key)))][0 if path else 1 :]


RESOLVED = parse_spec(GOOD, place="study.yaml", folder=Path("/nowhere")).resolved()


@BOUNDED
@given(st.sampled_from(paths(RESOLVED)), JSON)
def test_any_value_anywhere_in_a_mapping_gives_a_spec_or_problems(path: tuple[str, ...], value: Any) -> None:
    mutated = json.loads(json.dumps(RESOLVED))
    inner = mutated
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    outcome(yaml.safe_dump(mutated, allow_unicode=True))
    spec = tried(lambda: spec_from_resolved(mutated))
    assert isinstance(spec, StudySpec) or is_told_well(spec, "stored spec: ")


@BOUNDED
@given(st.binary(max_size=200))
def test_any_bytes_give_a_spec_or_problems(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "study.yaml"
    path.write_bytes(content)
    spec = tried(lambda: load_spec(path))
    assert isinstance(spec, StudySpec) or is_told_well(spec, str(path))


def test_overlong_and_deep_names_end_in_problems() -> None:
    for value in ("x" * 5000 + ".csv", "/".join("x" * 3000) + ".csv", "\U0001f600" * 300 + ".csv"):
        assert outcome(GOOD.replace("source: bundled:tweets", f"train: {value}")) is None
        assert outcome(GOOD.replace("model: bundled:minilm-l6", f"model: ./{value}")) is None
