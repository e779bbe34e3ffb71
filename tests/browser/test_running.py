"""A study that runs: its page follows it, and what people ask for happens."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from sweep.domain import TrialState
from sweep.errors import StudyNotFoundError
from sweep.spec.model import StudySpec
from sweep.study_view import StudyView, read_study
from tests.browser.conftest import Page
from tests.browser.studies import running_study, until

API = "/ajax-api/sweep/studies"
WANTED = "0.0123"


@pytest.fixture(scope="module")
def live(address: str, folder: Path) -> Iterator[StudySpec]:
    """A study whose trials take seconds."""
    with running_study(folder, "live", trials=60, sleep=0.1) as spec:
        until(lambda: has_begun(spec), "a trial runs", 120)
        yield spec


def has_begun(spec: StudySpec) -> bool:
    try:
        return "RUNNING" in read_study(spec).facts.counts
    except StudyNotFoundError:
        return False


def view(live: StudySpec) -> StudyView:
    return read_study(live)


def final_state(live: StudySpec, number: int) -> str | None:
    trial = view(live).trials[number]
    return trial.state if TrialState(trial.state).is_finished else None


def confirm(page: Page, button: str, **values: str) -> None:
    """Press a button of the page, fill in the dialog it opens, and confirm."""
    script = "[...document.querySelectorAll('button')].find((b) => b.innerText.startsWith(arguments[0])).click()"
    page.js(script, button)
    until(lambda: page.js("return document.querySelector('dialog')?.open"), "the dialog is open")
    for name, value in values.items():
        page.js("document.querySelector(`dialog [name=${arguments[0]}]`).value = arguments[1]", name, value)
    page.click("dialog button[type=submit]")


def closed(page: Page) -> str:
    until(lambda: not page.js("return document.querySelector('dialog')"), "the dialog is closed")
    return page.text("#notice")


def token_of(ask: Any) -> str:
    text = ask("/sweep/quick")[2].decode()
    return str(text.split('name="sweep-token" content="')[1].split('"')[0])


def test_the_page_follows_a_study_that_runs_and_asks_for_what_is_new_alone(
    page: Page, address: str, live: StudySpec, ask: Any
) -> None:
    page.open(f"{address}/sweep/live")
    page.ready()
    assert "running" in page.text("#state")
    first = int(page.js("return document.getElementById('legend').innerText.match(/\\d+/)[0]"))
    following = "return Number(document.getElementById('legend').innerText.match(/\\d+/)[0])"
    until(lambda: page.js(following) > first + 2, "the page shows more finished trials")
    page.drawn()
    points = "return document.getElementById('timeline').data.reduce((n, t) => n + t.x.length, 0)"
    drawn = page.js(points)
    until(lambda: page.js(points) > drawn, "the timeline grows")
    page.picture("study-running")
    assert page.errors() == []

    whole = json.loads(ask(f"{API}/live")[2])
    news = json.loads(ask(f"{API}/live?since={whole['token']}&about={whole['about_digest']}")[2])
    assert "about" in whole
    assert "about" not in news
    assert len(news["trials"]) < len(whole["trials"])


def test_an_answer_that_is_known_is_not_sent_again(ask: Any) -> None:
    _, headers, body = ask(f"{API}/quick")
    tag = headers.get("etag") or headers["ETag"]
    status, _, again = ask(f"{API}/quick", If_None_Match=tag)
    assert body
    assert (status, again) == (304, b"")


def test_a_configuration_of_ones_own_is_validated_and_tried(page: Page, address: str, live: StudySpec) -> None:
    page.open(f"{address}/sweep/live")
    page.ready()
    confirm(page, "Try a configuration", learning_rate="lots", weight_decay="7")
    problem = "return document.querySelector('dialog .problem').innerText"
    said = until(lambda: page.js(problem), "the dialog says what is wrong")
    assert "learning_rate=lots is not a number." in said
    assert "weight_decay=7 is outside of 0.0001..0.5." in said
    page.picture("dialog")
    page.js("document.querySelector('dialog [name=learning_rate]').value = arguments[0]", WANTED)
    page.js("document.querySelector('dialog [name=weight_decay]').value = '0.02'")
    page.click("dialog button[type=submit]")
    assert WANTED in closed(page)
    wanted = until(
        lambda: [t for t in view(live).trials if t.hyperparameters["learning_rate"] == float(WANTED)], "it is tried"
    )
    assert len(wanted) == 1
    # The browser writes refusals of requests to its console, and nothing else happened.
    assert [error for error in page.errors() if "409" not in error] == []


STOP_NEWEST = """
  const rows = [...document.querySelectorAll('#grid tr[data-state=RUNNING]')];
  if (!rows.length) return '';
  const number = Math.max(...rows.map((row) => row.dataset.trial));
  document.querySelector(`#grid tr[data-trial="${number}"]`).click();
  const buttons = [...document.querySelectorAll('#detail button')];
  const button = buttons.find((each) => each.innerText.startsWith('Stop trial'));
  button?.click();
  return button ? String(number) : '';
