"""The spec learns tasks, metrics, columns and settings from what the tasks' files declare."""

from __future__ import annotations

from pathlib import Path

import pytest

from sweep.errors import InvalidSpecError
from sweep.spec import StudySpec, parse_spec, spec_from_resolved
from sweep.spec.tasks import sheet_of, task_sheets

TASKS = Path(__file__).parents[3] / "objectives" / "tasks"


def spec(
    task: str, data: str = "source: owner/name", training: str = "", metric: str = "", search: str = "dropout: 0..0.5"
) -> StudySpec:
    text = f"""
study: s
objective: {{task: {task}, model: x, data: {{{data}}}, training: {{{training}}}}}
search: {{{search}}}
{metric and f"metric: {metric}"}
"""
    return parse_spec(text, place="study.yaml", folder=Path("/"))


def told(*arguments: str, **more: str) -> str:
    with pytest.raises(InvalidSpecError) as caught:
        spec(*arguments, **more)
    [problem] = caught.value.problems
    return problem


def test_each_file_of_the_tasks_is_a_task_with_metrics_and_columns() -> None:
    files = {file.stem.replace("_", "-") for file in TASKS.glob("*.py")} - {"--init--"}
    assert set(task_sheets()) == files
    for sheet in task_sheets().values():
        assert sheet.metrics
        assert set(sheet.metrics.values()) <= {"minimize", "maximize"}
        assert any(name is not None for name in sheet.columns.values())


def test_the_first_metric_of_a_task_is_the_usual_one_with_its_direction() -> None:
    metric = spec("token-classification").metric
    assert (metric.name, metric.direction) == ("entity_f1", "maximize")
    assert spec("token-classification", metric="loss").metric.direction == "minimize"
    assert told("token-classification", metric="accuracy") == (
        "study.yaml:5: metric.name=accuracy is not a metric of token-classification. Did you mean token_accuracy?"
    )


def test_columns_are_those_of_the_task_and_others_are_refused() -> None:
    found = spec("token-classification", "source: owner/name, tags: ner_tags")
    assert found.objective.data.columns == {"tokens": "tokens", "tags": "ner_tags"}
    assert spec_from_resolved(found.resolved()) == found
    assert found.objective_settings()["data"]["tags"] == "ner_tags"
    assert told("token-classification", "source: owner/name, text: body") == (
        "study.yaml:3: objective.data.text=body is no column that token-classification reads. "
        "It reads tokens, tags: leave text out."
    )
    assert "Did you mean text_pair?" in told("text-classification", "source: owner/name, text_pairs: b")


def test_a_column_that_may_be_left_out_is_read_only_where_it_is_named() -> None:
    assert "text_pair" not in spec("text-classification").objective.data.columns
    named = spec("text-classification", "source: owner/name, text_pair: other")
    assert named.objective.data.columns == {"text": "text", "text_pair": "other", "label": "label"}
    assert "is the text column too" in told("text-classification", "source: owner/name, text_pair: text")


def test_bundled_rows_are_refused_for_a_task_that_reads_other_columns() -> None:
    assert told("token-classification", "source: bundled:tweets") == (
        "study.yaml:3: objective.data.source=bundled:tweets has text and label only, and token-classification reads "
        "tokens, tags. Name files under train, or a data set of the Hub."
    )


def test_a_tasks_own_settings_have_defaults_types_and_bounds_and_can_be_searched() -> None:
    assert spec("text-classification").settings({})["class_weights"] == "none"
    assert spec("question-answering", training="longest_answer: 5").settings({})["longest_answer"] == 5
    searched = spec("text-classification", search="class_weights: [none, balanced]")
    assert searched.defaults() == {"class_weights": "none"}
    assert spec("question-answering", search="longest_answer: [5, 9]").defaults() == {"longest_answer": 5}
    written = spec("question-answering", training="longest_answer: 7", search="longest_answer: [5, 9]")
    assert written.defaults() == {"longest_answer": 7}, "trial 0 is what was written"
    assert told("text-classification", training="class_weights: blanced") == (
        "study.yaml:3: objective.training.class_weights=blanced is not one of none, balanced. Did you mean balanced?"
    )
    assert told("question-answering", training="longest_answer: 0").endswith("is below 1. Use 1 or more.")
    assert told("question-answering", search="longest_answer: 0..5").endswith("is below 1. Use 1 or more.")
    assert "class_weights is not a known key" in told("token-classification", training="class_weights: none")


def test_a_users_own_objective_may_name_any_tasks_columns() -> None:
    found = spec("mine:Own", "source: owner/name, question: q", metric="{name: m, direction: maximize}")
    assert found.objective.data.columns == {"text": "text", "label": "label", "question": "q"}
    assert sheet_of("mine:Own").settings == {}
