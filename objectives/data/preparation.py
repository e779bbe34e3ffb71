"""Data made ready once for a study: split, tokenised, and laid on disk to be memory-mapped."""

from __future__ import annotations

import contextlib
import hashlib
import json
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from objectives.data.batching import TokenRows
from objectives.data.rows import Rows, check_labels, label_names, shown
from objectives.data.sources import Source, open_source
from objectives.data.splits import split_off
from sweep.checkpoints import committing, intact
from sweep.errors import InvalidDataError

FORMAT = 1
TOKENIZER_FOLDER = "tokenizer"
_CHUNK_ROWS = 1024
_UNKNOWN_SHARE = 0.3
_QUANTILES = (0.5, 0.9, 0.99, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedData:
    """Prepared data on disk.

    Attributes:
        folder: Where it lies.
        meta: What is known about it: labels, rows, digests, warnings.
    """

    folder: Path
    meta: Mapping[str, Any]

    @classmethod
    def open(cls, folder: Path) -> PreparedData:
        """Open a prepared folder.

        Raises:
            InvalidDataError: If it is not one.
        """
        try:
            meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as err:
            raise InvalidDataError(f"{folder}: no prepared data ({err}). Prepare the study's data again.") from err
        return cls(folder=folder, meta=meta)

    @property
    def labels(self) -> list[str]:
        """Names of the classes, by id."""
        return list(self.meta["labels"])

    @property
    def pad_id(self) -> int:
        """Padding token."""
        return int(self.meta["pad_id"])

    @property
    def tokenizer(self) -> Path:
        """Folder of the tokenizer."""
        return self.folder / TOKENIZER_FOLDER

    def texts(self, split: str) -> Iterator[str]:
        """The texts of a split, in the order of its rows.

        Raises:
            InvalidDataError: If they cannot be read.
        """
        file = self.folder / f"{split}.texts.jsonl"
        try:
            with file.open(encoding="utf-8", errors="surrogatepass") as stream:
                yield from (json.loads(line)["text"] for line in stream)
        except (OSError, ValueError) as err:
            raise InvalidDataError(f"{file}: cannot be read ({err}). Prepare the study's data again.") from err

    def rows_hash(self, split: str) -> str | None:
        """sha256 of a split's texts and labels in their order, which tells one split of the same data from another.

        Returns:
            None if there is no such split.

        Raises:
            InvalidDataError: If they cannot be read.
        """
        if split not in self.meta["rows"]:
            return None
        file = self.folder / f"{split}.texts.jsonl"
        try:
            with file.open("rb") as stream:
                return hashlib.file_digest(stream, "sha256").hexdigest()
        except OSError as err:
            raise InvalidDataError(f"{file}: cannot be read ({err}). Prepare the study's data again.") from err

    def rows(self, split: str) -> TokenRows:
        """Tokenised rows of a split, memory-mapped.

        Raises:
            InvalidDataError: If there is no such split.
        """
        if split not in self.meta["rows"]:
            raise InvalidDataError(
                f"{self.folder}: no split {split!r}; there are {', '.join(self.meta['rows'])}. Name one."
            )
        parts = {
            name: np.load(self.folder / f"{split}.{name}.npy", mmap_mode="r", allow_pickle=False) for name in _PARTS
        }
        return TokenRows(**parts, suffix=int(self.meta["suffix"]))


_PARTS = ("ids", "offsets", "labels")


def prepare_data(data: Mapping[str, Any], tokenizer: Any, max_length: int, folder: Path) -> tuple[PreparedData, bool]:
    """Prepare data, or find it prepared.

    Args:
        data: The ``data`` part of the objective's settings.
        tokenizer: A transformers tokenizer with a padding token.
        max_length: Most tokens that any trial will use.
        folder: Where prepared data lies, one sub-folder for each key.

    Returns:
        The data, and whether it had to be prepared.

    Raises:
        InvalidDataError: If the data cannot be used.
    """
    with tempfile.TemporaryDirectory() as scratch:
        tokenizer.save_pretrained(scratch)
        files = {p.relative_to(scratch).as_posix(): p.read_bytes() for p in Path(scratch).rglob("*") if p.is_file()}
    source = open_source(data)
    chosen = {name: data[name] for name in ("text", "label", "validation_fraction", "test_fraction", "split_seed")}
    if "validation_seed" in data:
        chosen["validation_seed"] = data["validation_seed"]
    identity = {
        "format": FORMAT,
        "data": source.digest,
        "tokenizer": {name: hashlib.sha256(content).hexdigest() for name, content in sorted(files.items())},
        "max_length": max_length,
        "settings": chosen,
    }
    key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
    target = folder / key
    if intact(target):
        return PreparedData.open(target), False
    splits, warnings = _split(source, data)
    labels = label_names(splits["train"])
    check_labels(splits, labels)
    meta: dict[str, Any] = {"identity": identity, "data_name": source.name, "data_hash": source.digest}
    with _leaving_no_empty_folder(folder), committing(target, meta) as new:
        for name, content in files.items():
            (new / TOKENIZER_FOLDER / name).parent.mkdir(parents=True, exist_ok=True)
            (new / TOKENIZER_FOLDER / name).write_bytes(content)
        written = {name: _write_split(new, name, rows, labels, tokenizer, max_length) for name, rows in splits.items()}
        unknown = sum(w["unknown"] for w in written.values()) / max(1, sum(w["tokens"] for w in written.values()))
        if unknown >= _UNKNOWN_SHARE:
            warnings.append(
                f"the tokenizer knows too little of this text: {unknown:.0%} of the tokens are unknown. "
                "Choose a model of this language."
            )
        meta |= {
            "labels": labels,
            "rows": {name: len(rows) for name, rows in splits.items()},
            "classes": {n: {label: Counter(r.labels)[label] for label in labels} for n, r in splits.items()},
            "lengths": {name: w["lengths"] for name, w in written.items()},
            "unknown_share": unknown,
            "suffix": _suffix(tokenizer),
            "pad_id": tokenizer.pad_token_id,
            "max_length": max_length,
            "warnings": warnings,
        }
        (new / "meta.json").write_text(json.dumps(meta, ensure_ascii=False, indent=1), encoding="utf-8")
    return PreparedData.open(target), True


@contextlib.contextmanager
def _leaving_no_empty_folder(folder: Path) -> Iterator[None]:
    """Remove the folders that a failing block made for nothing."""
    missing = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):  # not made, or no longer empty
            for made in missing:
                made.rmdir()
        raise


