"""Extractive question answering: a question and a paragraph in, the part of the paragraph that answers it out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers import AutoModelForQuestionAnswering

from objectives.data.batching import Indices, Ragged, TokenRows, padded, sorted_batches, stacked
from objectives.data.files import Columns as Cells
from objectives.data.rows import Rows, clean_rows, shortened, shown, text_cell
from objectives.data.squad import read_squad
from objectives.data.task import Encoded
from objectives.data.tokens import encodings
from objectives.finetune.answers import exact_match, token_f1
from objectives.finetune.models import Head
from objectives.finetune.objective import FineTuning
from objectives.finetune.report import DataReport, Fact, Studied, spread_of, unknown_tokens
from objectives.finetune.task import Frame, Task
from sweep.errors import InvalidDataError
from sweep.ports import Columns

METRICS = {"f1": "maximize", "exact_match": "maximize", "loss": "minimize"}
COLUMNS = {"question": "question", "context": "context", "answers": "answers"}
SETTINGS = {
    "window_overlap": {"default": 32, "low": 0, "high": 4096, "help": "tokens that windows of a long context share"},
    "longest_answer": {"default": 30, "low": 1, "high": 4096, "help": "tokens; longer answers are not given"},
}
UNUSED = ["augment_delete", "augment_swap", "augment_mask"]
EXAMPLE = {"question": "Where is anna?", "context": "anna is in rome", "answers": ["rome"]}

_NOWHERE = (2**40, 2**40)


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """What a model did on a split.

    Attributes:
        spans: Characters of each question's answer in its paragraph, ``[questions, 2]``; empty for no answer.
        losses: Mean loss of each question's windows, ``[questions]``.
        records: The rows.
    """

    spans: npt.NDArray[np.int64]
    losses: npt.NDArray[np.float64]
    records: Sequence[Mapping[str, Any]]

    @property
    def metrics(self) -> dict[str, float]:
        """F1, exact match and loss."""
        rows = self._numbers
        return {name: float(np.mean(rows[column])) for name, column in _MEANS.items()}

    @property
    def _numbers(self) -> dict[str, list[float]]:
        pairs = [(given, record["answers"]["text"]) for given, record in zip(self._given, self.records, strict=True)]
        return {
            "score": [token_f1(*pair) for pair in pairs],
            "exact": [exact_match(*pair) for pair in pairs],
            "loss": self.losses.tolist(),
        }

    @property
    def _given(self) -> list[str]:
        both = zip(self.spans.tolist(), self.records, strict=True)
        return [record["context"][start:end] for (start, end), record in both]

    def answers(self, records: Iterable[Mapping[str, Any]]) -> Columns:
        """The answer to each question; its score is the F1 of its words."""
        return {
            "row": list(range(len(self.records))),
            "text": [shortened(record["question"]) for record in self.records],
            "label": [shortened((record["answers"]["text"] or [""])[0]) for record in self.records],
            "prediction": [shortened(given) for given in self._given],
            "probability": [None] * len(self.records),
            **self._numbers,
        }

    def show(self, folder: Path) -> None:
        """There is nothing to look at besides the metrics."""


_MEANS = {"f1": "score", "exact_match": "exact", "loss": "loss"}


class QuestionAnswering(Task):
    """Where a paragraph answers a question.

    A paragraph that is longer than a trial's ``max_length`` is cut into windows that overlap by ``window_overlap``
    tokens; the answer is the best part of any window (Devlin et al., arXiv:1810.04805, section 4.2).
    """

    columns = COLUMNS
    answer_columns = ("answers",)
    formats = MappingProxyType({".json": read_squad})

    def clean(self, columns: Cells, origin: str) -> Rows:
        """Questions, paragraphs, and the answers' texts and places; an answer without a place stands where it first is.

        Raises:
            InvalidDataError: If an answer is no part of its paragraph.
        """
        rows = clean_rows(columns, origin, {"question": text_cell, "context": text_cell, "answers": _answers})
        for record in rows.records():
            found, context = record["answers"], record["context"]
            for number, text in enumerate(found["text"]):
                start = found["answer_start"][number]
                start = found["answer_start"][number] = context.find(text) if start is None else start
                if start < 0 or context[start : start + len(text)] != text:
                    place = f"at character {start} of" if start >= 0 else "in"
                    raise InvalidDataError(
                        f"{origin}: the answer {shown(text)} to {shown(record['question'])} does not stand {place} its "
                        "context. Answers are parts of it: correct text and answer_start, or check `data.answers`."
                    )
        return rows

    def describe(self, splits: Mapping[str, Rows]) -> dict[str, Any]:
        """How many training questions have no answer."""
        without = sum(not answers["text"] for answers in splits["train"]["answers"])
        return {"labels": [], "classes": {}, "unanswerable": without}

    def encode(self, rows: Rows, tokenizer: Any, max_length: int, known: Mapping[str, Any]) -> Encoded:
        """Token ids of question and paragraph, whole; each trial cuts its own windows, see :meth:`examples`."""
        ids: list[list[int]] = []
        spans = []
        others: dict[str, list[Any]] = {"context": [], "places": [], "types": []}
        options = {"truncation": False, "return_offsets_mapping": True, "verbose": False}
        for chunk in encodings(tokenizer, None, rows["question"], rows["context"], **options):
            others["types"] += chunk.get("token_type_ids", [])
            for line, tokens in enumerate(chunk["input_ids"]):
                inside = np.flatnonzero([part == 1 for part in chunk.sequence_ids(line)])
                first, last = (inside[0], inside[-1] + 1) if len(inside) else (len(tokens), len(tokens))
                offsets = np.array(chunk["offset_mapping"][line])[first:last]
                spans.append(_token_span(rows["answers"][len(ids)], offsets))
                ids.append(tokens)
                others["context"].append([first, last])
                others["places"].append(offsets.flatten())
        arrays: dict[str, Any] = {
            "context": np.array(others["context"], dtype=np.int64),
            "places": Ragged.of(others["places"], np.int32),
        }
        if others["types"]:
            arrays["types"] = Ragged.of(others["types"], np.int8)
        return Encoded(ids=ids, labels=np.array(spans, dtype=np.int64), others=arrays)

    def head(self, known: Mapping[str, Any]) -> Head:
        """Two logits for each token: that the answer begins there, and ends there."""

        def configure(config: Any) -> None:
            config.num_labels = 2
            config.pad_token_id = known["pad_id"]

        return Head(part="question answerer", auto=AutoModelForQuestionAnswering, configure=configure)

    def examples(self, rows: TokenRows, frame: Frame) -> TokenRows:
        """Windows of the trial's length; the answer of one that does not hold it whole is its first token."""
        tokens, places = Ragged(values=rows.ids, offsets=rows.offsets), _ragged(rows.others["places"])
        types = _ragged(rows.others["types"]) if "types" in rows.others else None
        found: dict[str, list[Any]] = {"ids": [], "labels": [], "places": [], "types": [], "row": [], "first": []}
        for row in range(len(rows)):
            first, last = map(int, rows.others["context"][row])
            spans, answer = places[row].reshape(-1, 2), rows.labels[row]
            for head, start, end in _windows(first, last, len(tokens[row]), frame):
                kept = np.r_[:head, first + start : first + end, last : len(tokens[row])]
                is_whole = start <= answer[0] and answer[1] < end
                found["ids"].append(tokens[row][kept])
                found["labels"].append(answer + (head - start) if is_whole else [0, 0])
                found["places"].append(spans[start:end].flatten())
                found["types"] += [] if types is None else [types[row][kept]]
                found["row"].append(row)
                found["first"].append(head)
        inputs = Ragged.of(found["ids"], rows.ids.dtype)
        others: dict[str, Any] = {name: np.array(found[name], dtype=np.int64) for name in ("row", "first")}
        others["places"] = Ragged.of(found["places"], np.int32)
        if types is not None:
            others["types"] = Ragged.of(found["types"], np.int8)
        labels = np.array(found["labels"], dtype=np.int64)
        return replace(rows, ids=inputs.values, offsets=inputs.offsets, labels=labels, others=others)

    def loss(self, model: Any, rows: TokenRows, batch: Indices, frame: Frame) -> torch.Tensor:
        """Mean cross-entropy of start and end, with label smoothing."""
        starts, ends = _logits(model, rows, batch, frame)
        targets = torch.from_numpy(np.asarray(rows.labels[batch])).to(frame.device)
        smoothing = float(frame.settings["label_smoothing"])
        both = [
            torch.nn.functional.cross_entropy(logits.float(), targets[:, side], label_smoothing=smoothing)
            for side, logits in enumerate((starts, ends))
        ]
        return (both[0] + both[1]) / 2

    def examine(
        self, model: Any, rows: TokenRows, frame: Frame, alive: Callable[[], None] | None = None
    ) -> Examination:
        """The best answer to each question, over its windows."""
        model.eval()
        owners, places = np.asarray(rows.others["row"]), _ragged(rows.others["places"])
        longest = int(frame.settings.get("longest_answer", 30))
        found: list[tuple[float, int, int]] = [(-np.inf, 0, 0)] * len(rows)
        losses, nothing = np.zeros(len(rows)), np.full(len(rows), -np.inf)
        with torch.inference_mode():
            for batch in sorted_batches(rows.lengths(frame.max_length), frame.batch_size):
                both = [logits.double() for logits in _logits(model, rows, batch, frame)]
                targets = torch.from_numpy(np.asarray(rows.labels[batch])).to(frame.device)
                for side, logits in enumerate(both):
                    lost = torch.nn.functional.cross_entropy(logits, targets[:, side], reduction="none")
                    losses[batch] += lost.cpu().numpy() / 2
                starts, ends = (logits.cpu().numpy() for logits in both)
                nothing[batch] = starts[:, 0] + ends[:, 0]
                for line, window in enumerate(batch):
                    spans, head = places[int(window)].reshape(-1, 2), int(rows.others["first"][window])
                    inside = slice(head, head + len(spans))
                    score, first, last = _best_span(starts[line, inside], ends[line, inside], longest)
                    if np.isfinite(score):
                        found[window] = score, int(spans[first, 0]), int(spans[last, 1])
                if alive is not None:
                    alive()
        records = list(frame.data.records(rows.split))
        may_be_nothing = bool(frame.data.meta["unanswerable"])
        questions, means = np.unique(owners), []
        answers: list[tuple[int, int]] = []
        for question in questions:
            windows = np.flatnonzero(owners == question)
            score, start, end = max(found[window] for window in windows)
            is_nothing = may_be_nothing and nothing[windows].min() > score
            answers.append((0, 0) if is_nothing else (start, end))
            means.append(losses[windows].mean())
        return Examination(
            spans=np.array(answers, dtype=np.int64),
            losses=np.array(means),
            records=[records[question] for question in questions],
        )

    def metrics(self, rows: Mapping[str, Any]) -> Mapping[str, float]:
        """F1, exact match and loss of any choice of questions."""
        return {name: float(np.mean(rows[column])) for name, column in _MEANS.items()}

    def report(self, study: Studied) -> DataReport:
        """Questions without an answer, answers that no window holds or that are too long to be found, and lengths."""
        rows = {split: study.rows(split) for split in study.splits}
        windows = {split: self.examples(found, study.frame) for split, found in rows.items()}
        tokens = {split: _answer_lengths(found.labels) for split, found in rows.items()}
        lost = {split: found > 0 for split, found in tokens.items()}
        for split, cut in windows.items():
            lost[split][np.asarray(cut.others["row"])[np.asarray(cut.labels).any(1)]] = False
        longest = int(study.frame.settings.get("longest_answer", 30))

        def of_answers(chosen: Mapping[str, npt.NDArray[np.bool_]]) -> Callable[[str], float]:
            return lambda split: float(chosen[split].sum() / max(1, (tokens[split] > 0).sum()))

        beyond = {split: found > longest for split, found in tokens.items()}
        facts = (
            study.fact("questions without an answer", lambda split: float((tokens[split] == 0).mean()), "share"),
            study.fact("windows a question, mean", lambda split: len(windows[split]) / len(rows[split]), "number"),
            study.fact("answers that no window holds", of_answers(lost), "share"),
            study.fact(f"answers of more than {longest} tokens", of_answers(beyond), "share"),
        )
        known = {record["context"] for record in study.frame.data.records("train")}
        shared = {
            split: float(np.mean([record["context"] in known for record in study.records(split)]))
            for split in study.splits[1:]
        }
        top, warnings = int(tokens["train"].max()), []
        if share := facts[2].values["train"]:
            warnings.append(
                f"{share:.1%} of the training answers stand whole in no window, so they are not learnt. "
                f"Set window_overlap: {top}, or a larger max_length."
            )
        if share := facts[3].values["train"]:
            warnings.append(
                f"{share:.1%} of the training answers have more tokens than longest_answer {longest}: they are never "
                f"found whole. Set longest_answer: {top}."
            )
        if share := shared.get("validation", 0.0):
            warnings.append(
                f"{share:.1%} of the validation questions ask about a context that training questions ask about too. "
                "If the model shall read new ones, split by context and give data.validation."
            )
        lengths = {split: np.diff(found.offsets) for split, found in rows.items()}
        answered = {split: found[found > 0] for split, found in tokens.items() if found.any()}
        spreads = spread_of(lengths, "tokens of question and context") + spread_of(answered, "tokens of an answer")
        contexts = Fact(what="questions on a context of train", values=shared, kind="share")
        return DataReport((*facts, contexts), tuple(warnings)) + spreads + unknown_tokens(study)


