"""The tasks of language and speech: each learns, resumes to the bit, weighs what it counts, and says what it needs."""

from __future__ import annotations

import dataclasses
import json
import math
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from objectives.data.preparation import PreparedData
from objectives.finetune.objective import FineTuning
from objectives.finetune.scratch import random_config
from objectives.finetune.text_scores import (
    transcription_counts,
    transcription_scores,
    translation_counts,
    translation_scores,
)
from objectives.loading import load_objective
from objectives.testing import tiny_model
from sweep.domain import Report, TrainRequest
from sweep.errors import InvalidDataError, ModelError
from sweep.ports import PredictingObjective
from sweep.selection.predictions import check_columns, numbers
from sweep.testing.objective import CHECKS, ObjectiveUnderTest
from tests.language_tasks import LESSONS, Kind, Lesson

MORE = ("causal", "translation", "decoder")
CLOCKED = {"examples_per_second", "system/cpu_seconds", "system/rss_megabytes"}
FILES = ("model/model.safetensors", "state/optimizer.safetensors", "state/state.safetensors")


@dataclasses.dataclass(frozen=True)
class Taught:
    """A lesson with its prepared data and one whole training."""

    kind: Kind
    lesson: Lesson
    objective: FineTuning
    prepared: str
    reports: list[Report]

    def request(self, name: str, **changes: Any) -> TrainRequest:
        return self.lesson.request(self.prepared, name, **changes)

    @property
    def model(self) -> Path:
        return Path(str(self.reports[-1].checkpoint)) / "model"

    @property
    def settings(self) -> Mapping[str, Any]:
        return self.lesson.spec.settings({})


