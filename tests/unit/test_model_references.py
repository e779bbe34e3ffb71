from __future__ import annotations

from pathlib import Path

import pytest

from sweep.errors import InvalidSpecError
from sweep.spec import parse_spec, spec_from_resolved
from sweep.spec.model import StudySpec


def _spec(folder: Path, model: str) -> StudySpec:
    text = f"study: s\nobjective: {{model: '{model}', data: bundled:tweets}}\nsearch: {{learning_rate: 1e-5..1e-3 log}}"
    return parse_spec(text, place="study.yaml", folder=folder)


@pytest.mark.parametrize("model", ["study:pretrain", "study:words.v2", "random:bert-tiny", "random:whisper-small"])
def test_a_winner_and_random_weights_are_models(model: str, tmp_path: Path) -> None:
    spec = _spec(tmp_path, model)
    assert spec.objective.model == model
    assert spec_from_resolved(spec.resolved()) == spec


@pytest.mark.parametrize("written", ["config.json", "./shapes/config.json", "./shapes"])
def test_a_configuration_is_found_beside_the_spec(written: str, tmp_path: Path) -> None:
    file = tmp_path / written if written.endswith(".json") else tmp_path / written / "config.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text("{}")
    spec = _spec(tmp_path, f"random:{written}")
    assert spec.objective.model == f"random:{(tmp_path / written).resolve()}"
    assert spec_from_resolved(spec.resolved()) == spec


@pytest.mark.parametrize(
    ("model", "match"),
    [
        ("study:", "names no study"),
        ("study:../elsewhere", "names no study"),
        ("random:", "is no shape of a model"),
        ("random:Bert", "Write random:bert-tiny"),
        ("random:./nothing.json", "names a configuration that does not exist"),
    ],
)
def test_a_reference_that_can_name_no_model_is_refused_with_its_line(model: str, match: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidSpecError, match=f"study.yaml:2: objective.model=.*{match}"):
        _spec(tmp_path, model)
