"""Small lessons for the tasks of language and speech: generated rows, shapes of models that learn them in seconds."""

from __future__ import annotations

import json
import wave
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from objectives.testing import tiny_file
from sweep.domain import Assignment, TrainRequest
from sweep.spec import parse_spec
from sweep.spec.model import StudySpec

_COMMON = {"batch_size": 8, "evaluation_batch_size": 16}

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
CHINESE = dict(zip(NUMBERS, "零一二三四五六七八九", strict=True))
TONES = {"low": 300.0, "middle": 900.0, "high": 2700.0}
RATE = 8_000

SHAPES: Mapping[str, Mapping[str, Any]] = {
    "gpt2": {"model_type": "gpt2", "n_embd": 64, "n_layer": 1, "n_head": 2, "n_positions": 64, "resid_pdrop": 0.1},
    "bert": {
        "model_type": "bert",
        "hidden_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 128,
        "max_position_embeddings": 64,
        "initializer_range": 0.1,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    },
    "t5": {
        "model_type": "t5",
        "d_model": 64,
        "d_kv": 32,
        "d_ff": 128,
        "num_layers": 1,
        "num_heads": 2,
        "feed_forward_proj": "relu",
        "dropout_rate": 0.05,
    },
    "wav2vec2": {
        "model_type": "wav2vec2",
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "conv_dim": [16, 32, 32],
        "conv_stride": [16, 5, 4],
        "conv_kernel": [32, 9, 8],
        "num_feat_extract_layers": 3,
        "num_conv_pos_embeddings": 15,
        "num_conv_pos_embedding_groups": 4,
        "feat_extract_norm": "layer",
        "do_stable_layer_norm": True,
        "layerdrop": 0.0,
    },
    "whisper": {
        "model_type": "whisper",
        "d_model": 32,
        "encoder_layers": 1,
        "decoder_layers": 1,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "encoder_ffn_dim": 64,
        "decoder_ffn_dim": 64,
        "max_target_positions": 16,
        "max_source_positions": 50,
        "num_mel_bins": 20,
        "dropout": 0.1,
    },
}


def counting(rows: int) -> list[dict[str, str]]:
    """Documents that count: each word follows from the one before it."""
    generator = np.random.default_rng(0)
    starts, lengths = generator.integers(0, 10, rows), generator.integers(4, 24, rows)
    return [
        {"text": " ".join(NUMBERS[(start + i) % 10] for i in range(length))}
        for start, length in zip(starts, lengths, strict=True)
    ]


def repeating(rows: int) -> list[dict[str, str]]:
    """Documents that say one word again and again: what is hidden stands beside."""
    generator = np.random.default_rng(0)
    lengths = generator.integers(4, 24, rows)
    return [{"text": " ".join([NUMBERS[number % 10]] * length)} for number, length in enumerate(lengths)]


def translations(rows: int) -> list[dict[str, str]]:
    """One or two numbers in English and in Chinese."""
    generator = np.random.default_rng(0)
    chosen = [[NUMBERS[i] for i in generator.integers(0, 10, generator.integers(1, 3))] for _ in range(rows)]
    return [{"text": " ".join(words), "target": "".join(CHINESE[word] for word in words)} for words in chosen]