@pytest.fixture(scope="module", params=list(LESSONS))
def taught(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Taught:
    kind = LESSONS[request.param]
    lesson = kind.written(tmp_path_factory.mktemp(request.param))
    objective = load_objective(kind.task)
    assert isinstance(objective, FineTuning)
    prepared = str(objective.prepare(lesson.settings, lesson.folder / "prepared")["folder"])
    return Taught(kind, lesson, objective, prepared, list(objective.train(lesson.request(prepared, "whole"))))


def _steady(report: Report) -> dict[str, float]:
    return {name: value for name, value in report.metrics.items() if name not in CLOCKED}


def _tensors(report: Report) -> dict[str, torch.Tensor]:
    folder = Path(str(report.checkpoint))
    return {f"{name}/{key}": value for name in FILES for key, value in load_file(folder / name).items()}


def _best_constant(taught: Taught) -> float:
    """The metric of whoever knows the training rows' frequencies alone."""
    data = PreparedData.open(Path(taught.prepared))
    if "language-modeling" in taught.kind.task:
        counts = np.bincount(data.rows("train").ids[1:], minlength=data.meta["vocabulary"]) + 0.5
        return float(math.exp(-np.log(counts / counts.sum())[data.rows("validation").ids[1:]].mean()))
    part = "target" if taught.kind.task == "translation" else "text"
    right = [record[part] for record in data.records("validation")]
    usual = [Counter(record[part] for record in data.records("train")).most_common(1)[0][0]] * len(right)
    if part == "target":
        return translation_scores(translation_counts(usual, right, "zh"))[taught.kind.metric]
    return transcription_scores(transcription_counts(usual, right))[taught.kind.metric]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", ["masked", "ctc", *(pytest.param(name, marks=pytest.mark.slow) for name in MORE)])
def test_it_keeps_the_promises_of_an_objective(
    name: str, check: Callable[[ObjectiveUnderTest], None], tmp_path: Path
) -> None:
    kind = LESSONS[name]
    spec = kind.written(tmp_path, steps=3, evaluate_every=1, learning_rate=1e-3).spec
    diverging = {"learning_rate": 1e30, "gradient_clipping": None}
    check(ObjectiveUnderTest(create=lambda: load_objective(kind.task), spec=spec, diverging=diverging))


def test_it_learns_what_neither_an_untrained_model_nor_a_constant_answer_knows(taught: Taught) -> None:
    first, last = (report.metrics[taught.kind.metric] for report in (taught.reports[0], taught.reports[-1]))
    constant = _best_constant(taught)
    if taught.kind.direction == "maximize":
        assert last > taught.kind.needs > 1.5 * max(first, constant)
    else:
        assert last < taught.kind.needs < 0.7 * min(first, constant)
    assert taught.reports[-1].metrics["loss"] < taught.reports[0].metrics["loss"] / 1.5


def test_resumed_training_is_bit_identical(taught: Taught) -> None:
    steps = 6
    whole = list(taught.objective.train(taught.request("six", steps=steps)))
    broken = taught.objective.train(taught.request("broken", steps=steps))
    before = [next(broken), next(broken)]
    broken.close()
    torch.rand(17)
    np.random.default_rng(1).random(3)
    request = taught.request("broken", steps=steps)
    start = dataclasses.replace(request.assignment, attempt=2, start_from=before[-1].checkpoint)
    after = list(taught.objective.train(dataclasses.replace(request, assignment=start)))
    assert [_steady(report) for report in after] == [_steady(report) for report in whole[1:]]
    one, other = _tensors(after[-1]), _tensors(whole[-1])
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_step_weighs_each_target_alike_however_its_rows_are_cut(taught: Taught, tmp_path: Path) -> None:
    config = random_config(taught.lesson.settings["model"])
    for name in [name for name in config.to_dict() if "drop" in name]:
        setattr(config, name, 0.0)
    config.save_pretrained(tmp_path)
    found = []
    for parts in (1, 3):
        request = taught.request(f"in-{parts}", steps=1, batch_size=64)
        request = dataclasses.replace(request, model=f"random:{tmp_path}", micro_batch_split=parts)
        report = next(iter(taught.objective.train(request)))
        found.append((report.metrics["train_loss"], _tensors(report)))
    (loss, whole), (cut_loss, cut) = found
    # The frames at the end of a recording hear the padding of their batch.
    assert loss == pytest.approx(cut_loss, rel=1e-3 if taught.kind.shape == "wav2vec2" else 1e-6)
    moments = [name for name in whole if name.endswith(".exp_avg")]
    assert moments
    for name in moments:
        assert torch.allclose(whole[name], cut[name], rtol=2e-2, atol=1e-4 if taught.kind.shape == "wav2vec2" else 1e-6)


def test_a_saved_model_has_the_metrics_it_reported_in_batches_of_any_size(taught: Taught) -> None:
    reported = taught.reports[-1].metrics
    for size in (3, 64):
        settings = {**taught.settings, "evaluation_batch_size": size}
        found = taught.objective.evaluate(taught.model, Path(taught.prepared), "validation", settings)
        assert found == pytest.approx({name: reported[name] for name in found}, rel=1e-4, abs=1e-6)


def test_its_answers_have_the_metrics_of_the_whole_and_of_any_part(taught: Taught) -> None:
    assert isinstance(taught.objective, PredictingObjective)
    prepared, settings = Path(taught.prepared), taught.settings
    answers = taught.objective.predict(taught.model, prepared, "validation", settings)
    check_columns(answers)
    assert json.loads(json.dumps(answers)) == answers
    assert len(answers["row"]) == PreparedData.open(prepared).meta["rows"]["validation"]
    columns = numbers(answers)
    whole = taught.objective.evaluate(taught.model, prepared, "validation", settings)
    assert taught.objective.metrics(columns) == pytest.approx(whole)
    twice = {name: np.concatenate([column, column]) for name, column in columns.items()}
    assert taught.objective.metrics(twice) == pytest.approx(whole)


def test_prepared_data_is_another_with_another_vocabulary(taught: Taught) -> None:
    data = {**taught.lesson.settings["data"], "vocabulary_size": 290}
    other = taught.objective.prepare({**taught.lesson.settings, "data": data}, taught.lesson.folder / "prepared")
    assert other["folder"] != taught.prepared


def test_perplexity_is_over_the_same_tokens_however_they_are_cut(tmp_path: Path) -> None:
    lesson, objective = LESSONS["causal"].written(tmp_path), load_objective("causal-language-modeling")
    prepared = objective.prepare(lesson.settings, tmp_path / "prepared")["folder"]
    *_, last = objective.train(lesson.request(prepared, "short", steps=2))
    model = Path(str(last.checkpoint)) / "model"
    assert isinstance(objective, PredictingObjective)
    tokens = {}
    for packing in (True, False):
        for length in (8, 32):
            settings = {**lesson.settings["training"], "packing": packing, "max_length": length}
            answers = objective.predict(model, Path(prepared), "validation", settings)
            tokens[packing, length] = answers["tokens"]
            loss = sum(answers["losses"]) / sum(answers["tokens"])
            found = objective.evaluate(model, Path(prepared), "validation", settings)
            assert found["perplexity"] == pytest.approx(math.exp(loss))
    ids = PreparedData.open(Path(prepared)).rows("validation").ids
    assert {sum(counted) for counted in tokens.values()} == {len(ids) - 1}
    assert all(counted == tokens[True, 8] for counted in tokens.values())


def test_losses_are_those_of_plain_transformers_which_shifts_the_targets_itself(tmp_path: Path) -> None:
    lesson, objective = LESSONS["causal"].written(tmp_path), load_objective("causal-language-modeling")
    prepared = Path(objective.prepare(lesson.settings, tmp_path / "prepared")["folder"])
    *_, last = objective.train(lesson.request(str(prepared), "short", steps=20))
    folder = Path(str(last.checkpoint)) / "model"
    assert isinstance(objective, PredictingObjective)
    answers = objective.predict(folder, prepared, "validation", lesson.spec.settings({}))
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    compared = 0
    for row, record in enumerate(PreparedData.open(prepared).records("validation")):
        ids = [tokenizer.eos_token_id, *tokenizer(record["text"])["input_ids"], tokenizer.eos_token_id]
        if len(ids) <= 33:  # one block
            with torch.inference_mode():
                mean = model(input_ids=torch.tensor([ids]), labels=torch.tensor([ids])).loss
            assert answers["losses"][row] == pytest.approx(float(mean) * (len(ids) - 1), rel=1e-4)
            assert answers["tokens"][row] == len(ids) - 1
            compared += 1
    assert compared > 5


def test_masks_change_from_epoch_to_epoch_and_stay_in_evaluation(tmp_path: Path) -> None:
    from objectives.tasks import masked_language_modeling as task

    kind = LESSONS["masked"]
    lesson, objective = kind.written(tmp_path), load_objective(kind.task)
    prepared = Path(objective.prepare(lesson.settings, tmp_path / "prepared")["folder"])
    frame = objective._frame(prepared, {**lesson.settings["training"], "whole_word_masking": True}, seed=5)  # type: ignore[attr-defined]
    rows = task.MaskedLanguageModeling().examples(PreparedData.open(prepared).rows("train"), frame)
    batch = np.arange(8)

    def labels(epoch: int, seed: int = 5) -> list[list[int]]:
        changed = dataclasses.replace(frame, epoch=epoch, seed=seed)
        return [row.tolist() for _, row in task._hidden(rows, batch, changed, task._training(changed))]

    assert labels(0) == labels(0)
    assert labels(0) != labels(1)
    assert labels(0) != labels(0, seed=6)


def test_a_plain_text_is_read_by_its_paragraphs(tmp_path: Path) -> None:
    file = tmp_path / "corpus.txt"
    file.write_text("\n\n".join(f"{n} one two\nthree four" for n in range(40)) + "\n\n\n")
    lesson = LESSONS["causal"].written(tmp_path)
    settings = {**lesson.settings, "data": {**lesson.settings["data"], "train": (str(file),)}}
    found = load_objective("causal-language-modeling").prepare(settings, tmp_path / "prepared")
    assert sum(found["rows"].values()) == 40
    first = next(PreparedData.open(Path(found["folder"])).records("train"))
    assert first["text"].count("\n") == 1


def test_a_model_without_a_mask_is_refused_for_masked_language_modelling(tmp_path: Path) -> None:
    lesson = LESSONS["masked"].written(tmp_path)
    settings = {**lesson.settings, "model": str(tiny_model(tmp_path / "model"))}
    with pytest.raises(ModelError, match="lacks a mask"):
        load_objective("masked-language-modeling").prepare(settings, tmp_path / "prepared")


def test_a_recording_that_is_not_there_is_named_with_its_row(tmp_path: Path) -> None:
    lesson = LESSONS["ctc"].written(tmp_path)
    (tmp_path / "3.wav").unlink()
    with pytest.raises(InvalidDataError, match=r"train.jsonl: row 4: '3.wav' is no file. Paths are relative to the"):
        load_objective("speech-recognition").prepare(lesson.settings, tmp_path / "prepared")


def test_an_altered_recording_is_other_data(tmp_path: Path) -> None:
    lesson, objective = LESSONS["ctc"].written(tmp_path), load_objective("speech-recognition")
    before = objective.prepare(lesson.settings, tmp_path / "prepared")
    content = bytearray((tmp_path / "3.wav").read_bytes())
    content[-4:] = b"\x00\x10\x00\x10"
    (tmp_path / "3.wav").write_bytes(content)
    after = objective.prepare(lesson.settings, tmp_path / "prepared")
    assert before["data_hash"] != after["data_hash"]
    assert before["folder"] != after["folder"]


def test_a_recording_beyond_the_window_of_an_encoder_is_named(tmp_path: Path) -> None:
    lesson = LESSONS["decoder"].written(tmp_path)
    shape = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**shape, "max_source_positions": 50}))
    long = tmp_path / "0.wav"
    long.write_bytes(_silence(1.5))
    with pytest.raises(InvalidDataError, match=r"0.wav: 1.5 seconds are longer than the 1 seconds that this model"):
        load_objective("speech-recognition").prepare(lesson.settings, tmp_path / "prepared")


def _silence(seconds: float) -> bytes:
    import io
    import wave

    stream = io.BytesIO()
    with wave.open(stream, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(b"\0\0" * int(16_000 * seconds))
    return stream.getvalue()
