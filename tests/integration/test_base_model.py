"""A study that begins with another study's winner, on this host without Ray."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from sweep import wiring
from sweep.base_model import base_model
from sweep.checkpoints import intact
from sweep.deployment.export import content_of_model
from sweep.deployment.lineage import read_lineage
from sweep.errors import UserError
from sweep.spec.model import StudySpec
from sweep.study_files import read_facts
from sweep.testing.doubles import SilentObserver
from sweep.tracking import words
from tests.tiny_study import materials, run, sweep, tiny_spec


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two studies in one storage: ``first``, and ``second`` that begins with its winner."""
    folder = materials(tmp_path_factory.mktemp("chain"))
    run(tiny_spec(folder, "first", "budget.trials=1"))
    run(tiny_spec(folder, "second", "objective.model=study:first", "budget.trials=1"))
    return folder


def _spec(folder: Path, name: str, model: str) -> StudySpec:
    return tiny_spec(folder, name, f"objective.model={model}")


def test_the_winner_is_kept_by_content_and_its_origin_is_in_the_facts(folder: Path) -> None:
    first = tiny_spec(folder, "first").layout
    data = read_facts(tiny_spec(folder, "second").layout, "data")
    base = data["base_model"]
    assert base["reference"] == "study:first"
    assert (base["study"], base["trial_number"], base["task"]) == ("first", 0, "text-classification")
    assert base["begun_with"] == str(folder / "base")
    assert base["content"] == content_of_model(first.export(0))
    assert Path(data["model"]) == first.prepared / f"model-{base['content'][:16]}"
    assert intact(Path(data["model"]))


def test_the_record_says_which_model_it_was_and_is_found_by_its_hash(folder: Path) -> None:
    first, second = tiny_spec(folder, "first"), tiny_spec(folder, "second")
    client = MlflowClient(first.layout.tracking_uri)
    experiment = client.get_experiment_by_name("second")
    base = read_facts(second.layout, "data")["base_model"]
    runs = client.search_runs([experiment.experiment_id], f"tags.`{words.BASE_CONTENT}` = '{base['content']}'")
    assert [run.data.tags[words.BASE_MODEL] for run in runs] == [f"first, trial 0, step {base['step']}"]
    assert runs[0].data.params["base_model.study"] == "first"


def test_the_whole_chain_is_in_what_a_third_study_begins_with(folder: Path) -> None:
    assert read_lineage(tiny_spec(folder, "second").layout.export(0)).data["base_model"]["study"] == "first"
    origin = base_model(_spec(folder, "third", "study:second")).origin
    assert (origin["study"], origin["begun_with"]["study"]) == ("second", "first")
    assert json.loads(json.dumps(origin)) == origin


def test_garbage_collection_leaves_a_base_model_that_a_study_names(folder: Path) -> None:
    kept = Path(read_facts(tiny_spec(folder, "second").layout, "data")["model"])
    unnamed = Path(base_model(_spec(folder, "third", "study:second")).reference)
    sweep(folder, "gc", "second", "--prepared")
    assert kept.is_dir()
    assert not unnamed.exists()


def test_a_study_goes_on_with_the_same_model_when_the_first_one_is_gone(folder: Path, tmp_path: Path) -> None:
    moved = tmp_path / "first"
    shutil.move(tiny_spec(folder, "first").layout.folder, moved)
    try:
        spec = tiny_spec(folder, "second", "objective.model=study:first", "budget.trials=2")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(wiring, "start_executor", _local)
            result = wiring.drive(spec, resuming=True, observer=SilentObserver(), note=lambda line: None)
        assert (result.loop.state, len(result.trials)) == ("COMPLETE", 2)
    finally:
        shutil.move(moved, tiny_spec(folder, "first").layout.folder)


def _local(spec: StudySpec, parent: object, *_: object) -> object:
    from sweep.execution.local import LocalExecutor

    return LocalExecutor(2, parent, spec.objective.task)  # type: ignore[arg-type]


def test_a_study_that_does_not_exist_is_named_with_the_nearest(folder: Path) -> None:
    with pytest.raises(UserError, match=r"study:frist: no such study in .*Did you mean study:first\? Run it first"):
        base_model(_spec(folder, "third", "study:frist"))


def test_other_references_stay_as_they_are(folder: Path) -> None:
    found = base_model(tiny_spec(folder, "third"))
    assert (found.reference, dict(found.origin)) == (str(folder / "base"), {})
