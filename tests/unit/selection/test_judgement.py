"""A final's verdict on real models: its soup, what they cost, and what stays of them."""

from __future__ import annotations

import hashlib
import json
import shutil
import socket
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from sweep.checkpoints import MANIFEST_NAME, read_manifest
from sweep.checkpoints.garbage import committed_bytes, of_dead_drivers
from sweep.checkpoints.space import disk_use
from sweep.deployable import deployable
from sweep.deployment.export import export_model
from sweep.errors import ExecutionError, StoppedEarlyError
from sweep.layout import StudyLayout
from sweep.selection.winner import read_verdict
from sweep.study_files import read_spec
from sweep.testing.checkpointing_objective import QuickObjective
from tests.final_of_quick_runs import FinalOfQuickRuns


def weights(model: Path) -> np.ndarray:
    return load_file(model / "model.safetensors")["weights"]


def test_a_uniform_soup_is_judged_as_a_finalist_by_one_score_a_seed(tmp_path: Path) -> None:
    final = FinalOfQuickRuns(tmp_path, soup="uniform")
    verdict = final.judge()
    soup = verdict.finalist("soup")
    assert (soup.kind, soup.trial_number, soup.optimism) == ("soup", None, None)
    assert soup.recipes == dict.fromkeys(range(3), (3, 2))
    assert soup.gain is not None
    objective = QuickObjective()
    for index in range(3):
        average = np.mean([weights(final.model(trial, index)) for trial in (3, 2)], axis=0)
        folder = tmp_path / f"average-{index}"
        folder.mkdir()
        save_file({"weights": average}, folder / "model.safetensors")
        wanted = objective.evaluate(folder, Path(final.data["folder"]), "validation", {})
        assert soup.scores[index] == wanted["accuracy"]
    assert read_verdict(final.spec.layout) == verdict
    # One comparison more: the others' p-values pay for it.
    without = FinalOfQuickRuns(tmp_path / "without")
    alone = without.judge().finalist("trial 2").gain
    beside = verdict.finalist("trial 2").gain
    assert alone is not None
    assert beside is not None
    assert beside.p_value is not None
    assert alone.p_value is not None
    assert beside.p_value > alone.p_value


def test_a_greedy_soup_is_cooked_once_and_only_the_deployed_one_keeps_its_weights(tmp_path: Path) -> None:
    final = FinalOfQuickRuns(tmp_path, finalists=3, soup="greedy")
    final.bench.bonus = 0.1  # as if averages were better than what they are made of
    verdict = final.judge()
    cooked = len(final.bench.evaluated)
    assert cooked == len(set(final.bench.evaluated)) > 0
    folders = sorted(final.final_spec.layout.folder.glob("checkpoints/soup-*/*"))
    assert folders
    assert all((folder / MANIFEST_NAME).exists() for folder in folders)
    kept = [folder for folder in folders if (folder / "model").exists()]
    deployed = verdict.deploy or {}
    assert kept == ([Path(deployed["model"]).parent] if verdict.winner == "soup" else [])
    assert final.judge() == verdict
    assert len(final.bench.evaluated) == cooked
    (folders[0] / MANIFEST_NAME).write_text("torn")
    assert final.judge() == verdict


def winning_soup(folder: Path) -> FinalOfQuickRuns:
    """A final of two finalists who are alike, and whose soup is better."""
    final = FinalOfQuickRuns(folder, soup="uniform", rates={0: 0.001, 1: 0.2, 2: 0.2})
    final.bench.bonus = 0.1
    return final


def test_a_soup_that_wins_is_what_is_deployed_with_its_own_origin(tmp_path: Path) -> None:
    final = winning_soup(tmp_path)
    verdict = final.judge()
    assert verdict.winner == "soup"
    assert verdict.deploy is not None
    model = Path(verdict.deploy["model"])
    assert (verdict.deploy["run"], verdict.deploy["trials"]) == (None, [1, 2])
    assert read_manifest(model.parent).meta["metrics"]["accuracy"] == verdict.deploy["score"]
    assert verdict.test is not None
    assert verdict.test["models"][0].startswith("soup of trials 1, 2, seed ")
    lineage = json.loads((final.final_spec.layout.soup_export / "sweep.json").read_text())
    assert (lineage["trial_number"], lineage["seed"], lineage["step"]) == (None, None, None)
    assert lineage["test"] == verdict.test["winner"]["metrics"]
    assert disk_use(final.final_spec.layout)["checkpoints"] > sum(f.stat().st_size for f in model.iterdir())
    # More seeds make another soup: the models it is made of stay.
    assert all(final.model(trial, index).is_dir() for trial in (0, 1, 2) for index in range(3))


def test_a_soup_is_exported_from_a_moved_storage_as_it_was_recorded(tmp_path: Path) -> None:
    final = winning_soup(tmp_path / "here")
    verdict = final.judge()
    (tmp_path / "here").rename(tmp_path / "there")
    spec = read_spec(StudyLayout(tmp_path / "there", "quick"))
    chosen, lineage = deployable(spec)
    assert verdict.deploy is not None
    assert (chosen.trial_number, chosen.run, chosen.step, chosen.score) == (None, None, None, verdict.deploy["score"])
    assert chosen.model.is_relative_to(tmp_path / "there")
    assert (lineage.trial_number, lineage.hyperparameters) == (None, {})
    assert lineage.settings["learning_rate"] == 0.2
    assert lineage.validation == verdict.deploy["metrics"]
    assert lineage.test is not None
    assert verdict.test is not None
    assert lineage.test == verdict.test["winner"]["metrics"]
    exported = export_model(chosen.model, lineage, tmp_path / "exported")
    objective, prepared = QuickObjective(), Path(exported.data["folder"])
    assert prepared.is_relative_to(tmp_path / "there")
    assert objective.evaluate(tmp_path / "exported", prepared, "test", {}) == exported.test
    assert "average of the finalists" in (tmp_path / "exported" / "README.md").read_text()