def _split(source: Source, data: Mapping[str, Any]) -> tuple[dict[str, Rows], list[str]]:
    splits = dict(source.read())
    warnings = [
        f"{rows.origin}: {rows.dropped} rows with an empty text or label were left out."
        for rows in splits.values()
        if rows.dropped
    ]
    label_names(splits["train"])
    if "validation_seed" in data and "validation" in splits:
        raise InvalidDataError(
            f"{splits['validation'].origin}: the validation rows are given and cannot be drawn anew for each seed. "
            "Set confirm.splits to same."
        )
    # A final may draw training and validation rows anew; the test rows stay.
    seeds = (("test", data["split_seed"] + 1), ("validation", data.get("validation_seed", data["split_seed"])))
    for name, seed in seeds:
        fraction = data[f"{name}_fraction"]
        if name in splits or not fraction:
            continue
        train = splits["train"]
        if len(train) * (1 - fraction) < 1 or len(train) < 4:
            raise InvalidDataError(
                f"{train.origin}: {len(train)} rows are too few to split off {name}_fraction={fraction:g}. "
                f"Give more rows, or a file for data.{name}."
            )
        stay, off = split_off(train.labels, fraction, seed)
        splits |= {"train": train.take(stay), name: train.take(off)}
        missing = sorted(set(train.labels) - set(splits[name].labels))
        if missing:
            warnings.append(
                f"{len(missing)} rare classes have no {name} row, so their errors there go unseen: "
                f"{', '.join(map(shown, missing[:5]))}."
            )
    if "validation" not in splits:
        raise InvalidDataError(
            "data.validation_fraction: 0 and no validation rows: trials cannot be compared. "
            "Set validation_fraction to 0.1, or give data.validation."
        )
    seen = set(splits["train"].texts)
    for name in ("validation", "test"):
        double = sum(text in seen for text in splits[name].texts) if name in splits else 0
        if double:
            warnings.append(f"{double} {name} rows have a text that is also a training text: scores will flatter.")
    torn = _contradicted(splits.values())
    if torn:
        warnings.append(f"{torn} texts come with more than one label: none of these answers can be right for all.")
    return {name: splits[name] for name in ("train", "validation", "test") if name in splits}, warnings


def _contradicted(splits: Iterable[Rows]) -> int:
    """Texts that stand in several rows, with different labels."""
    first: dict[str, str] = {}
    pairs = (pair for rows in splits for pair in zip(rows.texts, rows.labels, strict=True))
    return len({text for text, label in pairs if first.setdefault(text, label) != label})


def _write_split(
    folder: Path, split: str, rows: Rows, labels: Sequence[str], tokenizer: Any, max_length: int
) -> dict[str, Any]:
    number = {label: i for i, label in enumerate(labels)}
    chunks: list[list[int]] = []
    for start in range(0, len(rows), _CHUNK_ROWS):
        texts = list(rows.texts[start : start + _CHUNK_ROWS])
        chunks += tokenizer(texts, truncation=True, max_length=max_length, return_attention_mask=False)["input_ids"]
    lengths = np.array([len(chunk) for chunk in chunks], dtype=np.int64)
    ids = np.concatenate([np.asarray(chunk, dtype=np.int32) for chunk in chunks])
    if lengths.min() == 0:
        raise InvalidDataError(
            f"{rows.origin}: the tokenizer makes no token of {shown(rows.texts[int(lengths.argmin())])}. "
            "Remove such rows."
        )
    np.save(folder / f"{split}.ids.npy", ids)
    np.save(folder / f"{split}.offsets.npy", np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))
    np.save(folder / f"{split}.labels.npy", np.array([number[label] for label in rows.labels], dtype=np.int64))
    with (folder / f"{split}.texts.jsonl").open("w", encoding="utf-8", errors="surrogatepass") as stream:
        for text, label in zip(rows.texts, rows.labels, strict=True):
            stream.write(json.dumps({"text": text, "label": label}) + "\n")
    unknown = tokenizer.unk_token_id if tokenizer.unk_token_id != tokenizer.eos_token_id else None
    special = tokenizer.num_special_tokens_to_add() * len(chunks)
    return {
        "tokens": int(lengths.sum()) - special,
        "unknown": 0 if unknown is None else int((ids == unknown).sum()),
        "lengths": {f"{q:g}": int(np.quantile(lengths, q)) for q in _QUANTILES},
    }


def _suffix(tokenizer: Any) -> int:
    """Special tokens that the tokenizer puts behind a text."""
    probe = tokenizer("a", return_special_tokens_mask=True)["special_tokens_mask"]
    count = 0
    for flag in reversed(probe):
        if not flag:
            break
        count += 1
    return min(count, int(tokenizer.num_special_tokens_to_add()))
