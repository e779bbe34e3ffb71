"""What a model card says, and that hubs can read it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from huggingface_hub import ModelCard

from sweep.deployment.card import model_card
from sweep.deployment.lineage import Lineage

LINEAGE = Lineage(
    study="intents",
    task="text-classification",
    base_model="bundled:minilm-l6",
    trial_number=3,
    run_id="abc",
    step=148,
    seed=123,
    hyperparameters={"learning_rate": 1e-4, "keep_layers": [0, 2]},
    settings={"max_length": 32, "learning_rate": 1e-4},
    metric={"name": "accuracy", "direction": "maximize", "source": "best"},
    validation={"accuracy": 0.94, "loss": 0.2, "seconds": 3.0},
    test={"accuracy": 0.93},
    data={"data_name": "a: b #c", "data_hash": "f" * 64, "rows": {"train": 10, "test": 600}, "labels": ["no", "x|y"]},
    objective={"data": {"source": None, "license": "cc-by-4.0"}},
    environment={"torch": "2.13.0"},
    files={},
    created_at="2026-01-01T00:00:00+00:00",
    search={
        "trials": {"COMPLETE": 3, "PRUNED": 9},
        "sampler": "sobol",
        "pruner": "median",
        "seed": 0,
        "space": {"learning_rate": {"low": 1e-5, "high": 1e-3, "log": True}},
        "baseline": 0.9,
        "trial_seconds": 7200.0,
        "cpus_per_trial": 1.0,
        "gpus_per_trial": 0.0,
    },
)
VERDICT: dict[str, Any] = {
    "seeds": 5,
    "sentence": "trial 3 beats the defaults.",
    "finalists": [
        {"label": "trial 3", "mean": 0.93, "interval": [0.92, 0.94], "spread": 0.01, "search_score": 0.94},
        {"label": "trial 0", "mean": 0.9, "interval": None, "spread": None, "search_score": None},
    ],
    "test": {"winner": {"metrics": {}, "interval": [0.9, 0.96]}},
}


def test_hubs_read_task_base_model_and_scores_from_the_card() -> None:
    card = ModelCard(model_card(LINEAGE))
    assert card.data.library_name == "transformers"
    assert card.data.pipeline_tag == "text-classification"
    assert card.data.base_model == "sentence-transformers/all-MiniLM-L6-v2"
    results = {(r.dataset_split, r.metric_type): r.metric_value for r in card.data.eval_results or []}
    assert results == {("validation", "accuracy"): 0.94, ("validation", "loss"): 0.2, ("test", "accuracy"): 0.93}
    assert {result.dataset_name for result in card.data.eval_results or []} == {"a: b #c"}


def test_a_folder_is_no_name_that_a_hub_knows() -> None:
    assert ModelCard(model_card(replace(LINEAGE, base_model="/home/ann/bert"))).data.base_model is None


def test_the_card_tells_licence_search_cost_seed_and_limits() -> None:
    text = ModelCard(model_card(LINEAGE)).text
    for told in (
        "cc-by-4.0",
        "3 complete, 9 pruned",
        "sobol, median, 0",
        "1e-05 to 0.001",
        "2.00 hours",
        "| seed | 123",
    ):
        assert told in text, told
    assert "not confirmed on fresh seeds" in text
    assert "cut after 32 tokens" in text
    assert "no, x\\|y" in text
    assert "mlflow models serve" in text


def test_the_card_of_a_confirmed_winner_tells_the_verdict_and_the_interval_of_its_test_score() -> None:
    text = model_card(replace(LINEAGE, verdict=VERDICT))
    assert "Confirmed on 5 fresh seeds: trial 3 beats the defaults." in text
    assert "| trial 3 | 0.93 | 0.9200 to 0.9400 | 0.01 | 0.94 |" in text
    assert "0.9000 to 0.9600" in text
    assert "not confirmed" not in text


def test_a_licence_that_nobody_stated_is_said_to_be_missing() -> None:
    assert "not stated" in model_card(replace(LINEAGE, objective={"data": {"source": "me/mine"}}))
    assert "| license | MIT |" in model_card(replace(LINEAGE, objective={"data": {"source": "bundled:tweets"}}))
