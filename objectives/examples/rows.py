"""Rows of each example's splits, made from published data; same files, same rows."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from objectives.bundled.tweets import tweets_file
from objectives.data.conll import read_conll
from objectives.data.corpus import paragraphs_in, text_blocks
from objectives.data.squad import read_squad
from objectives.examples.published import DIGITS, SHAKESPEARE, SNIPS, TATOEBA, WNUT17, XQUAD, Published

Splits = dict[str, list[dict[str, Any]]]
"""Rows by split; a split that is missing is drawn by the spec."""

_DIGIT_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_INTENT_ROWS = 250
_TEST_TAKES, _VALIDATION_TAKES = ("0",), ("1",)
_WORDS, _MOST_WORDS = 500, 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """What an example's rows are made of.

    Attributes:
        published: The data set; None for the bundled one, which is fetched by itself.
        make: Rows of its files.
    """

    published: Published | None
    make: Callable[[Sequence[Path]], Splits]


def _slots(files: Sequence[Path]) -> Splits:
    """Requests to a voice assistant, each with the kinds of details that it names."""
    found: Splits = {"train": [], "test": []}
    for file in files:
        raw = file.read_bytes()
        try:
            text = raw.decode()
        except UnicodeDecodeError:
            text = raw.decode("latin-1")
        ((_, requests),) = json.loads(text).items()
        is_train = file.name.startswith("train_")
        rows = [
            {
                "text": "".join(part["text"] for part in request["data"]).strip(),
                "label": sorted({part["entity"] for part in request["data"] if "entity" in part}),
            }
            for request in requests
        ]
        if is_train:
            rows = random.Random(file.name).sample(rows, _INTENT_ROWS)
        found["train" if is_train else "test"] += rows
    known = {row["text"] for row in found["test"]}
    found["train"] = [row for row in found["train"] if row["text"] not in known]
    return found


def _ratings(files: Sequence[Path]) -> Splits:
    """Tweets with the mean of their human ratings, from -4 to 4."""
    lines = (line.split("\t", 2) for line in tweets_file().read_text(encoding="utf-8").splitlines())
    return {"train": [{"text": text, "score": float(rating)} for _, rating, text in lines]}


def _entities(files: Sequence[Path]) -> Splits:
    """Sentences with emerging entities, in the publishers' own splits."""
    found: Splits = {}
    for file in files:
        split = {"emerging.dev.conll": "validation", "emerging.test.annotated": "test"}.get(file.name, "train")
        columns = read_conll(file, file.read_text(encoding="utf-8"))
        found[split] = [
            {"tokens": tokens, "tags": tags} for tokens, tags in zip(columns["tokens"], columns["tags"], strict=True)
        ]
    return found


def _questions(files: Sequence[Path]) -> Splits:
    """Questions on paragraphs; every article is in one split alone."""
    (file,) = files
    articles = json.loads(file.read_text(encoding="utf-8"))["data"]
    found: Splits = {"train": [], "validation": [], "test": []}
    for number, article in enumerate(articles):
        columns = read_squad(file, json.dumps({"data": [article]})) or {}
        split = {5: "validation", 6: "test"}.get(number % 7, "train")
        found[split] += [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return found


def _speeches(files: Sequence[Path]) -> Splits:
    """The speeches of plays, in their order: nine tenths to train, the rest for validation and test."""
    (file,) = files
    rows = [{"text": text} for text in paragraphs_in(text_blocks(file))]
    first, second = len(rows) * 90 // 100, len(rows) * 95 // 100
    return {"train": rows[:first], "validation": rows[first:second], "test": rows[second:]}


def _sentences(files: Sequence[Path]) -> Splits:
    """Short sentences of frequent words in English and Chinese; no sentence, of either language, comes twice."""
    (file,) = files
    pairs = [line.split("\t")[:2] for line in file.read_text(encoding="utf-8").splitlines()]
    frequency = Counter(word for english, _ in pairs for word in _words(english))
    frequent = {word for word, _ in frequency.most_common(_WORDS)}
    rows, seen = [], set[str]()
    for english, chinese in pairs:
        words = _words(english)
        if len(words) <= _MOST_WORDS and frequent.issuperset(words) and not {english, chinese} & seen:
            seen |= {english, chinese}
            rows.append({"english": english, "chinese": chinese})
    return {"train": rows}


def _words(text: str) -> list[str]:
    return "".join(c if c.isalpha() or c == "'" else " " for c in text.lower()).split()


def _digits(files: Sequence[Path]) -> Splits:
    """Recordings of spoken digits, each speaker in every split, by the number of the take."""
    found: Splits = {"train": [], "validation": [], "test": []}
    for file in files:
        digit, _, take = file.stem.split("_")
        split = "test" if take in _TEST_TAKES else "validation" if take in _VALIDATION_TAKES else "train"
        found[split].append({"audio": str(file.absolute()), "text": _DIGIT_NAMES[int(digit)]})
    return found


EXAMPLES: Mapping[str, Example] = {
    "causal-language-modeling": Example(published=SHAKESPEARE, make=_speeches),
    "masked-language-modeling": Example(published=SHAKESPEARE, make=_speeches),
    "multi-label-classification": Example(published=SNIPS, make=_slots),
    "question-answering": Example(published=XQUAD, make=_questions),
    "speech-recognition": Example(published=DIGITS, make=_digits),
    "text-regression": Example(published=None, make=_ratings),
    "token-classification": Example(published=WNUT17, make=_entities),
    "translation": Example(published=TATOEBA, make=_sentences),
}
"""By task; the example of text classification is the study that ``sweep run`` brings along."""