def recordings(folder: Path, rows: int) -> list[dict[str, str]]:
    """One or two tones with noise, as WAV files beside the table, and their names."""
    generator = np.random.default_rng(0)
    found = []
    for number in range(rows):
        words = [list(TONES)[i] for i in generator.integers(0, 3, generator.integers(1, 3))]
        seconds = np.arange(int(0.25 * RATE)) / RATE
        sound = np.concatenate([np.sin(2 * np.pi * TONES[word] * seconds) for word in words])
        sound = 0.4 * sound + 0.02 * generator.standard_normal(len(sound))
        with wave.open(str(folder / f"{number}.wav"), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(RATE)
            file.writeframes((sound * 32767).astype("<i2").tobytes())
        found.append({"audio": f"{number}.wav", "text": " ".join(words)})
    return found


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """A task with its data and model.

    Attributes:
        spec: A study of it.
        folder: Where all of it lies.
    """

    spec: StudySpec
    folder: Path

    @property
    def settings(self) -> dict[str, Any]:
        """For ``prepare``."""
        return self.spec.objective_settings()

    def request(self, prepared: str, name: str, **changes: Any) -> TrainRequest:
        """A trial on prepared data, with settings of its own."""
        training = {**self.spec.settings({}), **changes}
        return TrainRequest(
            assignment=Assignment(trial_number=0, attempt=1, hyperparameters={}, seed=1),
            prepared=prepared,
            model=self.settings["model"],
            settings=training,
            metric=self.spec.rule,
            evaluate_at=sorted({1, training["steps"] // 2, training["steps"]}),
            fidelity_unit="steps",
            checkpoints=str(self.folder / f"checkpoints-{name}"),
            artifacts=str(self.folder / f"artifacts-{name}"),
        )


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A lesson that is not written out yet.

    Attributes:
        rows: How many.
        needs: The metric's value that only a model that has learnt reaches.
    """

    task: str
    shape: str
    metric: str
    direction: str
    needs: float
    rows: int
    training: Mapping[str, Any] = field(default_factory=dict)

    def written(self, folder: Path, **changes: Any) -> Lesson:
        """The lesson, its files in a folder, with some training settings changed."""
        rows: Iterable[Mapping[str, str]]
        match self.task:
            case "speech-recognition":
                rows = recordings(folder, self.rows)
            case "translation":
                rows = translations(self.rows)
            case "masked-language-modeling":
                rows = repeating(self.rows)
            case _:
                rows = counting(self.rows)
        (folder / "config.json").write_text(json.dumps(SHAPES[self.shape]))
        tiny_file(folder / "train.jsonl", list(rows))
        values = {
            "study": self.shape,
            "objective": {
                "task": self.task,
                "model": "random:config.json",
                "data": {
                    "train": "train.jsonl",
                    "validation_fraction": 0.15,
                    "test_fraction": 0.1,
                    "vocabulary_size": 300,
                },
                "training": {
                    "weight_decay": 0.0,
                    **({} if self.task == "speech-recognition" else {"max_length": 32}),
                    "precision": "fp32",
                    **_COMMON,
                    **self.training,
                    **changes,
                },
            },
            "search": {"learning_rate": "1e-3..1e-1 log"},
            "metric": {"name": self.metric, "direction": self.direction},
        }
        spec = parse_spec(yaml.safe_dump(values), place="study.yaml", folder=folder)
        return Lesson(spec=spec, folder=folder)


LESSONS: Mapping[str, Kind] = {
    "causal": Kind(
        task="causal-language-modeling",
        shape="gpt2",
        metric="perplexity",
        direction="minimize",
        needs=2.0,
        rows=200,
        training={"steps": 60, "learning_rate": 1e-2, "packing": False},
    ),
    "masked": Kind(
        task="masked-language-modeling",
        shape="bert",
        metric="perplexity",
        direction="minimize",
        needs=5.0,
        rows=200,
        training={"steps": 80, "learning_rate": 1e-2, "batch_size": 16, "packing": False},
    ),
    "translation": Kind(
        task="translation",
        shape="t5",
        metric="chrf",
        direction="maximize",
        needs=50.0,
        rows=300,
        training={
            "steps": 200,
            "learning_rate": 1e-2,
            "max_new_tokens": 8,
            "target_language": "zh",
            "batch_size": 16,
            "schedule": "constant",
        },
    ),
    "ctc": Kind(
        task="speech-recognition",
        shape="wav2vec2",
        metric="cer",
        direction="minimize",
        needs=0.3,
        rows=120,
        training={"steps": 150, "learning_rate": 1e-2, "batch_size": 8},
    ),
    "decoder": Kind(
        task="speech-recognition",
        shape="whisper",
        metric="wer",
        direction="minimize",
        needs=0.4,
        rows=120,
        training={"steps": 300, "learning_rate": 5e-3, "batch_size": 8, "max_new_tokens": 8},
    ),
}
