"""Charts are figures that Plotly takes and matplotlib draws; they show what matters and no user's markup."""

from __future__ import annotations

import dataclasses
import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from dashboards.charts import Chart, charts
from dashboards.charts.scores import parallel_coordinates
from dashboards.charts.style import MOST_FAINT, RED, focus, thinned
from dashboards.drawing import draw
from dashboards.importance import importances
from sweep.domain import TrialState
from sweep.search import OptunaStore
from sweep.spec import spec_text
from sweep.study_view import StudyView, read_study
from sweep.testing.study_store import evaluation
from tests.written_history import SPEC, spec_in, write_study

EVIL = "<script>alert(1)</script>"
VERDICT: dict[str, Any] = {
    "winner": "trial 3",
    "sentence": f"trial 3 {EVIL}",
    "finalists": [
        {
            "label": "trial 3",
            "kind": "finalist",
            "mean": 0.93,
            "interval": [0.92, 0.94],
            "scores": {"0": 0.92, "1": 0.94},
        },
        {"label": f"trial 0 {EVIL}", "kind": "baseline", "mean": 0.9, "interval": [0.88, 0.91], "scores": {"0": 0.9}},
        {"label": "broken"},
    ],
}


def evil_spec() -> str:
    """One of whose choices a browser would run, and matplotlib take for a formula."""
    own = SPEC.replace("objective:", "objective:\n  task: sweep.testing.toy_objectives:ToyObjective")
    return own.replace("batch_size: [8, 16, 32]", f'note: ["{EVIL}", "$x^2$ & more"]')


@pytest.fixture(scope="module")
def view(tmp_path_factory: pytest.TempPathFactory) -> StudyView:
    spec = spec_in(tmp_path_factory.mktemp("charts"), "budget.trials=60")
    write_study(spec, 60)
    (spec.layout.folder / "verdict.json").write_text(json.dumps(VERDICT))
    return read_study(spec)


@pytest.fixture(scope="module")
def made(view: StudyView) -> dict[str, Chart]:
    return charts(view)


def test_every_chart_is_a_figure_by_plotlys_own_rules(made: dict[str, Chart]) -> None:
    import plotly.graph_objects as graph_objects

    assert set(made) == {
        "verdict",
        "progress",
        "learning_curves",
        "train_validation_gap",
        "score_by_learning_rate",
        "score_by_dropout",
        "score_by_batch_size",
        "parallel_coordinates",
        "importance",
        "timeline",
        "spend",
    }
    for chart in made.values():
        graph_objects.Figure(chart)
        json.dumps(chart, allow_nan=False)


def test_every_chart_becomes_a_picture(made: dict[str, Chart], tmp_path: Path) -> None:
    for name, chart in made.items():
        draw(chart, tmp_path / f"{name}.png")
        with Image.open(tmp_path / f"{name}.png") as picture:
            assert picture.width > 800
            colours = picture.convert("RGB").getcolors(1 << 20)
            assert colours is not None
            assert len(colours) > 20, f"{name} is empty"


def test_an_axis_is_logarithmic_where_its_hyperparameter_is_drawn_so(made: dict[str, Chart]) -> None:
    axes = {name: made[f"score_by_{name}"]["layout"]["xaxis"] for name in ("learning_rate", "dropout", "batch_size")}
    assert axes["learning_rate"]["type"] == "log"
    assert "type" not in axes["dropout"]
    assert axes["batch_size"]["type"] == "category"
    assert axes["batch_size"]["categoryarray"] == ["8", "16", "32"]
    rates = made["parallel_coordinates"]["data"][0]["dimensions"][0]
    assert max(rates["values"]) <= math.log10(1e-2)
    assert "0.0001" in rates["ticktext"]


def test_attempts_that_were_lost_or_failed_are_red_on_the_timeline(made: dict[str, Chart]) -> None:
    colours = {trace["name"]: trace["marker"]["color"] for trace in made["timeline"]["data"]}
    assert {name for name, colour in colours.items() if colour == RED} == {"lost", "failed"}
    assert {"finished", "pruned"} < set(colours)


def test_the_best_and_the_defaults_stand_out_and_the_rungs_are_marked(made: dict[str, Chart], view: StudyView) -> None:
    curves = made["learning_curves"]
    widths = {trace["name"]: trace["line"]["width"] for trace in curves["data"]}
    assert widths[f"best (trial {view.facts.best})"] == widths["defaults (trial 0)"] == 3
    assert widths["pruned"] == 1
    assert [shape["x0"] for shape in curves["layout"]["shapes"]] == [0.25, 0.75, 2.25]


