"""Token classification: a class for each word, such as the entity it belongs to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForTokenClassification

from objectives.data.batching import Indices, Ragged, TokenRows, sorted_batches, stacked
from objectives.data.conll import read_conll
from objectives.data.files import Columns as Cells
from objectives.data.labels import check_several, label_cell
from objectives.data.rows import Rows, clean_rows, shortened, shown, text_cell
from objectives.data.task import Encoded
from objectives.data.tokens import encodings
from objectives.finetune.artifacts import write_scores
from objectives.finetune.classification import name_labels
from objectives.finetune.entities import OUTSIDE, entities, entity_counts, entity_scores
from objectives.finetune.models import Head
from objectives.finetune.objective import FineTuning
from objectives.finetune.prediction import logits_of
from objectives.finetune.report import DataReport, Fact, Studied, length_report
from objectives.finetune.task import Frame, Task
from sweep.errors import InvalidDataError
from sweep.ports import Columns

METRICS = {
    "entity_f1": "maximize",
    "entity_precision": "maximize",
    "entity_recall": "maximize",
    "token_accuracy": "maximize",
    "loss": "minimize",
}
COLUMNS = {"tokens": "tokens", "tags": "tags"}
EXTENSIONS = [".conll", ".annotated"]
UNUSED = ["augment_delete", "augment_swap", "augment_mask"]
EXAMPLE = {"tokens": ["anna", "is", "in", "rome"], "tags": ["B-PER", "O", "O", "B-LOC"]}

_IGNORED = -100


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """What a model did on a split.

    Attributes:
        right: Right tags of the words of each row.
        given: Those that the model gives; outside of everything beyond the model's length.
        sums: Losses and targets of each row, each ``[rows]``.
    """

    right: Sequence[Sequence[str]]
    given: Sequence[Sequence[str]]
    sums: Mapping[str, np.ndarray[Any, Any]]

    @property
    def metrics(self) -> dict[str, float]:
        """Scores of entities and words, and loss."""
        return entity_scores(self._numbers)

    @property
    def _numbers(self) -> dict[str, list[float]]:
        pairs = [
            (set(entities(right)), set(entities(given))) for right, given in zip(self.right, self.given, strict=True)
        ]
        return {
            "hits": [float(len(right & given)) for right, given in pairs],
            "given": [float(len(given)) for _, given in pairs],
            "label_entities": [float(len(right)) for right, _ in pairs],
            "right_words": [
                float(sum(a == b for a, b in zip(right, given, strict=True)))
                for right, given in zip(self.right, self.given, strict=False)
            ],
            "label_words": [float(len(right)) for right in self.right],
            **{name: values.tolist() for name, values in self.sums.items()},
        }

    def answers(self, records: Iterable[Mapping[str, Any]]) -> Columns:
        """Entities of each row; its score is the F1 of the two sets, 1 where both are empty."""
        words = [record["tokens"] for record in records]
        numbers = self._numbers
        both = list(zip(numbers["hits"], numbers["given"], numbers["label_entities"], strict=True))
        return {
            "row": list(range(len(words))),
            "text": [shortened(" ".join(row)) for row in words],
            "label": [_told(row, tags) for row, tags in zip(words, self.right, strict=True)],
            "prediction": [_told(row, tags) for row, tags in zip(words, self.given, strict=True)],
            "probability": [None] * len(words),
            "score": [2 * hits / (given + right) if given + right else 1.0 for hits, given, right in both],
            **numbers,
        }

    def show(self, folder: Path) -> None:
        """Write the scores of each type of entity."""
        counts = entity_counts(
            (entities(right), entities(given)) for right, given in zip(self.right, self.given, strict=True)
        )
        kinds = sorted(counts.right.keys() | counts.given.keys())
        found = [[each[kind] for kind in kinds] for each in (counts.hits, counts.given, counts.right)]
        write_scores(folder, kinds, *found)


class Tagging(Task):
    """The tags of a sentence's words."""

    columns = COLUMNS
    answer_columns = ("tags",)
    formats = dict.fromkeys(EXTENSIONS, read_conll)

    def clean(self, columns: Cells, origin: str) -> Rows:
        """Lists of words and of tags; a text is split at blanks."""
        split = {part: [c.split() if isinstance(c, str) else c for c in cells] for part, cells in columns.items()}
        for number, (tokens, tags) in enumerate(zip(split["tokens"], split["tags"], strict=True), start=1):
            if isinstance(tokens, list) and isinstance(tags, list) and len(tokens) != len(tags):
                raise InvalidDataError(
                    f"{origin}: row {number}: {len(tokens)} words have {len(tags)} tags. Give each word one."
                )
        return clean_rows(split, origin, {"tokens": _words, "tags": _tags})

    def describe(self, splits: Mapping[str, Rows]) -> dict[str, Any]:
        """Names of the tags, and how many words have each."""
        names = sorted({tag for tags in splits["train"]["tags"] for tag in tags}, key=lambda tag: (tag != OUTSIDE, tag))
        if len(names) < 2:
            raise InvalidDataError(
                f"{splits['train'].origin}: all words have the one tag {shown(names[0])}; nothing can be learnt. "
                "Check `data.tags`."
            )
        check_several({s: Rows(columns={"label": r["tags"]}, origin=r.origin) for s, r in splits.items()}, names)
        counts = {split: Counter(tag for tags in rows["tags"] for tag in tags) for split, rows in splits.items()}
        return {"labels": names, "classes": {split: {n: c[n] for n in names} for split, c in counts.items()}}

    def encode(self, rows: Rows, tokenizer: Any, max_length: int, known: Mapping[str, Any]) -> Encoded:
        """Token ids; the first token of a word has its tag, the others have none."""
        number = {label: i for i, label in enumerate(known["labels"])}
        starts = [np.cumsum([0, *(len(word) + 1 for word in words)]) for words in rows["tokens"]]
        texts = [" ".join(words) for words in rows["tokens"]]
        ids: list[list[int]] = []
        labels, words = [], []
        for chunk in encodings(tokenizer, max_length, texts, return_attention_mask=False, return_offsets_mapping=True):
            for tokens, offsets in zip(chunk["input_ids"], chunk["offset_mapping"], strict=True):
                tags = rows["tags"][len(ids)]
                firsts = _first_of_words(np.array(offsets), starts[len(ids)])
                ids.append(tokens)
                words.append(firsts)
                labels.append([_IGNORED if word < 0 else number[tags[word]] for word in firsts])
        return Encoded(
            ids=ids,
            labels=Ragged.of(labels, np.int64),
            others={
                "words": Ragged.of(words, np.int32),
                "tags": Ragged.of([[number[tag] for tag in tags] for tags in rows["tags"]], np.int32),
            },
        )

    def head(self, known: Mapping[str, Any]) -> Head:
        """Logits of the tags for each token."""
        return Head(
            part="token classifier",
            auto=AutoModelForTokenClassification,
            configure=lambda config: name_labels(config, known),
        )

    def weight(self, rows: TokenRows, batch: Indices, frame: Frame) -> float:
        """Words that have a token."""
        return float(sum((labels != _IGNORED).sum() for labels in _cut(rows, rows.labels, batch, frame)))

    def loss(self, model: Any, rows: TokenRows, batch: Indices, frame: Frame) -> torch.Tensor:
        """Cross-entropy of the words' tags, with label smoothing."""
        logits = logits_of(model, rows, batch, frame.max_length, frame.data.pad_id, frame.device).float()
        targets = torch.from_numpy(stacked(_cut(rows, rows.labels, batch, frame), _IGNORED)).to(frame.device)
        if not (targets != _IGNORED).any():
            return logits.sum() * 0.0
        smoothing = float(frame.settings["label_smoothing"])
        return torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), targets.flatten(), ignore_index=_IGNORED, label_smoothing=smoothing
        )

    def examine(
        self, model: Any, rows: TokenRows, frame: Frame, alive: Callable[[], None] | None = None
    ) -> Examination:
        """Tags of the words."""
        model.eval()
        names, tags = frame.data.labels, _ragged(rows.others["tags"])
        right = [[names[tag] for tag in tags[row]] for row in range(len(rows))]
        given = [[OUTSIDE] * len(row) for row in right]
        sums = {name: np.zeros(len(rows)) for name in ("losses", "targets")}
        with torch.inference_mode():
            for batch in sorted_batches(rows.lengths(frame.max_length), frame.batch_size):
                logits = logits_of(model, rows, batch, frame.max_length, frame.data.pad_id, frame.device).double()
                targets = torch.from_numpy(stacked(_cut(rows, rows.labels, batch, frame), _IGNORED)).to(frame.device)
                lost = torch.nn.functional.cross_entropy(
                    logits.transpose(1, 2), targets, ignore_index=_IGNORED, reduction="none"
                )
                sums["losses"][batch] = lost.sum(1).cpu().numpy()
                sums["targets"][batch] = (targets != _IGNORED).sum(1).cpu().numpy()
                best = logits.argmax(-1).cpu().numpy()
                for line, (row, words) in enumerate(
                    zip(batch, _cut(rows, rows.others["words"], batch, frame), strict=True)
                ):
                    for place in np.flatnonzero(words >= 0):
                        given[int(row)][words[place]] = names[best[line, place]]
                if alive is not None:
                    alive()
        return Examination(right=right, given=given, sums=sums)

    def metrics(self, rows: Mapping[str, Any]) -> Mapping[str, float]:
        """Scores of entities and words, and loss, of any choice of rows."""
        return entity_scores(rows)

    def report(self, study: Studied) -> DataReport:
        """Entities of each type, words, the words that no model of this length sees, and lengths."""
        rows = {split: study.rows(split) for split in study.splits}
        names = study.frame.data.labels
        found = {
            split: Counter(
                kind for tags in _ragged_rows(rows[split], "tags") for kind, *_ in entities([names[i] for i in tags])
            )
            for split in rows
        }
        words = {split: sum(map(len, _ragged_rows(rows[split], "tags"))) for split in rows}
        seen = {split: _words_seen(rows[split], study.frame) for split in rows}
        entities_of = {split: max(1, found[split].total()) for split in rows}
        facts = [
            Fact(what=f"entities, {kind}", values={s: found[s][kind] / entities_of[s] for s in rows}, kind="share")
            for kind, _ in found["train"].most_common()
        ]
        facts += [
            study.fact("entities a row, mean", lambda split: found[split].total() / len(rows[split]), "number"),
            study.fact("words a row, mean", lambda split: words[split] / len(rows[split]), "number"),
            study.fact("words beyond max_length", lambda split: 1 - seen[split] / words[split], "share"),
        ]
        return DataReport(tuple(facts)) + length_report(study, lambda row: " ".join(row["tokens"]))


