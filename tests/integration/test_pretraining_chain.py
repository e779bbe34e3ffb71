"""Pretraining, fine-tuning, evaluation: a study's winner is what the next one begins with, down to the test split."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from objectives.loading import load_objective
from objectives.testing import tiny_file, tiny_rows
from sweep.base_model import base_model
from sweep.checkpoints import intact
from sweep.deployment.export import content_of_model
from sweep.deployment.lineage import read_lineage
from sweep.errors import UserError
from sweep.execution.warm_client import WarmParent
from sweep.search import read_trials
from sweep.spec import parse_spec
from sweep.spec.model import StudySpec
from sweep.study_files import read_facts
from sweep.tracking import words
from tests.language_tasks import SHAPES
from tests.tiny_study import run, sweep

WORDS = """
study: words
objective:
  task: masked-language-modeling
  model: random:config.json         # or random:bert-tiny, random:bert-mini, random:bert-small
  data: {train: corpus.txt, vocabulary_size: 200}
  training: {epochs: 6, batch_size: 16, max_length: 32, packing: false, learning_rate: 1e-2}
search:
  learning_rate: 3e-3..2e-2 log
  pruner: none
metric: perplexity
budget: {trials: 1}
"""

TOPICS = """
study: topics
objective:
  task: text-classification
  model: study:words                # the winner of the study above
  data: {train: topics.jsonl, validation_fraction: 0.25, test_fraction: 0.25}
  training: {epochs: 5, batch_size: 8, max_length: 32, learning_rate: 5e-3}
search:
  learning_rate: 2e-3..1e-2 log
  pruner: none
metric: accuracy
budget: {trials: 1}
"""


def _spec(text: str, folder: Path, *overrides: str) -> StudySpec:
    return parse_spec(text, place="study.yaml", folder=folder, overrides=list(overrides))


def _third(folder: Path, model: str) -> StudySpec:
    return _spec(TOPICS, folder, "study=third", f"objective.model={model}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A storage with both studies, one after the other."""
    folder = tmp_path_factory.mktemp("chain")
    (folder / "config.json").write_text(json.dumps(SHAPES["bert"]))
    unlabelled = [row["text"].rpartition(" ")[0] for row in tiny_rows(300, seed=1)]
    (folder / "corpus.txt").write_text("\n\n".join(unlabelled))
    tiny_file(folder / "topics.jsonl", tiny_rows(120))
    for text in (WORDS, TOPICS):
        run(_spec(text, folder))
    return folder


def test_the_chain_ends_in_a_model_that_knows_its_topics_on_the_test_split(folder: Path) -> None:
    pretrained, tuned = read_trials(_spec(WORDS, folder))[0], read_trials(_spec(TOPICS, folder))[0]
    assert pretrained.value is not None
    assert pretrained.value < 30  # of 200 tokens
    assert tuned.test is not None
    assert tuned.test["accuracy"] > 0.6  # of three topics


def test_the_winner_is_kept_by_content_and_its_origin_is_in_the_facts(folder: Path) -> None:
    first, second = _spec(WORDS, folder).layout, _spec(TOPICS, folder).layout
    data = read_facts(second, "data")
    base = data["base_model"]
    assert base["reference"] == "study:words"
    assert (base["study"], base["trial_number"], base["metric"]) == ("words", 0, "perplexity")
    assert base["begun_with"] == f"random:{folder / 'config.json'}"
    assert base["content"] == content_of_model(first.export(0))
    assert Path(data["model"]) == second.prepared / f"model-{base['content'][:16]}"
    assert intact(Path(data["model"]))


def test_the_tokenizer_of_the_corpus_goes_with_the_model(folder: Path) -> None:
    data = read_facts(_spec(TOPICS, folder).layout, "data")
    used, kept = (Path(place) / "tokenizer.json" for place in (f"{data['folder']}/tokenizer", data["model"]))
    assert json.loads(used.read_text())["model"] == json.loads(kept.read_text())["model"]


def test_the_record_says_which_model_it_was_and_is_found_by_its_hash(folder: Path) -> None:
    layout = _spec(TOPICS, folder).layout
    client = MlflowClient(layout.tracking_uri)
    experiment = client.get_experiment_by_name("topics")
    base = read_facts(layout, "data")["base_model"]
    runs = client.search_runs([experiment.experiment_id], f"tags.`{words.BASE_CONTENT}` = '{base['content']}'")
    assert [run.data.tags[words.BASE_MODEL] for run in runs] == [f"words, trial 0, step {base['step']}"]
    assert runs[0].data.params["base_model.study"] == "words"


def test_the_whole_chain_is_in_what_a_third_study_begins_with(folder: Path) -> None:
    assert read_lineage(_spec(TOPICS, folder).layout.export(0)).data["base_model"]["study"] == "words"
    origin = base_model(_third(folder, "study:topics"), WarmParent()).origin
    assert (origin["study"], origin["begun_with"]["study"]) == ("topics", "words")
    assert json.loads(json.dumps(origin)) == origin


def test_garbage_collection_leaves_a_base_model_that_a_study_names(folder: Path) -> None:
    kept = Path(read_facts(_spec(TOPICS, folder).layout, "data")["model"])
    unnamed = Path(base_model(_third(folder, "study:topics"), WarmParent()).reference)
    sweep(folder, "gc", "topics", "--prepared")
    assert kept.is_dir()
    assert not unnamed.exists()


def test_a_base_model_stands_whatever_becomes_of_its_study(folder: Path, tmp_path: Path) -> None:
    layout = _spec(TOPICS, folder).layout
    source = _spec(WORDS, folder).layout.folder
    shutil.move(source, tmp_path / "words")
    try:
        settings = {**_spec(TOPICS, folder).objective_settings(), "model": read_facts(layout, "data")["model"]}
        found = load_objective("text-classification").prepare(settings, layout.prepared)
        assert found["folder"] == read_facts(layout, "data")["folder"]
    finally:
        shutil.move(tmp_path / "words", source)


def test_a_study_that_does_not_exist_is_named_with_the_nearest(folder: Path) -> None:
    with pytest.raises(UserError, match=r"study:wrods: no such study in .*Did you mean study:words\? Run it first"):
        base_model(_third(folder, "study:wrods"), WarmParent())


def test_other_references_stay_as_they_are(folder: Path) -> None:
    found = base_model(_spec(WORDS, folder), WarmParent())
    assert (found.reference, dict(found.origin)) == (f"random:{folder / 'config.json'}", {})


def test_the_card_says_how_each_of_them_is_loaded(folder: Path) -> None:
    cards = [(_spec(text, folder).layout.export(0) / "README.md").read_text() for text in (WORDS, TOPICS)]
    assert "AutoModelForMaskedLM.from_pretrained" in cards[0]
    assert '"pipeline_tag": "fill-mask"' in cards[0]
    assert "mlflow models serve" not in cards[0]
    assert "AutoModelForSequenceClassification.from_pretrained" in cards[1]
