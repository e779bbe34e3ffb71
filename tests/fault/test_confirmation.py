"""The final of a study through the real command line: fresh seeds, verdict, kills, stops, and who is told what."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from sweep.checkpoints import model_folder
from sweep.domain import Report, confirmation_seed
from sweep.errors import UserError
from sweep.layout import StudyLayout
from sweep.ports import AttemptBegun, ModelKept, VerdictReached
from sweep.search import read_trials
from sweep.selection.winner import read_verdict, winner
from sweep.study_files import read_spec
from sweep.tracking.spool import read_entries
from tests.integration.journey.conftest import LocalShell, end, wait_for

SPEC = """\
study: quick
objective:
  task: {task}
  model: none
  training: {{steps: 12, batch_size: 8, learning_rate: {rate}, sleep_seconds: {sleep}}}
search: {{learning_rate: {space}, seed: 5, pruner: none}}
budget: {{trials: 4}}
confirm: {{finalists: 2, seeds: 4, level: 0.05}}
"""
QUICK = "sweep.testing.checkpointing_objective:QuickObjective"


def shell_with(
    folder: Path, *, task: str = QUICK, rate: str = "1e-3", space: str = "1e-3..1e-1 log", sleep: float = 0.0
) -> LocalShell:
    folder.mkdir(exist_ok=True)
    text = SPEC.format(task=task, rate=rate, space=space, sleep=sleep)
    (folder / "study.yaml").write_text(text, encoding="utf-8")
    return LocalShell(folder)


def layout_of(folder: Path) -> StudyLayout:
    return StudyLayout(folder / "mlruns", "quick")


def verdict_of(folder: Path) -> dict[str, Any]:
    """The verdict without what differs from run to run: times and folders."""
    verdict: dict[str, Any] = json.loads(layout_of(folder).verdict.read_text())
    assert all(finalist.pop("latency_ms") > 0 for finalist in verdict["finalists"])
    del verdict["deploy"]["model"]
    del verdict["test"]["opened_at"]
    return verdict


def final_records(folder: Path, kind: type[Any]) -> list[Any]:
    entries = read_entries(layout_of(folder).confirmation.spool)
    return [entry.record for entry in entries if isinstance(entry.record, kind)]


def trained(folder: Path) -> dict[tuple[int, int], dict[str, float]]:
    """What each run of the final reported at each step; fails if a step was recorded twice."""
    reports = final_records(folder, Report)
    assert len({(report.trial_number, report.step) for report in reports}) == len(reports)
    return {(report.trial_number, report.step): dict(report.metrics) for report in reports}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> LocalShell:
    """A study whose defaults learn too slowly, with its final."""
    shell = shell_with(tmp_path_factory.mktemp("finished"))
    (shell.folder / "said").write_text(shell("run", "study.yaml").stdout)
    return shell


def test_a_planted_gain_is_found_on_fresh_seeds_and_told_everywhere(finished: LocalShell) -> None:
    said = (finished.folder / "said").read_text()
    verdict = read_verdict(layout_of(finished.folder))
    assert verdict is not None
    assert verdict.is_significant
    assert verdict.winner not in (None, "trial 0")
    assert verdict.sentence in said
    assert verdict.sentence in finished("best", "quick").stdout
    status = finished.json("status", "quick")
    assert (status["state"], status["verdict"]["winner"]) == ("COMPLETE", verdict.winner)
    told = [entry.record for entry in read_entries(layout_of(finished.folder).spool)]
    assert [one.verdict["winner"] for one in told if isinstance(one, VerdictReached)][-1:] == [verdict.winner]
    attempts = final_records(finished.folder, AttemptBegun)
    assert {(one.seed_index, one.seed) for one in attempts} == {(i, confirmation_seed(5, i)) for i in range(4)}
    assert {one.confirms for one in attempts} >= {0}


def test_the_model_to_deploy_is_the_winners_best_run_and_gc_keeps_it(finished: LocalShell) -> None:
    layout = layout_of(finished.folder)
    verdict = read_verdict(layout)
    assert verdict is not None
    assert verdict.deploy is not None
    assert verdict.winner is not None
    scores = verdict.finalist(verdict.winner).scores
    assert verdict.deploy["score"] == max(scores.values())
    assert scores[verdict.deploy["seed_index"]] == verdict.deploy["score"]
    assert {kept.trial_number for kept in final_records(finished.folder, ModelKept)} >= {verdict.deploy["run"]}
    for study in ("quick", "quick.confirm"):
        finished("gc", study, "--prepared")
    assert (Path(verdict.deploy["model"]) / "model.safetensors").is_file()
    chosen = winner(read_spec(layout), read_trials(read_spec(layout)), model_folder)
    assert (chosen.study, chosen.run, str(chosen.model)) == (
        "quick.confirm",
        verdict.deploy["run"],
        verdict.deploy["model"],
    )


def test_compare_takes_the_model_that_the_final_would_deploy_with_its_own_score_and_curve(finished: LocalShell) -> None:
    verdict = read_verdict(layout_of(finished.folder))
    assert verdict is not None
    assert verdict.deploy is not None
    side, searched = finished.json("compare", "quick", "quick:0")["sides"]
    assert side["model"] == verdict.deploy["model"]
    assert side["recorded"]["accuracy"] == verdict.deploy["score"] == max(point["value"] for point in side["curve"])
    number, seed = (verdict.winner or "").removeprefix("trial "), verdict.deploy["seed_index"] + 1
    assert side["label"] == f"quick:{number} on seed {seed}"
    assert searched["label"] == "quick:0"


def test_the_test_split_is_opened_once_for_the_winner_and_the_defaults_and_again_only_with_a_word(
    finished: LocalShell,
) -> None:
    before = json.loads(layout_of(finished.folder).verdict.read_text())["test"]
    assert len(before["opened_at"]) == 1
    again = finished("resume", "quick")
    assert "opening the test split" not in again.stderr
    assert before["winner"]["interval"][0] <= before["winner"]["metrics"]["accuracy"] <= before["winner"]["interval"][1]
    assert json.loads(layout_of(finished.folder).verdict.read_text())["test"] == before
    spec = read_spec(layout_of(finished.folder).confirmation)
    assert sum(trial.test is not None for trial in read_trials(spec)) == 2
    assert all(trial.test is None for trial in read_trials(read_spec(layout_of(finished.folder))))


def test_the_final_is_listed_under_its_study_and_is_driven_with_it(finished: LocalShell) -> None:
    lines = finished("list", "--storage", "mlruns").stdout.splitlines()
    assert [line.split()[:2] for line in lines] == [["quick", "COMPLETE"], ["quick.confirm", "COMPLETE"]]
    assert "sweep resume quick`" in finished("resume", "quick.confirm", expect=2).stderr
    assert finished.json("status", "quick.confirm")["state"] == "COMPLETE"


def test_a_driver_killed_in_the_final_is_resumed_and_comes_to_the_same_verdict(
    finished: LocalShell, tmp_path: Path
) -> None:
    shell = shell_with(tmp_path, sleep=0.2)
    wanted = trained(finished.folder)

    def until(reports: int) -> bool:
        return layout_of(tmp_path).confirmation.spool.exists() and len(final_records(tmp_path, Report)) >= reports

    killed = shell.start("run", "study.yaml")
    try:
        wait_for("runs of the final", lambda: until(7))
    finally:
        end(killed)
    stopped = shell.start("resume", "quick")
    try:
        wait_for("more of them", lambda: until(9))
        shell("stop", "quick.confirm")
        assert stopped.wait(60) == 130, shell.errors()
    finally:
        end(stopped)
    assert not layout_of(tmp_path).verdict.exists()
    assert shell.json("status", "quick")["state"] == "PAUSED"
    shell("resume", "quick")
    assert trained(tmp_path) == wanted
    mine, whole = verdict_of(tmp_path), verdict_of(finished.folder)
    assert mine == whole
    assert "Traceback" not in shell.errors()


def test_a_final_can_be_added_to_a_finished_study_and_says_that_the_test_split_was_opened(tmp_path: Path) -> None:
    shell = shell_with(tmp_path)
    shell("run", "study.yaml", "--set", "confirm=null")
    assert not layout_of(tmp_path).verdict.exists()
    assert "quick.confirm" not in shell("list", "--storage", "mlruns").stdout
    added = shell("resume", "quick", "--confirm")
    assert "the test split was opened for the second time" in added.stderr
    verdict = read_verdict(layout_of(tmp_path))
    assert verdict is not None
    assert (verdict.seeds, len(verdict.finalists)) == (5, 4)


def test_pure_noise_has_no_significant_winner(tmp_path: Path) -> None:
    shell = shell_with(tmp_path, task="tests.fault.noise:Noise")
    said = shell("run", "study.yaml").stdout
    verdict = read_verdict(layout_of(tmp_path))
    assert verdict is not None
    assert not verdict.is_significant
    assert "significant" in said


def test_a_study_may_not_be_called_like_a_final(tmp_path: Path) -> None:
    shell = shell_with(tmp_path)
    assert "those of finals" in shell("run", "study.yaml", "--set", "study=a.confirm", expect=2).stderr


def test_a_study_whose_final_would_have_too_long_a_name_does_not_begin(tmp_path: Path) -> None:
    shell = shell_with(tmp_path)
    told = shell("run", "study.yaml", "--confirm", "--set", "confirm=null", "--set", f"study={'a' * 60}", expect=2)
    assert "too long for a study with a final" in told.stderr


@pytest.mark.slow
def test_the_final_that_a_removed_study_left_is_none_of_a_new_one(finished: LocalShell, tmp_path: Path) -> None:
    left, final = (layout_of(folder).confirmation.folder for folder in (finished.folder, tmp_path))
    shutil.copytree(left, final)
    shell = shell_with(tmp_path, rate="2e-3")
    told = shell("run", "study.yaml", "--trials", "1", expect=2)
    assert f"{final}: run 0 does not confirm trial 0 of 'quick' but that of another study" in told.stderr
    assert not layout_of(tmp_path).verdict.exists()
    shutil.rmtree(final)
    shell("resume", "quick")
    assert layout_of(tmp_path).verdict.exists()


def test_a_moved_study_has_its_verdict_and_model_where_it_lies_now(finished: LocalShell, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(finished.folder, moved)
    layout = layout_of(moved)
    before = json.loads(layout.verdict.read_text())
    spec = read_spec(layout)
    assert winner(spec, read_trials(spec), model_folder).model.is_relative_to(moved)
    LocalShell(moved)("resume", "quick")
    after = json.loads(layout.verdict.read_text())
    model = Path(after["deploy"].pop("model"))
    assert model.is_relative_to(layout.confirmation.folder)
    assert (model / "model.safetensors").is_file()
    del before["deploy"]["model"]
    assert after == before
    shutil.rmtree(layout.confirmation.folder / "checkpoints")
    LocalShell(moved)("resume", "quick")
    assert json.loads(layout.verdict.read_text())["deploy"]["run"] == before["deploy"]["run"]
    with pytest.raises(UserError, match=r"its model is not there any more .*--seeds 5"):
        winner(spec, read_trials(spec), model_folder)


def test_runs_that_failed_are_trained_again_once_their_cause_is_mended_and_then_make_a_soup(tmp_path: Path) -> None:
    illness = tmp_path / "illness"
    shell = shell_with(tmp_path, task="tests.fault.sickly:Sickly")
    text = (tmp_path / "study.yaml").read_text()
    text = text.replace("sleep_seconds: 0.0", f"illness: {illness}").replace("seeds: 4", "seeds: 2, splits: fresh")
    (tmp_path / "study.yaml").write_text(f"{text}on: {{failed: {{retries: 0, stop_after: 9}}}}\n")
    illness.write_text(str(confirmation_seed(5, 1)))
    told = shell("run", "study.yaml", "--set", "confirm.soup=uniform").stderr
    assert "no soup: fewer than two finalists have a model on each of the 2 seeds" in told
    verdict = read_verdict(layout_of(tmp_path))
    assert verdict is not None
    assert [set(one.scores) for one in verdict.finalists] == [{0}] * 3
    illness.unlink()
    assert "trying again what failed before: 3 runs" in shell("resume", "quick").stderr
    verdict = read_verdict(layout_of(tmp_path))
    assert verdict is not None
    assert sorted(one.kind for one in verdict.finalists) == ["baseline", "finalist", "finalist", "soup"]
    assert all(set(one.scores) == {0, 1} for one in verdict.finalists)
    runs = read_trials(read_spec(layout_of(tmp_path).confirmation))
    assert [run.state.value for run in runs] == ["COMPLETE"] * 3 + ["FAILED"] * 3 + ["COMPLETE"] * 3
    assert shell.json("status", "quick")["state"] == "COMPLETE"
    assert "soup" in shell("best", "quick").stdout
