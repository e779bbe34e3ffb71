"""A registered model answers through stock MLflow as plain transformers does."""

from __future__ import annotations

import urllib.error
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from objectives.testing import tiny_rows
from sweep.deployable import deployable
from sweep.promotion import Promotion
from sweep.spec.model import StudySpec
from tests.model_server import by_transformers, check_answers, served

TEXTS = [row["text"] for row in tiny_rows(40, seed=5)] + ["snow " * 40]


def test_a_served_champion_gives_the_checkpoints_predictions_for_one_text_and_for_many(
    good: StudySpec, promoted: Callable[..., Promotion], tmp_path: Path
) -> None:
    promoted(good, "served")
    wanted = by_transformers(deployable(good)[0].model, TEXTS, max_length=16)
    with served("models:/served@champion", good.layout.tracking_uri, tmp_path) as ask:
        check_answers(ask({"inputs": TEXTS}), wanted)
        check_answers(ask({"inputs": TEXTS[0]}), wanted[:1])
        table = {"columns": ["text"], "data": [[text] for text in TEXTS]}
        check_answers(ask({"dataframe_split": table}), wanted)
        check_answers(ask({"dataframe_records": [{"text": TEXTS[1]}]}), wanted[1:2])
        for nothing in ({"inputs": ["rain", None]}, {"dataframe_records": [{"text": "rain"}, {"text": None}]}):
            with pytest.raises(urllib.error.HTTPError) as refused:
                ask(nothing)
            with refused.value as answer:
                assert (answer.code, "row 1: null is no text" in answer.read().decode()) == (400, True)


# Of MLflow's own types, at the first import.
@pytest.mark.filterwarnings("ignore:.*Any type hint is inferred")
def test_a_registered_model_loads_as_a_python_function_with_signature_and_example(
    good: StudySpec, promoted: Callable[..., Promotion], registry: Any
) -> None:
    import mlflow

    version = promoted(good, "loaded").version
    assert version is not None
    model = mlflow.pyfunc.load_model(version.uri)
    check_answers(
        model.predict(TEXTS).to_dict("records"), by_transformers(deployable(good)[0].model, TEXTS, max_length=16)
    )
    assert model.metadata.signature.inputs.input_types()
    assert [column.name for column in model.metadata.signature.outputs] == ["label", "probability", "probabilities"]
    assert len(model.predict(model.input_example)) == 2
    described = registry._client.get_model_version("loaded", str(version.number)).description
    assert "How to use it" in described
    assert len(described) <= 5000
