"""From a study to a served champion and back: the bundled model and data, real commands, browser and servers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.browser.conftest import Page
from tests.browser.studies import served as ui
from tests.integration.journey.conftest import LocalShell, Shell
from tests.model_server import by_transformers, check_answers, served

TEXTS = ["What a wonderful day, I love it!", "This is the worst phone I have ever had.", "meh :( never again"]


@pytest.mark.timeout(900)
def test_a_study_is_confirmed_looked_at_promoted_served_defended_against_a_worse_one_and_rolled_back(
    tmp_path: Path, page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    shell = Shell(tmp_path, patience_seconds=400)
    spec = str(shell.write_spec(trials=3, rows=320))
    # The worse study learns next to nothing, so it needs no more than a few rows, and no Ray.
    monkeypatch.setenv("SWEEP_TESTS_WARM", "objectives.warm")
    weak = ["study=weak", "objective.training.learning_rate=1e-7", "objective.training.train_rows=32"]
    settings = [part for setting in (*weak, "search.learning_rate=1e-8..1e-6 log") for part in ("--set", setting)]
    LocalShell(tmp_path)("run", spec, "--trials", "1", *settings)
    first = shell.json("promote", "weak", "--name", "tweets")
    assert first["version"] == 1

    told = shell("run", spec, "--confirm", "--set", "confirm.finalists=1", "--set", "confirm.seeds=2")
    assert "confirming trial 0" in told.stderr
    verdict = shell.json("status", "quick")["verdict"]
    assert verdict["sentence"] in told.stdout
    assert [
        (one["kind"], sorted(one["scores"])) for one in sorted(verdict["finalists"], key=lambda one: one["kind"])
    ] == [
        ("baseline", ["0", "1"]),
        ("finalist", ["0", "1"]),
    ]

    with ui(tmp_path, "quick") as (address, _):
        page.open(f"{address}/sweep/quick")
        page.ready()
        assert verdict["sentence"] in page.text("#verdict")
        page.picture("verdict")
        assert page.errors() == []

    passed = shell.json("promote", "quick", "--name", "tweets")
    assert (passed["champion_before"], passed["version"]) == (1, 2)
    assert passed["decision"]["comparison"]["gain"] > 0
    model = Path(verdict["deploy"]["model"])
    wanted = by_transformers(model, TEXTS, max_length=32)
    with served("models:/tweets@champion", f"sqlite:///{tmp_path}/mlruns/mlflow.db", tmp_path / "server") as ask:
        check_answers(ask({"inputs": TEXTS}), wanted)
        check_answers(ask({"inputs": TEXTS[0]}), wanted[:1])

    refused = shell("promote", "weak", "--name", "tweets", expect=1)
    assert "not promoted" in refused.stderr
    back = shell.json("rollback", "tweets", "--why", "to see that it works")
    assert (back["before"], back["version"]) == (2, 1)
