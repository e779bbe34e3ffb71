"""Data made ready once for a study: split, tokenised, and laid on disk to be memory-mapped."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from objectives.data.arrays import GrowingArrays
from objectives.data.batching import Indices, Ragged, TokenRows
from objectives.data.folds import validation_folds, validation_seed
from objectives.data.leakage import contradicted, leakage
from objectives.data.rows import Rows, shown
from objectives.data.sources import Source, column_names, open_source
from objectives.data.splits import split_off
from objectives.data.task import DataTask, Encoded
from objectives.data.tokenizer_training import TokenizerRecipe
from sweep.checkpoints import committing, intact
from sweep.errors import InvalidDataError

FORMAT = 4
TOKENIZER_FOLDER = "tokenizer"
_UNKNOWN_SHARE = 0.3
_FOLD = "fold"
_QUANTILES = (0.5, 0.9, 0.99, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedData:
    """Prepared data on disk.

    Attributes:
        folder: Where it lies.
        meta: What is known about it: labels, rows, digests, warnings, and what else the task described.
        fold: Of data in folds, 0-based, the one that is validated on and not trained on; as many as there are folds
            stands for none: all rows are trained on, and validated on as well. None leaves the splits as they are.
    """

    folder: Path
    meta: Mapping[str, Any]
    fold: int | None = None

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
    def folds(self) -> int:
        """How many folds the training rows are in; 0 where there is a validation split instead."""
        return len(self.meta.get("folds", ()))

    @property
    def pad_id(self) -> int:
        """Padding token."""
        return int(self.meta["pad_id"])

    @property
    def tokenizer(self) -> Path:
        """Folder of the tokenizer."""
        return self.folder / TOKENIZER_FOLDER

    def records(self, split: str, stride: int = 1) -> Iterator[dict[str, Any]]:
        """The rows of a split as the task cleaned them, by part; of so many, the first alone.

        Raises:
            InvalidDataError: If they cannot be read.
        """
        chosen = self._of_fold(split)
        file = self.folder / f"{split if chosen is None else 'train'}.texts.jsonl"
        try:
            with file.open(encoding="utf-8", errors="surrogatepass") as stream:
                lines = stream if chosen is None else itertools.compress(stream, chosen)
                yield from (json.loads(line) for line in itertools.islice(lines, 0, None, stride))
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
        """Tokenised rows of a split, memory-mapped; those of a fold are copied.

        Raises:
            InvalidDataError: If there is no such split.
        """
        chosen = self._of_fold(split)
        if chosen is not None:
            rows = replace(self, fold=None).rows("train")
            return replace(rows if chosen.all() else rows.take(np.flatnonzero(chosen)), split=split)
        if split not in self.meta["rows"]:
            raise InvalidDataError(
                f"{self.folder}: no split {split!r}; there are {', '.join(self.meta['rows'])}. Name one."
            )
        others = {
            name: self._array(f"{split}.{name}", is_ragged=is_ragged) for name, is_ragged in self.meta["arrays"].items()
        }
        ids = self._array(f"{split}.ids", is_ragged=True)
        return TokenRows(
            ids=ids.values,
            offsets=ids.offsets,
            labels=others.pop("labels", None),
            suffix=int(self.meta["suffix"]),
            others=others,
            split=split,
        )

    def _of_fold(self, split: str) -> npt.NDArray[np.bool_] | None:
        """Which training rows stand for a split in this fold, ``[rows]``; None where the split has rows of its own."""
        if self.fold is None or split not in ("train", "validation"):
            return None
        of_rows = self._array(f"train.{_FOLD}", is_ragged=False)
        if self.fold == self.folds:
            return np.ones(len(of_rows), dtype=np.bool_)
        chosen: npt.NDArray[np.bool_] = (of_rows == self.fold) == (split == "validation")
        return chosen

    def _array(self, name: str, *, is_ragged: bool) -> Any:
        values = np.load(self.folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
        if not is_ragged:
            return values
        offsets = np.load(self.folder / f"{name}.offsets.npy", mmap_mode="r", allow_pickle=False)
        return Ragged(values=values, offsets=offsets)


def prepare_data(
    data: Mapping[str, Any], tokenizer: Any, max_length: int, folder: Path, task: DataTask
) -> tuple[PreparedData, bool]:
    """Prepare data, or find it prepared.

    Args:
        data: The ``data`` part of the objective's settings.
        tokenizer: A transformers tokenizer with a padding token, or how one is trained from the training rows.
        max_length: Most tokens that any trial will use.
        folder: Where prepared data lies, one sub-folder for each key.
        task: What it is prepared for.

    Returns:
        The data, and whether it had to be prepared.

    Raises:
        InvalidDataError: If the data cannot be used.
    """
    with _leaving_no_empty_folder(folder):
        return _prepared(data, tokenizer, max_length, folder, task)


def _prepared(
    data: Mapping[str, Any], tokenizer: Any, max_length: int, folder: Path, task: DataTask
) -> tuple[PreparedData, bool]:
    recipe = tokenizer if isinstance(tokenizer, TokenizerRecipe) else None
    files = {} if recipe is not None else _files_of(tokenizer)
    source = open_source(data, task, folder)
    chosen = {name: data[name] for name in ("validation_fraction", "test_fraction", "split_seed")}
    chosen |= {"task": type(task).__qualname__, **column_names(data, task.columns)}
    if "validation_seed" in data:
        chosen["validation_seed"] = data["validation_seed"]
    if data.get("folds"):
        chosen["folds"] = data["folds"]
    identity = {
        "format": FORMAT,
        "data": source.digest,
        "tokenizer": asdict(recipe)
        if recipe is not None
        else {name: hashlib.sha256(content).hexdigest() for name, content in sorted(files.items())},
        "max_length": max_length,
        "settings": chosen,
    }
    key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
    target = folder / key
    if intact(target):
        return PreparedData.open(target), False
    splits, warnings = _split(source, data, task)
    folds = validation_folds(splits["train"], data, task, warnings) if data.get("folds") else None
    if recipe is not None:
        tokenizer = recipe.train(splits["train"])
        files = _files_of(tokenizer)
    meta: dict[str, Any] = {"identity": identity, "data_name": source.name, "data_hash": source.digest}
    meta |= task.describe(splits)
    with committing(target, meta) as new:
        for name, content in files.items():
            (new / TOKENIZER_FOLDER / name).parent.mkdir(parents=True, exist_ok=True)
            (new / TOKENIZER_FOLDER / name).write_bytes(content)
        written = {}
        for name, rows in splits.items():
            encode = partial(task.encode, tokenizer=tokenizer, max_length=max_length, known=meta)
            written[name] = _write_split(new, name, rows, encode, tokenizer)
        if folds is not None:
            np.save(new / f"train.{_FOLD}.npy", folds)
            meta["folds"] = np.bincount(folds, minlength=data["folds"]).tolist()
        unknown = sum(w["unknown"] for w in written.values()) / max(1, sum(w["tokens"] for w in written.values()))
        if unknown >= _UNKNOWN_SHARE:
            warnings.append(
                f"the tokenizer knows too little of this text: {unknown:.0%} of the tokens are unknown. "
                "Choose a model of this language."
            )
        meta |= {
            "rows": {name: len(rows) for name, rows in splits.items()},
            "lengths": {name: w["lengths"] for name, w in written.items()},
            "unknown_share": unknown,
            "arrays": written["train"]["arrays"],
            "vocabulary": len(tokenizer),
            "suffix": _suffix(tokenizer),
            "pad_id": tokenizer.pad_token_id,
            "bos_id": tokenizer.bos_token_id,
            "eos_id": tokenizer.eos_token_id,
            "max_length": max_length,
            "warnings": warnings,
        }
        (new / "meta.json").write_text(json.dumps(meta, ensure_ascii=False, indent=1), encoding="utf-8")
    return PreparedData.open(target), True


def _files_of(tokenizer: Any) -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as scratch:
        tokenizer.save_pretrained(scratch)
        return {p.relative_to(scratch).as_posix(): p.read_bytes() for p in Path(scratch).rglob("*") if p.is_file()}


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


def _split(source: Source, data: Mapping[str, Any], task: DataTask) -> tuple[dict[str, Rows], list[str]]:
    splits = dict(source.read())
    warnings = [
        f"{rows.origin}: {rows.dropped} rows with an empty {' or '.join(rows.columns)} were left out."
        for rows in splits.values()
        if rows.dropped
    ]
    task.describe({"train": splits["train"]})
    if "validation_seed" in data and "validation" in splits:
        raise InvalidDataError(
            f"{splits['validation'].origin}: the validation rows are given and cannot be drawn anew for each seed. "
            "Set confirm.splits to same."
        )
    if data.get("folds") and "validation" in splits:
        raise InvalidDataError(
            f"{splits['validation'].origin}: the validation rows are given, so there is nothing to validate in folds. "
            "Leave data.folds out."
        )
    is_cut = data.get("max_rows") and len(splits["train"]) + splits["train"].dropped >= data["max_rows"]
    # A final may draw training and validation rows anew; the test rows stay.
    seeds = (("test", data["split_seed"] + 1), ("validation", validation_seed(data)))
    for name, seed in seeds:
        fraction = data[f"{name}_fraction"]
        if name in splits or not fraction or (name == "validation" and data.get("folds")):
            continue
        train = splits["train"]
        if len(train) * (1 - fraction) < 1 or len(train) < 4:
            remedy = "Raise data.max_rows" if is_cut else f"Give more rows, or a file for data.{name}"
            raise InvalidDataError(
                f"{train.origin}: {len(train)} rows are too few to split off {name}_fraction={fraction:g}. {remedy}."
            )
        strata = task.strata(train)
        stay, off = split_off([""] * len(train) if strata is None else strata, fraction, seed)
        splits |= {"train": train.take(stay), name: train.take(off)}
        missing = sorted(set(strata) - {strata[i] for i in off}) if strata is not None else []
        if missing:
            warnings.append(
                f"{len(missing)} rare classes have no {name} row, so their errors there go unseen: "
                f"{', '.join(map(shown, missing[:5]))}."
            )
    if "validation" not in splits and not data.get("folds"):
        raise InvalidDataError(
            "data.validation_fraction: 0 and no validation rows: trials cannot be compared. "
            "Set validation_fraction to 0.1, or give data.validation."
        )
    warnings += leakage(splits, task)
    torn = contradicted(splits, task)
    if torn:
        have = "1 input has" if torn == 1 else f"{torn} inputs have"
        warnings.append(
            f"{have} different answers ({task.answer_columns[0]}) in different rows: no model can be right in all."
        )
    return {name: splits[name] for name in ("train", "validation", "test") if name in splits}, warnings


def _write_split(
    folder: Path, split: str, rows: Rows, encode: Callable[[Rows], Encoded], tokenizer: Any
) -> dict[str, Any]:
    """Encode a split and write it, some rows at a time; returns what is known of it then."""
    # A tokenizer that ends texts with the unknown token knows everything.
    unknown_id = tokenizer.unk_token_id if tokenizer.unk_token_id != tokenizer.eos_token_id else None
    texts = folder / f"{split}.texts.jsonl"
    lengths, unknown = [], 0
    with texts.open("w", encoding="utf-8", errors="surrogatepass") as stream, GrowingArrays(folder, split) as arrays:
        for chunk in rows.chunks():
            encoded = encode(chunk)
            inputs = Ragged.of(encoded.ids, encoded.dtype)
            lengths.append(np.diff(inputs.offsets))
            _refuse_nothing(chunk, lengths[-1])
            others = dict(encoded.others) if encoded.labels is None else {"labels": encoded.labels, **encoded.others}
            arrays.append({"ids": inputs, **others})
            unknown += 0 if unknown_id is None else int((inputs.values == unknown_id).sum())
            stream.writelines(json.dumps(record) + "\n" for record in chunk.records())
    found = np.concatenate(lengths)
    return {
        "arrays": {name: is_ragged for name, is_ragged in arrays.ragged.items() if name != "ids"},
        "tokens": int(found.sum()) - tokenizer.num_special_tokens_to_add() * len(found),
        "unknown": unknown,
        "lengths": {f"{q:g}": int(np.quantile(found, q)) for q in _QUANTILES},
    }


def _refuse_nothing(rows: Rows, lengths: Indices) -> None:
    if lengths.min() == 0:
        first = next(iter(rows.columns.values()))[int(lengths.argmin())]
        raise InvalidDataError(f"{rows.origin}: the tokenizer makes no token of {shown(first)}. Remove such rows.")


def _suffix(tokenizer: Any) -> int:
    """Special tokens that the tokenizer puts behind a text."""
    probe = tokenizer("a", return_special_tokens_mask=True)["special_tokens_mask"]
    count = 0
    for flag in reversed(probe):
        if not flag:
            break
        count += 1
    return min(count, int(tokenizer.num_special_tokens_to_add()))
