"""What k-fold validation brings into a spec, and what does not go with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from sweep.errors import InvalidSpecError
from sweep.spec import StudySpec, parse_spec, spec_from_resolved


def spec(
    data: str = "folds: 5",
    training: str = "epochs: 4",
    search: str = "",
    metric: str = "name: accuracy",
    more: str = "",
) -> StudySpec:
    text = f"""
study: s
objective:
  model: bundled:minilm-l6
  data: {{source: owner/name, {data}}}
  training: {{{training}}}
search: {{dropout: 0..0.5{search and f", {search}"}}}
metric: {{{metric}}}
{more}
"""
    return parse_spec(text, place="study.yaml", folder=Path("/"))


def told(*arguments: str, **more: str) -> str:
    with pytest.raises(InvalidSpecError) as caught:
        spec(*arguments, **more)
    [problem] = caught.value.problems
    return problem


def test_trials_are_compared_fold_by_fold_and_count_by_the_last_report() -> None:
    found = spec()
    assert (found.fidelity_unit, found.max_fidelity, found.evaluate_at) == ("folds", 5.0, (1.0, 2.0, 3.0, 4.0, 5.0))
    assert (found.search.pruner.name, found.ladder, found.rule.source) == ("wilcoxon", None, "last")
    assert (found.length_unit, found.longest_run) == ("epochs", 4.0)
    assert spec(search="pruner: none").search.pruner.name == "none"


def test_the_threshold_follows_the_folds_unless_it_is_written() -> None:
    found = [spec(f"folds: {folds}").p_threshold for folds in (2, 5, 6, 10)]
    assert found == [0.1, 0.1, 0.035, 0.035]
    assert spec(search="pruner: {p_threshold: 0.2}").p_threshold == 0.2


def test_what_is_stored_is_the_same_spec() -> None:
    found = spec(search="pruner: {startup_folds: 3}")
    stored = found.resolved()
    assert "validation_fraction" not in stored["objective"]["data"]
    assert spec_from_resolved(stored) == found


def test_without_folds_nothing_has_changed() -> None:
    found = spec("split_seed: 1")
    assert (found.fidelity_unit, found.max_fidelity, found.rule.source) == ("epochs", 4.0, "best")
    assert found.search.pruner.name == "successive-halving"


def test_what_does_not_go_with_folds_is_told_with_the_remedy() -> None:
    assert told("split_seed: 0", search="pruner: wilcoxon") == (
        "study.yaml:7: search.pruner.name=wilcoxon compares trials fold by fold, and there are no folds. "
        "Add objective.data.folds: 5, or name another pruner."
    )
    for name in ("median", "successive-halving"):
        assert told(search=f"pruner: {name}") == (
            f"study.yaml:7: search.pruner.name={name} compares trials within a run, and with folds they are compared "
            "fold by fold. Use wilcoxon or none."
        )
    assert told(metric="name: accuracy, from: best") == (
        "study.yaml:8: metric.from=best chooses an evaluation by the rows it is scored on, and a fold counts by the "
        "end of its training. Write last, or leave it out."
    )
    assert told("folds: 5, validation_fraction: 0.2") == (
        "study.yaml:5: objective.data.validation_fraction=0.2 goes with no folds: these validate on the training rows "
        "in turn. Leave it out, or leave folds out."
    )
    for place, arguments in (
        ("study.yaml:6: objective.training.patience=3", {"training": "patience: 3"}),
        ("study.yaml:6: objective.training.evaluate_every=1", {"training": "evaluate_every: 1"}),
        ("study.yaml:7: search.patience=[1, 2]", {"search": "patience: [1, 2]"}),
    ):
        assert told(**arguments) == (
            f"{place} needs evaluations within a run, and a fold is evaluated at its end. Leave it out."
        )
    assert told(more="confirm: {soup: greedy}") == (
        "study.yaml:9: confirm.soup=greedy goes with no folds: there are no validation rows that an average could be "
        "chosen by. Write none."
    )
    assert told(more="resources: {devices_per_trial: 2, cpus_per_trial: 2}") == (
        "study.yaml:9: resources.devices_per_trial=2 goes with no folds: each of a trial's models is trained on one "
        "device. Leave it out, or leave data.folds out."
    )
    assert told("folds: 1") == "study.yaml:5: objective.data.folds=1 is below 2. Use 2 or more."


def test_an_objective_of_ones_own_has_no_folds() -> None:
    text = """
study: s
objective: {task: "my_module:Mine", model: none, data: {folds: 3}}
search: {rate: 0..1}
metric: {name: score, direction: maximize}
"""
    with pytest.raises(InvalidSpecError) as caught:
        parse_spec(text, place="study.yaml", folder=Path("/"))
    assert caught.value.problems == [
        "study.yaml:3: objective.data.folds=3 is for the tasks that come with Sweep, and this objective splits its "
        "data itself. Leave it out."
    ]
