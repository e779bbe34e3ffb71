"""The report is one file that needs nothing else, shows the study, and runs nothing that a user wrote."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from dashboards.leaderboard import columns, rows, run_link
from dashboards.report import render, write_report
from sweep.domain import GAP
from sweep.errors import SweepError
from sweep.spec.model import StudySpec
from sweep.study_view import StudyView, read_study
from tests.unit.test_charts import EVIL, VERDICT, evil_spec
from tests.written_history import spec_in, write_study


class Page(HTMLParser):
    """What a browser would load and run."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.scripts = 0
        self.loads: list[str] = []
        self.handlers: list[str] = []
        self.text: list[str] = []
        self._element = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._element = tag
        self.scripts += tag == "script"
        self.handlers += [name for name, _ in attrs if name.startswith("on")]
        self.loads += [str(value) for name, value in attrs if name in {"src", "srcset", "data", "action"}]
        self.loads += [str(value) for name, value in attrs if tag in {"link", "base"} and name == "href"]

    def handle_data(self, data: str) -> None:
        if self._element not in {"script", "style"}:
            self.text.append(data)

    def handle_endtag(self, tag: str) -> None:
        self._element = ""


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> StudySpec:
    spec = spec_in(tmp_path_factory.mktemp("report"), "budget.trials=40", text=evil_spec())
    write_study(spec, 40)
    (spec.layout.folder / "verdict.json").write_text(json.dumps({**VERDICT, "is_significant": True}))
    facts = {"rows": {"train": 10}, "labels": [EVIL, "b"], "data_hash": "ab", "token": "tok-123456789"}
    (spec.layout.folder / "data.json").write_text(json.dumps(facts))
    return spec


@pytest.fixture(scope="module")
def view(spec: StudySpec) -> StudyView:
    return read_study(spec)


def test_the_page_loads_nothing_and_runs_its_own_scripts_alone(view: StudyView) -> None:
    page = Page(render(view))
    assert page.loads == []
    assert page.handlers == []
    assert page.scripts == 3  # the data, Plotly, and ours


def test_what_a_user_wrote_is_text_and_never_markup(view: StudyView) -> None:
    html = render(view)
    assert EVIL not in html
    said = "".join(Page(html).text)
    assert f"trial 3 {EVIL}" in said  # the verdict, letter by letter
    assert EVIL in said.split("Data and lineage")[-1]  # a label of the data


def test_the_data_of_the_page_cannot_end_its_script(view: StudyView) -> None:
    inside = re.search(r"<script type=application/json id=report>(.*?)</script>", render(view), re.DOTALL)
    assert inside is not None
    assert "<" not in inside[1]
    payload = json.loads(inside[1])
    assert EVIL in json.dumps(payload["trials"])
    assert len(payload["trials"]) == 40
    assert len(payload["columns"]) == len(payload["trials"][0])


def test_the_page_tells_the_verdict_the_best_the_defaults_the_rungs_and_the_data(view: StudyView) -> None:
    said = " ".join(Page(render(view)).text)
    best = view.facts.best_value
    assert best is not None
    for told in (f"{best:.4f}", "over the defaults", "saved by pruning", "rung 1", "full run", "data_hash", "COMPLETE"):
        assert told in said


def test_no_secret_is_on_the_page(view: StudyView) -> None:
    assert "tok-123456789" not in render(view)


def test_the_leaderboard_has_the_complete_trials_first_by_rank_and_marks_best_and_defaults(view: StudyView) -> None:
    names = [column["name"] for column in columns(view)]
    lines = rows(view)
    ranks = [line[names.index("rank")] for line in lines]
    assert ranks[: len(view.ranking)] == list(range(1, len(view.ranking) + 1))
    assert set(ranks[len(view.ranking) :]) == {None}
    trials = [line[names.index("trial")] for line in lines]
    assert trials[0]["text"].endswith("★")
    gaps = [line[names.index("train–validation gap")] for line in lines]
    best = next(trial for trial in view.trials if trial.number == view.facts.best)
    assert gaps[0] == {"text": f"{best.metrics[GAP]:.4f}", "sort": best.metrics[GAP]}
    assert [trial["text"] for trial in trials if trial["sort"] == 0] == ["0 ◆"]
    wrong = {line[1]["sort"]: line[-1] for line in lines if line[-1] is not None}
    assert wrong[7]["text"] == "attempt 1 lost: its process was killed"
    assert wrong[11] == {"text": "ValueError: bad rows", "title": "ValueError: bad rows", "style": "bad"}


def test_a_trial_leads_to_its_run_where_a_server_shows_it(view: StudyView) -> None:
    import dataclasses

    trial = dataclasses.replace(view.trials[0], run_id="r1")
    facts = dataclasses.replace(view.facts, tracking_uri="https://host/mlflow/", experiment_id="7")
    assert run_link(dataclasses.replace(view, facts=facts), trial) == "https://host/mlflow/#/experiments/7/runs/r1"
    assert run_link(view, trial) == ""
    evil = dataclasses.replace(facts, tracking_uri="javascript:alert(1)")
    assert run_link(dataclasses.replace(view, facts=evil), trial) == ""


def test_a_report_and_its_pictures_are_written_whole_and_nothing_else(view: StudyView, tmp_path: Path) -> None:
    write_report(view, tmp_path / "new" / "report.html", tmp_path / "png")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["report.html"]
    pictures = sorted(path.name for path in (tmp_path / "png").iterdir())
    assert pictures[0] == "01-verdict.png"
    assert all(re.fullmatch(r"\d\d-\w+\.png", name) for name in pictures)


def test_a_report_that_cannot_be_written_is_one_error_with_its_place(view: StudyView, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SweepError, match=r"file.*cannot be written"):
        write_report(view, tmp_path / "file" / "report.html")
