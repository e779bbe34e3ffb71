"""The pages in a real browser: they load, sort, filter, lead to MLflow and Optuna and back, and fit the screen."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from dashboards.watched import COLUMNS
from sweep.domain import Planned, TrialState
from sweep.search import OptunaStore
from sweep.spec import spec_text
from sweep.spec.configuration import value_text
from sweep.testing.study_store import evaluation
from tests.browser.conftest import Page
from tests.browser.studies import until
from tests.written_history import spec_in

STUDY = "/sweep/quick"
RATIO = """
  const lightness = (text) => {
    const [r, g, b] = text.match(/[\\d.]+/g).map((each) => each / 255)
      .map((each) => (each <= 0.03928 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const of = (node, property) => getComputedStyle(node)[property];
  const [one, other] = [arguments[0], arguments[1]].map((selector) => document.querySelector(selector));
  const [a, b] = [lightness(of(one, 'color')), lightness(of(other, 'backgroundColor'))].sort((x, y) => y - x);
  return (a + 0.05) / (b + 0.05);
"""


def test_a_study_is_understood_from_its_page_and_every_chart_is_drawn(page: Page, address: str) -> None:
    page.open(address + STUDY)
    page.ready()
    assert len({float(gap) for gap in page.column("gap") if gap != "–"}) > 1
    assert page.text("#headline") == "Trial 3 wins on fresh seeds with accuracy 0.7850, +0.0650 over the defaults."
    assert "24 of 24 trials finished" in page.text("#legend")
    assert "sweep resume quick" in page.text("#actions")
    assert "Trial 3 beats the defaults" in page.text("#verdict")
    assert "Cannot be told apart at this many seeds: trial 3, trial 5." in page.text("#verdict")
    assert "difference +0.0700 (0.0100 to 0.1200), p = 0.0100" in page.text("#verdict")
    assert "QuickObjective" in page.text("#data-facts")
    page.drawn()
    for chart in ("curves", "gaps", "hyperparameters", "parallel", "importance", "timeline"):
        assert page.js("return document.getElementById(arguments[0]).data.length", chart) > 0, chart
    types = "const l = document.getElementById('hyperparameters').layout; return [l.xaxis, l.xaxis2, l.xaxis3]"
    axes = [axis["type"] for axis in page.js(types)]
    assert axes == ["log", "linear", "category"]
    rungs = page.js("return document.getElementById('curves').layout.shapes.length")
    assert rungs == 3
    page.picture("study-light")
    assert page.errors() == []


def test_the_dialog_for_a_configuration_starts_from_the_defaults_however_they_are_written(
    page: Page, address: str
) -> None:
    page.open(address + STUDY)
    page.ready()
    choices: dict[str, list[Any]] = {
        "rate": [1e-3, 3e-5],
        "decay": [0.5, 1.0],
        "layers": [[1], [0, 2]],
        "note": ["none", "some"],
    }
    space = [{"name": name, "kind": "choice", "choices": values} for name, values in choices.items()]
    defaults = {name: value_text(values[-1]) for name, values in choices.items()}
    script = "return import('/sweep-files/actions.js').then((it) => it.enqueue('quick', { about: arguments[0] }))"
    page.js(script, {"space": space, "defaults": defaults})
    chosen = page.js("return [...document.querySelectorAll('dialog select')].map((each) => each.selectedIndex)")
    assert chosen == [1] * 4
    assert page.errors() == []


def test_the_leaderboard_sorts_filters_and_finds(page: Page, address: str) -> None:
    page.open(address + STUDY)
    page.ready()
    ranks = [int(text) for text in page.column("rank") if text]
    assert ranks == list(range(1, len(ranks) + 1))
    page.click('#grid th[data-key="value"] button')
    head = 'return document.querySelector(\'#grid th[data-key="value"]\').getAttribute("aria-sort")'
    assert page.js(head) == "descending"
    values = [float(text) for text in page.column("value") if text != "–"]
    assert values == sorted(values, reverse=True)
    page.click('#grid th[data-key="value"] button')
    values = [float(text) for text in page.column("value") if text != "–"]
    assert page.js(head) == "ascending"
    assert values == sorted(values)
    page.click('#grid th[data-key="hyperparameter learning_rate"] button')
    rates = [float(text) for text in page.column("hyperparameter learning_rate")]
    assert rates == sorted(rates)
    before = len(page.column("number"))
    page.click('#chips button[data-state="PRUNED"]')
    assert set(page.column("state")).isdisjoint({"pruned"})
    assert 0 < len(page.column("number")) < before
    page.click('#chips button[data-state="PRUNED"]')
    page.js("const s = document.getElementById('search'); s.value = '7'; s.dispatchEvent(new Event('input'))")
    assert page.column("number") == ["7"]
    page.js(
        "const s = document.getElementById('search'); s.value = 'batch_size=64'; s.dispatchEvent(new Event('input'))"
    )
    assert set(page.column("hyperparameter batch_size")) == {"64"}
    assert page.errors() == []


def test_the_keyboard_alone_reaches_sorts_and_opens_a_trial(page: Page, address: str) -> None:
    from selenium.webdriver.common.keys import Keys

    page.open(address + STUDY)
    page.ready()
    focused = "return document.activeElement.id || document.activeElement.closest('[data-key]')?.dataset.key || ''"
    for _ in range(40):
        page.press(Keys.TAB)
        outline = page.js("return getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none", page.js("return document.activeElement.outerHTML.slice(0, 200)")
        if page.js(focused) == "grid":
            break
    assert page.js(focused) == "grid"
    page.press(Keys.ARROW_DOWN, Keys.ARROW_DOWN, Keys.ENTER)
    third = page.column("number")[2].split()[0]
    assert page.text("#detail h3") == f"Trial {third}"
    assert page.js("return location.hash") == f"#trial={third}"
    page.press(Keys.END)
    active = page.js("return document.getElementById('grid').getAttribute('aria-activedescendant')")
    assert active == "row-23"
    page.press(Keys.ESCAPE)
    assert page.js("return document.getElementById('detail').hidden")
    page.press(Keys.TAB)
    assert page.js(focused) == "rank"
    page.press(Keys.ENTER)
    assert page.js("return document.querySelector('#grid th').getAttribute('aria-sort')") == "descending"
    assert page.errors() == []


def test_each_row_leads_to_its_run_in_mlflow_and_back(page: Page, address: str) -> None:
    page.open(address + STUDY)
    page.ready()
    page.click('#grid tr[data-trial="5"]')
    page.click("#detail a.button")
    until(lambda: "/runs/" in page.js("return location.hash"), "MLflow's page of the run is open")
    until(lambda: "trial-0005" in page.js("return document.body.innerText"), "MLflow shows the run", 120)
    page.picture("mlflow-run")
    page.js("document.getElementById('sweep-way-back').dispatchEvent(new Event('pointerdown'))")
    page.click("#sweep-way-back")
    page.ready()
    assert page.js("return location.pathname + location.hash") == f"{STUDY}#trial=5"
    assert page.text("#detail h3") == "Trial 5"


def test_mlflow_shows_our_runs_without_an_error_nothing_that_is_no_number_included(
    page: Page, address: str, ask: Any
) -> None:
    rows = json.loads(ask("/ajax-api/sweep/studies/quick")[2])["trials"]
    diverged = [row for row in rows if row[1] == "DIVERGED"]
    assert diverged, "some trial overflowed"
    page.open(address + STUDY)
    page.ready()
    page.click("#to-mlflow")
    until(lambda: "trial-0003" in page.js("return document.body.innerText"), "MLflow lists the runs", 120)
    page.picture("mlflow-runs")
    assert page.js("return document.getElementById('sweep-way-back').textContent") == "Sweep ↗"
    run = diverged[0][COLUMNS.index("run_id")]
    page.js("location.hash = arguments[0]", f"#/experiments/1/runs/{run}")
    name = f"trial-{diverged[0][0]:04d}"
    until(lambda: name in page.js("return document.body.innerText"), "MLflow shows the diverged run", 120)
    assert [error for error in page.errors() if "SEVERE" in error or "Uncaught" in error] == []


def test_optunas_dashboard_shows_the_study_and_cannot_change_it(page: Page, address: str, ask: Any) -> None:
    page.open(address + STUDY)
    page.ready()
    page.click("#to-optuna")
    until(lambda: "/dashboard/studies/" in page.js("return location.pathname"), "Optuna's dashboard is open")
    until(lambda: "quick" in page.js("return document.body.innerText"), "it shows the study", 120)
    number = page.js("return location.pathname").rsplit("/", 1)[1]
    page.picture("optuna")
    assert ask(f"/api/studies/{number}", method="DELETE")[0] == 403
    assert len(json.loads(ask(f"/api/studies/{number}?after=0")[2])["trials"]) == 24


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_page_follows_the_system_and_the_toggle_and_stays_readable(page: Page, address: str, theme: str) -> None:
    page.open(address + STUDY, theme=theme)
    page.ready()
    page.js("localStorage.clear()")
    assert page.js("return document.documentElement.dataset.theme") == theme
    for selector in ("#headline", "#tiles small", "#grid td", "#to-mlflow", '#chips [data-state="PRUNED"] .chip'):
        assert page.js(RATIO, selector, ".card") > 3.0, selector
    page.drawn()
    tone = "return getComputedStyle(document.documentElement).getPropertyValue('--soft').trim()"
    drawn = "return document.getElementById('curves').layout.font.color"
    assert page.js(drawn) == page.js(tone)
    if theme == "dark":
        page.picture("study-dark")
    page.click("#theme")
    other = {"light": "dark", "dark": "light"}[theme]
    assert page.js("return document.documentElement.dataset.theme") == other
    until(lambda: page.js(drawn) == page.js(tone), "the charts follow")
    page.js("localStorage.clear()")
    assert page.errors() == []


def test_on_a_phone_nothing_sticks_out_and_a_trial_opens(page: Page, address: str) -> None:
    for path in ("/sweep", STUDY):
        page.open(address + path, width=390, height=844)
        page.ready()
        assert page.js("return document.documentElement.scrollWidth") <= 390, path
    page.drawn()
    wide = """
      return [...document.querySelectorAll('main *, .top *')].filter((node) => node.getBoundingClientRect().right > 391
        && !node.closest('.grid, .scroll, nav, pre, svg, .js-plotly-plot')).map((node) => node.outerHTML.slice(0, 120))
    """
    assert page.js(wide) == []
    assert page.js("return document.documentElement.scrollWidth") <= 390
    page.picture("study-phone")
    page.click('#grid tr[data-trial="2"]')
    assert page.text("#detail h3") == "Trial 2"
    assert page.js("return document.getElementById('detail').getBoundingClientRect().right") <= 390
    assert page.errors() == []


def test_a_finals_page_calls_its_runs_by_what_they_train_anew_and_holds_each_against_its_own_seed(
    page: Page, address: str, folder: Path
) -> None:
    spec = spec_in(folder / "mlruns").model_copy(update={"study": "small.confirm"})
    spec.layout.folder.mkdir(parents=True)
    spec.layout.spec.write_text(spec_text(spec.resolved()), encoding="utf-8")
    with closing(OptunaStore.create(spec)) as store:
        for number, (confirms, seed_index, value) in enumerate([(0, 0, 0.6), (3, 0, 0.65), (0, 1, 0.7), (3, 1, 0.72)]):
            store.ask(Planned(confirms=confirms, seed_index=seed_index, hyperparameters=spec.defaults()))
            store.begin_attempt(number)
            report = evaluation(number, 4, value)
            store.report(report, value)
            store.tell(number, TrialState.COMPLETE, report)
    page.open(f"{address}/sweep/small.confirm")
    page.ready()
    assert page.text("#headline") == (
        "Trial 3 leads with accuracy 0.7200 (trial 3 on seed 2), +0.0200 over the defaults (0.7000)."
    )
    page.click('#grid th[data-key="number"] button')
    assert [text.replace("\n", " ").split(" ★")[0] for text in page.column("number")] == [
        "0 trial 0 on seed 1defaults",  # the tag keeps its distance by a margin
        "1 trial 3 on seed 1",
        "2 trial 0 on seed 2defaults",
        "3 trial 3 on seed 2",
    ]
    assert page.column("gain") == ["", "+0.0500", "", "+0.0200"]
    page.drawn()
    assert page.errors() == []


def test_the_list_leads_to_each_study_and_an_unknown_one_says_so(page: Page, address: str) -> None:
    page.open(f"{address}/sweep")
    page.ready()
    page.picture("studies")
    assert "quick" in page.text("#studies")
    assert page.errors() == []
    page.click('#studies a[href="/sweep/quick"]')
    page.ready()
    assert page.js("return location.pathname") == STUDY
    page.open(f"{address}/sweep/nosuch")
    assert "There is no study of this name" in page.text("main")
