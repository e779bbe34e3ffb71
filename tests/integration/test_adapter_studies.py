"""Studies whose trials train adapters: little on disk while they run, whole models where they are handed on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from transformers import AutoModelForSequenceClassification

from sweep import objective_jobs, wiring
from sweep.base_model import base_model
from sweep.checkpoints.adapted import base_of
from sweep.deployable import deployable
from sweep.errors import ModelError, UserError
from sweep.execution.local import LocalExecutor
from sweep.execution.warm_client import WarmParent
from sweep.merging import plain_model
from sweep.selection.preference import CLEARLY_SMALLER
from sweep.selection.winner import read_verdict
from sweep.spec.model import StudySpec
from sweep.testing.doubles import SilentObserver
from sweep.verification import Examiner, exported
from tests.tiny_study import materials, run, sweep, tiny_spec

LORA = ("objective.training.method=lora", "objective.training.lora_targets=all", "objective.training.lora_rank=2")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = materials(tmp_path_factory.mktemp("adapters"))
    run(tiny_spec(folder, "few", *LORA, trials=1))
    return folder


@pytest.fixture
def spec(folder: Path) -> StudySpec:
    return tiny_spec(folder, "few", *LORA, trials=2)


@pytest.fixture(scope="module")
def parent() -> Iterator[WarmParent]:
    with objective_jobs.warm_parent() as parent:
        yield parent


def test_no_file_of_the_study_holds_the_whole_weights(folder: Path) -> None:
    base = (folder / "base/model.safetensors").stat().st_size
    models = sorted((folder / "mlruns").rglob("*.safetensors"))
    assert {path.name for path in models} == {"adapter_model.safetensors"}
    assert all(path.stat().st_size < base / 2 for path in models)


def test_a_winner_is_exported_merged_or_as_its_adapter_and_all_reproduce_its_score(
    folder: Path, spec: StudySpec, parent: WarmParent
) -> None:
    assert "Exported trial" in sweep(folder, "export", "few", "--to", "merged").stdout
    AutoModelForSequenceClassification.from_pretrained(folder / "merged")
    assert not list((folder / "merged").glob("adapter*"))
    assert "PeftModel.from_pretrained" in sweep(folder, "export", "few", "--to", "alone", "--adapter").stdout
    files = json.loads((folder / "alone/sweep.json").read_text())["files"]
    assert "adapter_model.safetensors" in files
    assert "model.safetensors" not in files
    assert not list(folder.glob(".tmp-*"))
    examiner = Examiner(parent=parent, trust_remote_code=False)
    chosen, lineage = deployable(spec)
    for model, origin in ((chosen.model, lineage), exported(folder / "merged"), exported(folder / "alone")):
        assert all(check.reproduced for check in examiner.check(model, origin))


def test_the_next_study_begins_with_the_merged_winner(folder: Path, spec: StudySpec, parent: WarmParent) -> None:
    found = Path(base_model(tiny_spec(folder, "later", "objective.model=study:few"), parent).reference)
    assert (found / "model.safetensors").exists()
    assert base_of(found) is None
    assert [path.name for path in spec.layout.prepared.glob("*model-*")] == [found.name]


def test_a_study_may_begin_with_a_recorded_adapter_and_is_refused_one_in_a_folder(
    folder: Path, spec: StudySpec, parent: WarmParent
) -> None:
    client = MlflowClient(spec.layout.tracking_uri)
    experiment = client.get_experiment_by_name("few")
    kept = client.search_logged_models([experiment.experiment_id])[0]
    again = tiny_spec(folder, "again", f"objective.model=models:/{kept.model_id}")
    found = Path(base_model(again, parent).reference)
    assert (found / "model.safetensors").exists()
    assert base_of(found) is None
    (folder / "peft").mkdir()
    (folder / "peft/adapter_config.json").write_text("{}")
    with pytest.raises(UserError, match=r"peft holds an adapter alone\. Export it merged"):
        base_model(tiny_spec(folder, "refused", f"objective.model={folder / 'peft'}"), parent)


@pytest.mark.slow
def test_a_winner_on_a_quantised_base_reproduces_its_score_as_it_is_deployed(folder: Path, parent: WarmParent) -> None:
    held = tiny_spec(folder, "held", *LORA, "objective.training.quantization=nf4", trials=1)
    run(held)
    chosen, lineage = deployable(held)
    base = base_of(chosen.model)
    assert base is not None
    assert base.quantization == "nf4"
    checks = Examiner(parent=parent, trust_remote_code=False).check(chosen.model, lineage)
    assert {check.split for check in checks} == {"validation", "test"}
    assert all(check.reproduced for check in checks)


@pytest.mark.slow
def test_the_registered_model_is_merged(folder: Path) -> None:
    sweep(folder, "promote", "few")
    (registered,) = (folder / "mlruns/artifacts").rglob("model.safetensors")
    AutoModelForSequenceClassification.from_pretrained(registered.parent)
    assert "Nothing to do: it is the champion already" in sweep(folder, "promote", "few").stdout
    assert "reproduces" in sweep(folder, "verify", "models:/few@champion").stdout


@pytest.mark.slow
def test_a_soup_of_adapters_averages_what_they_add(folder: Path) -> None:
    confirmed = tiny_spec(folder, "soup", *LORA, "confirm={finalists: 2, seeds: 2, soup: uniform}", trials=3)
    run(confirmed)
    verdict = read_verdict(confirmed.layout)
    assert verdict is not None
    assert set(verdict.finalist("soup").scores) == {0, 1}
    # The small files of an adapter win nobody the final.
    sizes = [one.model_bytes or 0 for one in verdict.finalists]
    assert min(sizes) > CLEARLY_SMALLER * max(sizes)
    assert not list(confirmed.layout.confirmation.folder.glob("checkpoints/soup-*/*/merged"))


def test_a_base_that_vanished_is_told_once_and_before_anything_is_trained(
    folder: Path, spec: StudySpec, parent: WarmParent, monkeypatch: pytest.MonkeyPatch
) -> None:
    def local(spec: StudySpec, parent: WarmParent, *_: Any) -> LocalExecutor:
        return LocalExecutor(1, parent, spec.objective.task)

    shutil.move(folder / "base", folder / "elsewhere")
    monkeypatch.setattr(wiring, "start_executor", local)
    chosen, lineage = deployable(spec)
    settings = {"trust_remote_code": False}
    with (
        pytest.raises(ModelError, match=r"the base model .*/base' that its adapter belongs to is not to be had"),
        plain_model(chosen.model, parent, task=lineage.task, settings=settings, scratch=folder),
    ):
        pass
    assert not list(folder.glob(".tmp-*"))
    with pytest.raises(ModelError, match=r"the base model .*/base that study 'few' began with is gone"):
        wiring.drive(spec, resuming=True, observer=SilentObserver(), note=lambda line: None)