"""


def test_one_trial_is_stopped_and_the_others_go_on(page: Page, address: str, live: StudySpec) -> None:
    page.open(f"{address}/sweep/live")
    page.ready()
    # Those that run, alone: only rows in sight are in the document.
    page.js("const s = document.getElementById('search'); s.value = 'running'; s.dispatchEvent(new Event('input'))")
    for _ in range(5):
        number = int(until(lambda: page.js(STOP_NEWEST), "a trial runs"))
        page.click("dialog button[type=submit]")
        if until(partial(final_state, live, number), "the trial has ended") == "CANCELLED":
            break
        page.js("document.querySelector('dialog')?.close()")  # it was quicker than the browser
    assert final_state(live, number) == "CANCELLED"
    until(lambda: "cancelled" in page.text("#detail header"), "the page says so")
    assert view(live).facts.state == "RUNNING"


def test_trials_are_added_and_the_new_budget_stays(page: Page, address: str, live: StudySpec) -> None:
    page.open(f"{address}/sweep/live")
    page.ready()
    confirm(page, "Add trials", more="5")
    assert "65 trials, 5 more than before" in closed(page)
    until(lambda: "trials: 65" in live.layout.spec.read_text(encoding="utf-8"), "the spec has the new budget")
    until(lambda: "of 65 trials" in page.text("#legend"), "the page has the new budget")


def test_the_command_line_asks_for_the_same(live: StudySpec, folder: Path) -> None:
    def sweep(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "sweep.cli.main", *arguments]
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)

    asked = sweep("enqueue", "live", "learning_rate=0.0456", "--trials", "1")
    assert asked.returncode == 0, asked.stderr
    assert "learning_rate=0.0456 dropout=0.1 batch_size=16 weight_decay=0.01" in asked.stdout
    refused = sweep("enqueue", "live", "learning_rat=1")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "Did you mean learning_rate?" in refused.stderr
    mine = until(
        lambda: [t.number for t in view(live).trials if t.hyperparameters["learning_rate"] == 0.0456], "it is tried"
    )
    stopped = sweep("stop", "live", "--trial", str(mine[0]))
    state = until(lambda: final_state(live, mine[0]), "it has ended")
    assert state == "CANCELLED" or "has ended as" in stopped.stderr, "or it was quicker than the command"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 403),
        ({"X_Sweep_Token": "guessed"}, 403),
        ({"X_Sweep_Token": "", "Origin": "http://evil.example"}, 403),
        ({"X_Sweep_Token": "", "Host": "evil.example"}, 403),
    ],
)
def test_nobody_else_can_act_on_a_study(live: StudySpec, ask: Any, headers: dict[str, str], status: int) -> None:
    if headers.get("X_Sweep_Token") == "":  # the right one, from the wrong place
        headers = {**headers, "X_Sweep_Token": token_of(ask)}
    assert ask(f"{API}/live/stop", method="POST", body={}, **headers)[0] == status
    assert not (live.layout.control / "stop.json").exists()
    assert ask(f"{API}/live/stop")[0] == 404, "an action is no page"


def test_our_pages_refuse_a_strange_host_and_let_nobody_frame_them(ask: Any) -> None:
    assert ask("/sweep/quick", Host="evil.example")[0] == 403
    headers = {name.lower(): value for name, value in ask("/sweep/quick")[1].items()}
    assert headers["x-frame-options"] == "SAMEORIGIN"
    assert "default-src 'self'" in headers["content-security-policy"]


def test_the_study_is_stopped_and_then_says_how_to_go_on(page: Page, address: str, live: StudySpec, ask: Any) -> None:
    page.open(f"{address}/sweep/live")
    page.ready()
    confirm(page, "Stop the study")
    assert "to stop" in closed(page)
    until(lambda: "sweep resume live" in page.text("#actions"), "the page says how to go on")
    status, _, body = ask(f"{API}/live/add", method="POST", body={"trials": 1}, X_Sweep_Token=token_of(ask))
    assert status == 409
    assert "sweep resume live" in json.loads(body)["problem"]
    assert page.errors() == []
