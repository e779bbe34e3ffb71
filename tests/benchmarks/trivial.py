"""What each task scores without learning: the answer that training rows' frequencies, or no rows at all, suggest."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from objectives.data.preparation import PreparedData
from objectives.finetune.answers import exact_match, token_f1
from objectives.finetune.entities import OUTSIDE
from objectives.finetune.scores import confusion_matrix, scores
from objectives.finetune.text_scores import (
    transcription_counts,
    transcription_scores,
    translation_counts,
    translation_scores,
)
from objectives.tasks.multi_label_classification import MultiLabel
from objectives.tasks.text_regression import Regression
from objectives.tasks.token_classification import Examination

Scores = Mapping[str, float]
Answer = tuple[str, Callable[[str], Scores]]
"""A name, and the metrics that it has on a split."""


def trivial_answer(task: str, data: PreparedData, metric: str, direction: str) -> Answer:
    """The best of a task's trivial answers, by the training rows."""
    sign = 1 if direction == "maximize" else -1
    return max(ANSWERS[task](data), key=lambda answer: sign * answer[1]("train")[metric])


def _column(data: PreparedData, split: str, part: str) -> list[Any]:
    return [record[part] for record in data.records(split)]


def _most_frequent(values: Iterable[Any]) -> Any:
    return Counter(values).most_common(1)[0][0]


def _class(data: PreparedData) -> Iterable[Answer]:
    number = {label: i for i, label in enumerate(data.labels)}
    usual = number[_most_frequent(_column(data, "train", "label"))]

    def scored(split: str) -> Scores:
        right = np.array([number[label] for label in _column(data, split, "label")])
        return scores(confusion_matrix(right, np.full_like(right, usual), len(number)))

    yield "most frequent class", scored


def _labels(data: PreparedData) -> Iterable[Answer]:
    frequency = Counter(label for labels in _column(data, "train", "label") for label in labels)

    def scored(split: str, given: Sequence[str]) -> Scores:
        rows = _column(data, split, "label")
        truth = {f"label_{i}": [label in row for row in rows] for i, label in enumerate(data.labels)}
        guess = {f"prediction_{i}": [label in given] * len(rows) for i, label in enumerate(data.labels)}
        return MultiLabel().metrics({**truth, **guess, "loss": [0.0]})

    for count in range(1, len(frequency) + 1):
        given = [label for label, _ in frequency.most_common(count)]
        yield f"the {count} most frequent", lambda split, given=given: scored(split, given)


def _mean(data: PreparedData) -> Iterable[Answer]:
    def scored(split: str) -> Scores:
        right = np.array(_column(data, split, "score"))
        spread = [data.meta["spread"]]
        given = np.full_like(right, data.meta["mean"])
        return Regression().metrics({"label_score": right, "prediction_score": given, "spread": spread})

    yield "mean", scored


def _tags(data: PreparedData) -> Iterable[Answer]:
    tags_of: dict[str, Counter[str]] = defaultdict(Counter)
    for record in data.records("train"):
        for word, tag in zip(record["tokens"], record["tags"], strict=True):
            tags_of[word][tag] += 1
    usual = {word: tags.most_common(1)[0][0] for word, tags in tags_of.items()}

    def scored(split: str) -> Scores:
        right = _column(data, split, "tags")
        given = [[usual.get(word, OUTSIDE) for word in words] for words in _column(data, split, "tokens")]
        nothing = np.zeros(len(right))
        return Examination(right=right, given=given, sums={"losses": nothing, "targets": nothing}).metrics

    yield "most frequent tag of each word", scored


def _first_sentence(context: str) -> str:
    return re.split(r"(?<=[.!?])\s", context, maxsplit=1)[0]


def _longest_name(context: str) -> str:
    names: list[str] = re.findall(r"[A-Z][\w-]*(?:\s[A-Z][\w-]*)*", context)
    return max(names, key=len, default="")


def _spans(data: PreparedData) -> Iterable[Answer]:
    def scored(split: str, answer: Callable[[str], str]) -> Scores:
        pairs = [(answer(record["context"]), record["answers"]["text"]) for record in data.records(split)]
        return {
            "f1": float(np.mean([token_f1(*pair) for pair in pairs])),
            "exact_match": float(np.mean([exact_match(*pair) for pair in pairs])),
        }

    for name, answer in (("first sentence", _first_sentence), ("longest name", _longest_name)):
        yield name, lambda split, answer=answer: scored(split, answer)


def _unigrams(data: PreparedData, *, with_separators: bool) -> Iterable[Answer]:
    def asked(split: str) -> Any:
        ids = data.rows(split).ids
        return ids[1:] if with_separators else ids[ids != ids[0]]

    counts = np.bincount(asked("train"), minlength=data.meta["vocabulary"]) + 0.5
    likelihood = np.log(counts / counts.sum())

    def scored(split: str) -> Scores:
        ids = asked(split)
        loss = -float(likelihood[ids].mean())
        return {"loss": loss, "perplexity": math.exp(loss), "accuracy": float(np.mean(ids == counts.argmax()))}

    yield "frequencies of tokens", scored


def _translations(data: PreparedData) -> Iterable[Answer]:
    usual = _most_frequent(_column(data, "train", "target"))

    def scored(split: str, *, copies: bool) -> Scores:
        right = _column(data, split, "target")
        written = _column(data, split, "text") if copies else [usual] * len(right)
        return translation_scores(translation_counts(written, right, "en"))

    yield "copy of the source", lambda split: scored(split, copies=True)
    yield "most frequent translation", lambda split: scored(split, copies=False)


def _transcripts(data: PreparedData) -> Iterable[Answer]:
    usual = _most_frequent(_column(data, "train", "text"))

    def scored(split: str) -> Scores:
        right = _column(data, split, "text")
        return transcription_scores(transcription_counts([usual] * len(right), right))

    yield "most frequent transcript", scored


ANSWERS: Mapping[str, Callable[[PreparedData], Iterable[Answer]]] = {
    "causal-language-modeling": partial(_unigrams, with_separators=True),
    "masked-language-modeling": partial(_unigrams, with_separators=False),
    "multi-label-classification": _labels,
    "question-answering": _spans,
    "speech-recognition": _transcripts,
    "text-classification": _class,
    "text-regression": _mean,
    "token-classification": _tags,
    "translation": _translations,
}
"""By task, one or more answers."""
