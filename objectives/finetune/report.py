"""What a check tells of a study's data: numbers for each split, and warnings with the setting that helps.

A task says what there is to tell; see :meth:`objectives.finetune.task.Task.report`. Long splits are looked at in part.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
from transformers import AutoTokenizer

from objectives.data.batching import Indices, TokenRows
from objectives.data.rows import shown
from objectives.data.tokens import encodings

if TYPE_CHECKING:
    from objectives.finetune.task import Frame

SAMPLE_ROWS = 5000
"""Most rows of a split whose texts are looked at, evenly drawn."""

_HELD = 0.99
_HEAVY = 10
_MOST_CLASSES = 12
_CHUNK = 2**22

Kind = Literal["count", "share", "number"]
Numbers = npt.NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """A line of a report.

    Attributes:
        what: What is counted or measured.
        values: A number for each split.
        kind: ``count`` of something, ``share`` in [0, 1], or any other ``number``.
    """

    what: str
    values: Mapping[str, float]
    kind: Kind = "count"


@dataclass(frozen=True, slots=True)
class DataReport:
    """What there is to tell; reports are added.

    Attributes:
        facts: Lines of a table whose columns are the splits.
        warnings: What may spoil the study, with the setting that helps.
    """

    facts: tuple[Fact, ...] = ()
    warnings: tuple[str, ...] = ()

    def __add__(self, other: DataReport) -> DataReport:
        return DataReport((*self.facts, *other.facts), (*self.warnings, *other.warnings))

    def as_json(self) -> list[dict[str, Any]]:
        """The facts, JSON-able."""
        return [{"what": fact.what, "kind": fact.kind, "values": dict(fact.values)} for fact in self.facts]


@dataclass(frozen=True, kw_only=True)
class Studied:
    """The prepared data that a report is of.

    Attributes:
        frame: As trial 0 sees it.
        config: The model's configuration.
        searched: Settings that the study searches.
    """

    frame: Frame
    config: Any
    searched: frozenset[str] = frozenset()

    @property
    def splits(self) -> list[str]:
        """The splits that there are; ``train`` is the first."""
        return list(self.frame.data.meta["rows"])

    @cached_property
    def tokenizer(self) -> Any:
        """The model's."""
        trust = bool(self.frame.settings.get("trust_remote_code"))
        return AutoTokenizer.from_pretrained(self.frame.data.tokenizer, trust_remote_code=trust)

    def records(self, split: str) -> list[dict[str, Any]]:
        """Some rows of a split, as the task cleaned them."""
        return list(self.frame.data.records(split, self._stride(split)))

    def rows(self, split: str) -> TokenRows:
        """The same rows of a split, encoded."""
        rows = self.frame.data.rows(split)
        return rows.take(np.arange(0, len(rows), self._stride(split), dtype=np.int64))

    def fact(self, what: str, value: Callable[[str], float], kind: Kind = "count") -> Fact:
        """A line of which each split's number is computed."""
        return Fact(what=what, values={split: value(split) for split in self.splits}, kind=kind)

    def tokens(self, *texts: Callable[[Mapping[str, Any]], str]) -> dict[str, Indices]:
        """Tokens of each row of each split, not truncated.

        Args:
            *texts: What is read of a row; two for a pair.
        """
        found = {}
        for split in self.splits:
            records = self.records(split)
            columns = [[text(row) for row in records] for text in texts]
            chunks = encodings(self.tokenizer, None, *columns, truncation=False, verbose=False)
            found[split] = np.array([len(ids) for chunk in chunks for ids in chunk["input_ids"]], dtype=np.int64)
        return found

    def targets(self, text: Callable[[Mapping[str, Any]], str]) -> dict[str, Indices]:
        """Likewise, of texts that a model is to write."""
        found = {}
        for split in self.splits:
            texts = [text(row) for row in self.records(split)]
            ids = self.tokenizer(text_target=texts, verbose=False)["input_ids"]
            found[split] = np.array([len(tokens) for tokens in ids], dtype=np.int64)
        return found

    def _stride(self, split: str) -> int:
        return -(-int(self.frame.data.meta["rows"][split]) // SAMPLE_ROWS)


def spread_of(values: Mapping[str, Numbers], what: str, kind: Kind = "count") -> DataReport:
    """Median, 95 % quantile and maximum of each split."""
    quantiles = (("median", 0.5), ("95 %", 0.95), ("longest", 1.0))
    return DataReport(
        tuple(
            Fact(
                what=f"{what}, {name}",
                values={split: float(np.quantile(found, at)) for split, found in values.items()},
                kind=kind,
            )
            for name, at in quantiles
        )
    )


def against(lengths: Mapping[str, Indices], limit: int, setting: str, what: str = "tokens") -> DataReport:
    """The share of rows beyond a limit, and the limit that would hold 99 % of them.

    Args:
        lengths: Of each row of each split.
        limit: What is beyond it is lost.
        setting: That sets it.
        what: What lengths are counted in.
    """
    beyond = {split: float((found > limit).mean()) for split, found in lengths.items()}
    held = {split: int(np.quantile(found, _HELD, method="higher")) for split, found in lengths.items()}
    facts = (
        Fact(what=f"rows beyond {setting} {limit}", values=beyond, kind="share"),
        Fact(what=f"{setting} that holds 99 %", values=held),
    )
    if beyond["train"] <= 1 - _HELD:
        return DataReport(facts)
    warning = (
        f"{beyond['train']:.1%} of the training rows have more {what} than {setting} {limit}, which are lost; "
        f"{setting}: {held['train']} holds 99 % of them."
    )
    return DataReport(facts, (warning,))


def unknown_tokens(study: Studied) -> DataReport:
    """The share of tokens that stand for what the tokenizer does not know; nothing where it knows everything."""
    tokenizer = study.tokenizer
    unknown = tokenizer.unk_token_id
    if unknown is None or unknown == tokenizer.eos_token_id:
        return DataReport()

    def share(split: str) -> float:
        ids = study.frame.data.rows(split).ids
        count = sum(int((ids[at : at + _CHUNK] == unknown).sum()) for at in range(0, len(ids), _CHUNK))
        return count / max(1, len(ids))

    return DataReport((study.fact("tokens unknown to the model", share, "share"),))


def class_shares(study: Studied, remedy: str = "") -> DataReport:
    """The share of rows of each class, the most frequent first, and a warning where one is rare.

    Args:
        study: Its data has ``classes``.
        remedy: What to do where one class is ten times as frequent as another; empty warns of nothing.
    """
    meta = study.frame.data.meta
    counts = meta["classes"]
    names = sorted(counts["train"], key=lambda name: -counts["train"][name])
    listed = names if len(names) <= _MOST_CLASSES else [*names[: _MOST_CLASSES - 2], names[-1]]
    rows = meta["rows"]
    facts = tuple(
        Fact(what=f"label {name}", values={s: counts[s][name] / rows[s] for s in study.splits}, kind="share")
        for name in listed
    )
    most, least = counts["train"][names[0]], counts["train"][names[-1]]
    if not remedy or most < _HEAVY * least:
        return DataReport(facts)
    warning = (
        f"the classes are of very different size: {shown(names[0])} has {most} training rows, {shown(names[-1])} has "
        f"{least}. {remedy}"
    )
    return DataReport(facts, (warning,))


def against_imbalance(settings: Mapping[str, Any], metric: str) -> str:
    """What to do about rare classes, unless it is done: ``class_weights``, and a metric that counts them alike."""
    if settings.get("class_weights", "none") != "none":
        return ""
    return f"Set class_weights: balanced, or search [none, balanced], and compare trials by {metric}."


def length_report(study: Studied, *texts: Callable[[Mapping[str, Any]], str]) -> DataReport:
    """Tokens of each row against ``max_length``, and how many are unknown."""
    lengths = study.tokens(*texts)
    fits = against(lengths, study.frame.max_length, "max_length")
    return spread_of(lengths, "tokens") + fits + unknown_tokens(study)


def parts_of(study: Studied, *parts: str) -> Sequence[Callable[[Mapping[str, Any]], str]]:
    """Readers of the texts that play these parts, as far as the data has them."""
    first = next(study.frame.data.records("train"))
    return [lambda row, part=part: str(row[part]) for part in parts if part in first]  # type: ignore[misc]
