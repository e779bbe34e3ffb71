"""From a finished study to a champion, and back."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sweep import objective_jobs, registries
from sweep.deployable import deployable
from sweep.deployment.export import content_of_model
from sweep.errors import CheckpointError, RecordingError, UserError, VerificationError
from sweep.promotion import Promotion, move, register, roll_back
from sweep.selection.test_split import openings
from sweep.spec.model import StudySpec
from sweep.tracking.registry import CONTENT, Registry
from tests.mlflow_server import free_port
from tests.tiny_study import run, sweep, tiny_spec

Promote = Callable[..., Promotion]


def test_the_first_model_becomes_champion_and_its_kept_weights_are_not_stored_again(
    good: StudySpec, registry: Registry, promoted: Promote
) -> None:
    before = len(logged_models(registry, good))
    done = promoted(good, "first")
    assert done.decision.kind == "first"
    assert all(check.reproduced for check in done.checks)
    assert {check.split for check in done.checks} == {"validation", "test"}
    version = registry.champion("first", "champion")
    assert version is not None
    assert version == done.version
    assert len(logged_models(registry, good)) == before
    assert version.tags["sweep.study"] == "good"
    assert version.tags["sweep.test.accuracy"]
    assert version.tags["sweep.registered_by"]


def test_promoting_twice_changes_nothing(good: StudySpec, registry: Registry, promoted: Promote) -> None:
    first = promoted(good, "twice")
    history = registry.history("twice", "champion")
    second = promoted(good, "twice")
    assert second.decision.kind == "already"
    assert second.version == first.version
    assert registry.history("twice", "champion") == history
    assert len(history) == 1


def test_a_worse_model_is_refused_a_better_one_passes_and_rollback_brings_the_old_one_back(
    good: StudySpec, bad: StudySpec, registry: Registry, promoted: Promote
) -> None:
    weak = promoted(bad, "ladder")
    opened = len(openings(good.layout))
    preview = promoted(good, "ladder", dry_run=True)
    assert preview.decision.passes
    assert registry.champion("ladder", "champion") == weak.version
    strong = promoted(good, "ladder")
    compared = strong.decision.comparison
    assert compared is not None
    assert compared.rows == 45, "the test split, and no other"
    assert compared.challenger > compared.champion
    recorded = {check.split: check.now for check in strong.checks}
    assert compared.challenger == pytest.approx(recorded["test"])
    assert compared.champion == pytest.approx({check.split: check.now for check in weak.checks}["test"])
    assert compared.interval is not None
    assert compared.interval[0] > 0
    assert compared.p_value is not None
    assert compared.p_value < 0.05
    assert registry.champion("ladder", "champion") == strong.version
    assert [entry.reason for entry in openings(good.layout)[opened:]] == ["promotion", "promotion"]
    refused = promoted(bad, "ladder", if_better=True)
    assert not refused.decision.passes
    assert refused.version is None
    assert registry.champion("ladder", "champion") == strong.version
    before, now = roll_back(registry, name="ladder", alias="champion", why="a test")
    assert (before, now) == (strong.version, weak.version)
    assert registry.champion("ladder", "champion") == weak.version
    with pytest.raises(UserError, match="first that had it"):
        roll_back(registry, name="ladder", alias="champion", why="")
    last = registry.history("ladder", "champion")[-1]
    assert (last["kind"], last["why"]) == ("rollback", "a test")
    assert last["by"]
    assert last["at"]


def test_the_prepared_rows_of_a_champion_are_found_again(good: StudySpec, bad: StudySpec, promoted: Promote) -> None:
    promoted(bad, "again")
    promoted(good, "again", dry_run=True)
    prepared = sorted(path.name for path in good.layout.prepared.iterdir())
    promoted(good, "again", dry_run=True)
    assert sorted(path.name for path in good.layout.prepared.iterdir()) == prepared


def test_a_model_with_other_labels_or_without_test_rows_is_not_compared(
    folder: Path, good: StudySpec, registry: Registry, promoted: Promote
) -> None:
    promoted(good, "labels")
    rows = [json.loads(line) for line in (folder / "rows.jsonl").read_text(encoding="utf-8").splitlines()]
    two = [row for row in rows if row["label"] != "food"]
    (folder / "two.jsonl").write_text("".join(json.dumps(row) + "\n" for row in two), encoding="utf-8")
    odd = tiny_spec(folder, "odd", f"objective.data.train={folder}/two.jsonl", trials=1)
    run(odd)
    refused = promoted(odd, "labels")
    assert refused.decision.kind == "incomparable"
    assert "labels" in refused.decision.reason
    assert not refused.opened_test
    untested = tiny_spec(folder, "untested", "objective.data.test_fraction=0.0", trials=1)
    run(untested)
    assert "no test split" in promoted(untested, "labels").decision.reason
    assert registry.history("labels", "champion")[-1]["version"] == 1


def test_a_champion_that_was_trained_on_another_split_of_the_same_rows_is_not_compared(
    folder: Path, good: StudySpec, promoted: Promote
) -> None:
    promoted(good, "split")
    opened = len(openings(good.layout))
    other = tiny_spec(folder, "resplit", "objective.data.split_seed=7", trials=1)
    run(other)
    refused = promoted(other, "split", if_better=True)
    assert (refused.decision.kind, refused.decision.passes, refused.opened_test) == ("incomparable", False, False)
    assert "trained on another split of the same data" in refused.decision.reason
    assert "split_seed: 0" in refused.decision.reason
    assert len(openings(good.layout)) == opened


def test_a_tampered_checkpoint_is_not_promoted(folder: Path, promoted: Promote, registry: Registry) -> None:
    spec = tiny_spec(folder, "tampered", trials=1)
    run(spec)
    weights = deployable(spec)[0].model / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.unlink()
    weights.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        promoted(spec, "tampered")
    assert "tampered" not in registry.names()


def test_a_winner_that_does_not_reproduce_its_record_is_not_promoted(
    good: StudySpec, registry: Registry, promoted: Promote, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate = objective_jobs.evaluate_model
    monkeypatch.setattr(
        objective_jobs, "evaluate_model", lambda *a, **k: {n: v - 0.01 for n, v in evaluate(*a, **k).items()}
    )
    with pytest.raises(VerificationError, match="not promoted"):
        promoted(good, "unreproduced")
    assert "unreproduced" not in registry.names()


def test_verify_finds_weights_of_a_registered_version_that_were_replaced_together_with_their_record(
    folder: Path, good: StudySpec, registry: Registry, promoted: Promote
) -> None:
    promoted(good, "replaced")
    sweep(folder, "verify", "models:/replaced@champion")
    model_id = registry.champion("replaced", "champion").source.rpartition("/")[2]  # type: ignore[union-attr]
    stored = next((folder / "mlruns" / "artifacts" / "models").glob(f"{model_id}/artifacts"))
    kept = {path: path.read_bytes() for path in stored.rglob("*") if path.is_file()}
    try:
        record = json.loads((stored / "sweep.json").read_text(encoding="utf-8"))
        record["created_at"] = "2001-01-01"
        replace(stored / "sweep.json", json.dumps(record).encode())
        assert "not those that were registered" in sweep(folder, "verify", "models:/replaced/1", expect=1).stderr
        replace(stored / "model.safetensors", kept[stored / "model.safetensors"][:-1] + b"!")
        assert "sha256" in sweep(folder, "verify", "models:/replaced/1", expect=1).stderr
    finally:
        for path, content in kept.items():
            replace(path, content)


def test_verify_works_on_a_trial_and_on_a_run(folder: Path, good: StudySpec) -> None:
    chosen, lineage = deployable(good)
    assert "reproduces" in sweep(folder, "verify", f"good:{chosen.trial_number}").stdout
    assert "reproduces" in sweep(folder, "verify", f"runs:/{lineage.run_id}", "--storage", "mlruns").stdout
    assert "no such run" in sweep(folder, "verify", "runs:/nonsense", "--storage", "mlruns", expect=2).stderr
    assert "Check name" in sweep(folder, "verify", "models:/none@champion", "--storage", "mlruns", expect=2).stderr


@pytest.mark.parametrize("step", range(6))
def test_a_promotion_killed_at_any_step_is_finished_by_the_next_and_nothing_is_there_twice(
    good: StudySpec, registry: Registry, step: int
) -> None:
    name = f"killed-{step}"
    chosen, lineage = deployable(good)
    content = content_of_model(chosen.model)
    offer = serving_offer(lineage)

    def act(client: Registry) -> None:
        version = register(client, good.layout.storage, chosen, lineage, offer, name=name, content=content)
        move(client, version, "champion", client.champion(name, "champion"), why="a test")

    child = os.fork()
    if child == 0:
        try:
            act(dying(registries.registry_of(good), step))
        finally:
            os._exit(7)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), "it was not killed: there are fewer steps"
    act(registry)
    version = registry.version_of(name, content)
    assert version is not None
    assert version.number == 1
    assert registry.champion(name, "champion") == version
    assert [entry["version"] for entry in registry.history(name, "champion")] == [1]
    assert sum(model.tags.get(CONTENT) == content for model in logged_models(registry, good)) == 1
    shutil.rmtree(next(good.layout.storage.glob(".promotion-*"), Path("/none")), ignore_errors=True)


def test_two_promotions_at_once_make_one_version(folder: Path, good: StudySpec, registry: Registry) -> None:
    command = [sys.executable, "-m", "sweep.cli.main", "promote", "good", "--name", "both"]
    both = [
        subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [process.communicate(timeout=240) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert [entry["version"] for entry in registry.history("both", "champion")] == [1]
    assert sum("Nothing to do" in out for out, _ in said) == 1
    assert registry.version("both", 2) is None


def test_a_server_that_is_down_is_told_at_once_and_clearly(folder: Path, tmp_path: Path) -> None:
    spec = tiny_spec(folder, "good", f"tracking.uri=http://127.0.0.1:{free_port()}")
    with pytest.raises(RecordingError, match=r"Once it answers, run the same command again"):
        registries.registry_of(spec).names()


def test_the_command_line_tells_the_decision_and_exits_by_it(folder: Path) -> None:
    done = sweep(folder, "promote", "good", "--name", "told")
    assert "is version 1 now: there is no champion to beat" in done.stdout
    refused = sweep(folder, "promote", "bad", "--name", "told", "--json", expect=1)
    row = json.loads(refused.stdout)
    assert row["decision"]["passes"] is False
    assert row["version"] is None
    assert "not promoted: it is not better" in refused.stderr
    assert "none to go back to" in sweep(folder, "rollback", "told", "--storage", "mlruns", expect=2).stderr
    assert "latest" in sweep(folder, "promote", "good", "--alias", "latest", expect=2).stderr


def serving_offer(lineage: Any) -> Any:
    from objectives.serving.offer import text_classifier_offer

    return text_classifier_offer(lineage.settings)


def logged_models(registry: Registry, spec: StudySpec) -> list[Any]:
    client = registry._client
    return list(client.search_logged_models([client.get_experiment_by_name(spec.study).experiment_id]))


def replace(path: Path, content: bytes) -> None:
    """Not in place: weights are shared with the checkpoint by hard links."""
    path.unlink()
    path.write_bytes(content)


class _Dying:
    """Stands before MLflow's client and kills the process before the n-th request that changes something."""

    CHANGES = ("create_", "set_", "log_", "finalize_", "restore_")

    def __init__(self, client: Any, step: int) -> None:
        self._client, self._left = client, step

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        if not name.startswith(self.CHANGES):
            return method

        def call(*arguments: Any, **named: Any) -> Any:
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
                time.sleep(60)
            self._left -= 1
            return method(*arguments, **named)

        return call


def dying(registry: Registry, step: int) -> Registry:
    registry._client = _Dying(registry._client, step)
    return registry