def test_finalists_of_other_architectures_make_no_soup_and_a_note_says_why(tmp_path: Path) -> None:
    final = FinalOfQuickRuns(tmp_path, soup="uniform")
    save_file({"weights": np.zeros((4, 3))}, final.model(2, 1) / "model.safetensors")
    verdict = final.judge()
    assert [one.kind for one in verdict.finalists].count("soup") == 0
    (told,) = [note for note in final.notes if "soup" in note]
    assert "not alike: weights is F64 [9, 3]" in told
    assert "F64 [4, 3]" in told


def test_finalists_that_keep_other_layers_make_no_soup_though_their_weights_have_the_same_shapes(
    tmp_path: Path,
) -> None:
    final = FinalOfQuickRuns(tmp_path, soup="greedy", layers=[[0, 5], [0, 3]])
    assert "soup" not in [one.label for one in final.judge().finalists]
    (told,) = [note for note in final.notes if "soup" in note]
    assert "keep other layers (trial 3 keeps [0, 3], trial 2 keeps [0, 5])" in told


def test_a_failed_run_leaves_too_few_for_a_soup_and_is_no_reason_to_fail(tmp_path: Path) -> None:
    final = FinalOfQuickRuns(tmp_path, soup="greedy")
    shutil.rmtree(final.model(2, 1).parent)
    final.judge()
    assert any("no soup: fewer than two finalists have a model on each of the 3 seeds" in note for note in final.notes)


def test_a_verdict_judged_again_remembers_what_models_that_are_gone_took(tmp_path: Path) -> None:
    final = FinalOfQuickRuns(tmp_path)
    verdict = final.judge()
    other = next(one for one in verdict.finalists if one.trial_number and one.label != verdict.winner)
    assert other.model_bytes
    for index in other.scores:
        shutil.rmtree(final.model(other.trial_number or 0, index), ignore_errors=True)  # but one, all are gone
    assert final.judge().finalist(other.label).model_bytes == other.model_bytes


def test_a_soup_that_cannot_be_evaluated_costs_no_verdict_and_is_tried_again(tmp_path: Path) -> None:
    final = FinalOfQuickRuns(tmp_path, soup="uniform")

    def fail() -> None:
        raise ExecutionError("the judge is ill")

    final.bench.before_evaluating = fail
    assert "soup" not in [one.label for one in final.judge().finalists]
    assert any("no soup: the judge is ill. `sweep resume quick` tries again" in note for note in final.notes)
    assert not list(final.final_spec.layout.folder.glob("checkpoints/soup-*/.*"))
    final.bench.before_evaluating = lambda: None
    assert "soup" in [one.label for one in final.judge().finalists]


def test_what_a_killed_driver_left_of_a_soup_is_removed_and_the_rest_is_counted(tmp_path: Path) -> None:
    final = winning_soup(tmp_path)
    layout = final.final_spec.layout
    verdict = final.judge()
    assert verdict.deploy is not None
    assert list(of_dead_drivers(layout)) == []
    soup = Path(verdict.deploy["model"]).parent
    host = hashlib.sha256(socket.gethostname().encode()).hexdigest()[:6]
    torn = soup.with_name(f".tmp-{soup.name}-{2**22 + 1}-{host}-0")
    torn.mkdir()
    assert [surplus.path for surplus in of_dead_drivers(layout)] == [torn]
    whole = committed_bytes(layout)
    shutil.rmtree(soup)
    assert committed_bytes(layout) < whole


def test_models_of_one_architecture_have_one_latency_so_that_noise_tells_none_apart(tmp_path: Path) -> None:
    final = FinalOfQuickRuns(tmp_path, soup="uniform")
    asked: list[Path] = []

    def noisy(model: Path) -> float:
        asked.append(model)
        return 10.0 * len(asked)

    final.bench.milliseconds = noisy
    verdict = final.judge()
    assert len(asked) == 1
    assert [one.latency_ms for one in verdict.finalists] == [10.0] * 4
    other = FinalOfQuickRuns(tmp_path / "other")
    for trial, index in ((2, 0), (2, 1), (2, 2)):
        (other.model(trial, index) / "config.json").write_text('{"model_type": "softmax-regression", "wide": true}')
    other.bench.milliseconds = noisy
    asked.clear()
    told = {one.label: one.latency_ms for one in other.judge().finalists}
    assert told["trial 0"] == told["trial 3"] != told["trial 2"]
    assert len(asked) == 2


def test_latencies_are_measured_once_for_each_finalist(tmp_path: Path) -> None:
    final = FinalOfQuickRuns(tmp_path)
    first = final.judge()
    assert all((one.latency_ms or 0.0) > 0.0 for one in first.finalists)
    assert final.judge() == first
    assert final.bench.timed == 1


def test_a_stop_is_heeded_before_the_test_split_is_opened_and_before_models_are_kept(tmp_path: Path) -> None:
    final = FinalOfQuickRuns(tmp_path)
    final.is_stopping = lambda: True
    with pytest.raises(StoppedEarlyError):
        final.judge()
    assert not final.spec.layout.test_openings.exists()
    answers = iter([False, True])
    final.is_stopping = lambda: next(answers)
    with pytest.raises(StoppedEarlyError):
        final.judge()
    assert final.spec.layout.test_openings.exists()
    assert not final.final_recorder.records
    final.is_stopping = lambda: False
    assert final.judge().test is not None
    assert final.final_recorder.records