def _ragged_rows(rows: TokenRows, name: str) -> list[np.ndarray[Any, Any]]:
    values = _ragged(rows.others[name])
    return [values[row] for row in range(len(values))]


def _words_seen(rows: TokenRows, frame: Frame) -> int:
    return sum(int((words >= 0).sum()) for words in _cut(rows, rows.others["words"], np.arange(len(rows)), frame))


def _first_of_words(offsets: np.ndarray[Any, Any], starts: np.ndarray[Any, Any]) -> list[int]:
    """The word that each token begins, or -1.

    Args:
        offsets: Characters of each token, ``[tokens, 2]``; empty for special tokens.
        starts: Where each word begins, and one more, ``[words + 1]``.
    """
    # By a token's last character: some tokenizers count the blank before a word to its first token.
    words = np.searchsorted(starts, offsets[:, 1] - 1, side="right") - 1
    words[offsets[:, 0] == offsets[:, 1]] = -1
    begins = np.concatenate([[True], words[1:] != words[:-1]])
    return [int(word) for word in np.where(begins, words, -1)]


def _words(cell: Any, place: str, part: str) -> list[str]:
    return [text_cell(word, place, part) for word in _list(cell, place, part)]


def _tags(cell: Any, place: str, part: str) -> list[str]:
    return [label_cell(tag, place, part) for tag in _list(cell, place, part)]


def _list(cell: Any, place: str, part: str) -> list[Any]:
    if isinstance(cell, list | tuple):
        return list(cell)
    raise InvalidDataError(
        f"{place}: the {part} are {shown(cell)}, of type {type(cell).__name__}. Give a list, or words parted by "
        f"blanks: check `data.{part}`."
    )


def _ragged(values: Any) -> Ragged:
    found: Ragged = values
    return found


def _cut(rows: TokenRows, values: Any, batch: Indices, frame: Frame) -> list[np.ndarray[Any, Any]]:
    """Values of a batch's tokens, truncated like these."""
    return [rows.cut(values[int(i)], frame.max_length) for i in batch]


def _told(words: Sequence[str], tags: Sequence[str]) -> str:
    found = entities(tags)
    return shortened("; ".join(f"{kind}: {' '.join(words[first : last + 1])}" for kind, first, last in found))


class TokenClassification(FineTuning):
    """The objective."""

    def __init__(self) -> None:
        super().__init__(Tagging())


OBJECTIVE = TokenClassification