def _answer_lengths(spans: Any) -> Indices:
    """Tokens of each question's answer, ``[questions]``; 0 where there is none."""
    found = np.asarray(spans)
    return np.where(found[:, 0] == _NOWHERE[0], 0, found[:, 1] - found[:, 0] + 1)


def _answers(cell: Any, place: str, part: str) -> dict[str, list[Any]]:
    """Texts and places of a cell: as in SQuAD, or texts alone, or one text."""
    if isinstance(cell, Mapping) and isinstance(cell.get("text"), list | tuple):
        texts, starts = list(cell["text"]), list(cell.get("answer_start") or [None] * len(cell["text"]))
    else:
        texts = list(cell) if isinstance(cell, list | tuple) else [cell]
        starts = [None] * len(texts)
    is_whole = all(isinstance(start, int) for start in starts) or not any(starts)
    if not all(isinstance(text, str) and text for text in texts) or len(starts) != len(texts) or not is_whole:
        raise InvalidDataError(
            f"{place}: the {part} are {shown(cell)}. Give a text, a list of texts, or text and answer_start as in "
            f"SQuAD: check `data.{part}`."
        )
    return {"text": texts, "answer_start": starts}


def _token_span(answer: Mapping[str, Any], offsets: npt.NDArray[Any]) -> tuple[int, int]:
    """First and last token of the first answer, counted in the paragraph; beyond it where there is none."""
    if not answer["text"] or not len(offsets):
        return _NOWHERE
    start = answer["answer_start"][0]
    inside = np.flatnonzero((offsets[:, 1] > start) & (offsets[:, 0] < start + len(answer["text"][0])))
    return (int(inside[0]), int(inside[-1])) if len(inside) else _NOWHERE