def test_the_gap_of_each_trial_is_drawn_where_its_objective_reports_one(
    made: dict[str, Chart], view: StudyView
) -> None:
    best = next(trace for trace in made["train_validation_gap"]["data"] if "best" in trace["name"])
    assert best["y"] == pytest.approx([0.1 * fidelity for fidelity in best["x"]])
    assert len(best["y"]) > 1
    curve = tuple(dataclasses.replace(point, gap=None) for point in view.trials[0].curve)
    without = dataclasses.replace(view, trials=(dataclasses.replace(view.trials[0], curve=curve),))
    assert "train_validation_gap" not in charts(without)


def test_importance_compares_trials_after_equal_training_and_finds_what_decides(tmp_path: Path) -> None:
    spec = spec_in(tmp_path, "budget.trials=150")
    write_study(spec, 150)
    found = importances(read_study(spec))
    assert found is not None
    assert found.fidelity in {0.25, 0.75, 2.25, 4.0}
    assert found.trials >= 10
    assert sum(found.shares.values()) == pytest.approx(1)
    assert found.shares["batch_size"] == min(found.shares.values())


def test_too_few_trials_have_no_importance_and_an_empty_study_has_no_charts(tmp_path: Path) -> None:
    spec = spec_in(tmp_path, "budget.trials=5")
    spec.layout.folder.mkdir(parents=True)
    spec.layout.spec.write_text(spec_text(spec.resolved()))
    store = OptunaStore.create(spec)
    assert charts(read_study(spec)) == {}
    store.ask()
    store.begin_attempt(0)
    assert charts(read_study(spec)) == {}
    store.report(evaluation(0, 100, 0.5, fidelity=4), 0.5)
    store.tell(0, TrialState.COMPLETE, evaluation(0, 100, 0.5, fidelity=4))
    assert set(charts(read_study(spec))) == {
        "progress",
        "learning_curves",
        "score_by_learning_rate",
        "score_by_dropout",
        "score_by_batch_size",
        "spend",
    }


def test_no_chart_carries_markup_or_formulas_of_a_user(tmp_path: Path) -> None:
    spec = spec_in(tmp_path, "budget.trials=30", text=evil_spec())
    write_study(spec, 30)
    (spec.layout.folder / "verdict.json").write_text(json.dumps(VERDICT))
    made = charts(read_study(spec))
    assert "score_by_note" in made
    said = json.dumps(made)
    assert "<script" not in said
    assert "&lt;script&gt;" in said
    for name, chart in made.items():
        draw(chart, tmp_path / f"{name}.png")


def test_a_background_of_thousands_is_thinned_evenly_and_says_so(view: StudyView) -> None:
    assert thinned(range(10), 10) == list(range(10))
    chosen = thinned(range(5000), MOST_FAINT, first=[4321])
    assert len(chosen) <= MOST_FAINT
    assert chosen[0] == 0
    assert chosen[-1] == 4999
    assert 4321 in chosen
    assert max(b - a for a, b in pairwise(chosen)) <= 6


def test_thousands_of_lines_are_thinned_but_the_best_of_them_stay(view: StudyView) -> None:
    import dataclasses

    kind = next(trial for trial in view.trials if trial.state == "COMPLETE")
    # The first ones have no score, so that a trial's number is not its place among those that are drawn.
    trials = [dataclasses.replace(kind, number=n, value=None if n < 150 else n / 1e4) for n in range(9000)]
    ranking = tuple(range(4001, 4031))
    many = dataclasses.replace(view, trials=tuple(trials), ranking=(*ranking, 3, 9999))
    chart = parallel_coordinates(many)
    assert chart is not None
    drawn = set(chart["data"][0]["dimensions"][-1]["values"])
    assert len(drawn) <= 3 * MOST_FAINT
    assert {n / 1e4 for n in ranking} <= drawn


def test_a_hopeless_trial_does_not_squeeze_the_others(view: StudyView) -> None:
    import dataclasses

    spread = [0.93 + number / 1000 for number in range(20)]
    trials = [dataclasses.replace(view.trials[n], value=value) for n, value in enumerate([*spread, 0.1])]
    low, high = focus(dataclasses.replace(view, trials=tuple(trials)))["range"]
    assert 0.85 < low < 0.93
    assert high > max(spread)
    assert focus(dataclasses.replace(view, trials=tuple(trials[:-1]))) == {}


def test_on_a_long_timeline_older_attempts_are_left_out_but_no_bad_one(
    view: StudyView, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dashboards.charts.course.MOST_SPANS", 5)
    chart = charts(view)["timeline"]
    drawn = {trace["name"]: len(trace["x"]) for trace in chart["data"]}
    assert drawn["lost"] + drawn["failed"] == sum(span.is_bad for span in view.timeline)
    assert sum(drawn.values()) == 5 + drawn["lost"] + drawn["failed"]
    assert "of" in chart["layout"]["title"]["text"]