def _windows(first: int, last: int, length: int, frame: Frame) -> Iterator[tuple[int, int, int]]:
    """Tokens before the paragraph that stay, and where each window of it begins and ends.

    Args:
        first: Place of the paragraph's first token.
        last: Place behind its last.
        length: Tokens in all.
        frame: Tells ``max_length`` and the overlap.
    """
    # A question without end leaves half of the room.
    head = min(first, max(1, frame.max_length // 2))
    room = max(1, frame.max_length - head - (length - last))
    overlap = min(int(frame.settings.get("window_overlap", 32)), room // 2)
    start = 0
    while True:
        yield head, start, min(start + room, last - first)
        if start + room >= last - first:
            return
        start += room - overlap


def _best_span(starts: npt.NDArray[Any], ends: npt.NDArray[Any], longest: int) -> tuple[float, int, int]:
    """The best sum of a start and an end that is not before it, and both; minus infinity if there is no token."""
    if not len(starts):
        return -np.inf, 0, 0
    sums = starts[:, None] + ends[None, :]
    length = np.arange(len(ends))[None, :] - np.arange(len(starts))[:, None]
    sums[(length < 0) | (length >= longest)] = -np.inf
    first, last = np.unravel_index(int(sums.argmax()), sums.shape)
    return float(sums[first, last]), int(first), int(last)


def _logits(model: Any, rows: TokenRows, batch: Indices, frame: Frame) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of starts and of ends, each ``[batch, longest]``; very small on padding."""
    ids, mask = padded(rows, batch, frame.max_length, frame.data.pad_id)
    inputs = {"input_ids": ids, "attention_mask": mask}
    if "types" in rows.others:
        inputs["token_type_ids"] = stacked([_ragged(rows.others["types"])[int(i)] for i in batch], 0)
    given = {name: torch.from_numpy(values).to(frame.device) for name, values in inputs.items()}
    found = model(**given)
    hidden = given["attention_mask"] == 0
    return found.start_logits.masked_fill(hidden, -1e4), found.end_logits.masked_fill(hidden, -1e4)


def _ragged(values: Any) -> Ragged:
    found: Ragged = values
    return found


class ExtractiveQuestionAnswering(FineTuning):
    """The objective."""

    def __init__(self) -> None:
        super().__init__(QuestionAnswering())


OBJECTIVE = ExtractiveQuestionAnswering
