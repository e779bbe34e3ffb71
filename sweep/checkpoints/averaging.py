"""The average of several models' weights, streamed from file to file: memory does not grow with the models."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweep.checkpoints.adapted import base_of
from sweep.errors import CheckpointError

_WEIGHTS = "*.safetensors"
_FLOATS = {"F16": "<f2", "F32": "<f4", "F64": "<f8"}
_CHUNK_VALUES = 1 << 20
_NO_DIFFERENCE = ("drop", "transformers_version", "_name_or_path")
"""Parts of keys of a configuration that change nothing in what a trained model computes."""


@dataclass(frozen=True, slots=True)
class _Tensor:
    """What a file says of a tensor; ``begin`` counts bytes from the file's start."""

    dtype: str
    shape: tuple[int, ...]
    begin: int

    @property
    def kind(self) -> str:
        return f"{self.dtype} {list(self.shape)}"


def why_not_averaged(models: Sequence[Path]) -> str | None:
    """Why the weights of models cannot be averaged: another architecture, or another kind of number; None if they can.

    Args:
        models: Folders that transformers can load, or adapters, to be merged before.

    Raises:
        CheckpointError: If one of them cannot be read.
    """
    first, *others = models
    for name, tensor in _own_tensors(first).items():
        if tensor.dtype.startswith(("F", "BF")) and tensor.dtype not in _FLOATS:
            return f"{name[1]} of {first} holds {tensor.dtype} numbers; those of {', '.join(_FLOATS)} can be averaged"
    return next((told for other in others if (told := difference(first, other)) is not None), None)


def difference(first: Path, other: Path) -> str | None:
    """In what two models are not of one architecture; None if both compute the same, with weights of their own.

    Raises:
        CheckpointError: If one of them cannot be read.
    """
    own, theirs = _own_tensors(first), _own_tensors(other)
    for name in sorted(own.keys() | theirs.keys()) if own and theirs else ():
        mine, its = own.get(name), theirs.get(name)
        if mine is None or its is None or mine.kind != its.kind:
            kinds = [tensor.kind if tensor else "missing" for tensor in (mine, its)]
            return f"{name[1]} is {kinds[0]} in {first} and {kinds[1]} in {other}"
    differing = _differing(_configuration(first), _configuration(other))
    return None if differing is None else f"{differing} of config.json differs between {first} and {other}"


def average_models(models: Sequence[Path], to: Path, counts: Sequence[int] | None = None) -> None:
    """Write the element-wise mean of models' weights; all other files are the first one's.

    Sums are in double precision; each tensor keeps its own type. Tensors that hold no floating-point numbers are the
    first model's.

    Args:
        models: Folders for which :func:`why_not_averaged` has nothing to say; at least one.
        to: A new folder.
        counts: How often each model counts; None is once.

    Raises:
        CheckpointError: If a model cannot be read.
        OSError: If the average cannot be written.
    """
    first = models[0]
    shutil.copytree(first, to, ignore=shutil.ignore_patterns(_WEIGHTS))
    for path in sorted(first.glob(_WEIGHTS)):
        _average_file([model / path.name for model in models], to / path.name, counts or [1] * len(models))


def _average_file(paths: Sequence[Path], to: Path, counts: Sequence[int]) -> None:
    import numpy as np

    layouts = [_read_header(path) for path in paths]
    # The first file's own layout, so that header and offsets stay; the order of tensors may differ in the others.
    shutil.copyfile(paths[0], to)
    files = [np.memmap(path, dtype=np.uint8, mode="r") for path in paths]
    written = np.memmap(to, dtype=np.uint8, mode="r+")
    for name, tensor in layouts[0].items():
        if tensor.dtype not in _FLOATS:
            continue
        kind = np.dtype(_FLOATS[tensor.dtype])
        count = math.prod(tensor.shape)
        for start in range(0, count, _CHUNK_VALUES):
            length = min(_CHUNK_VALUES, count - start) * kind.itemsize
            total = np.zeros(length // kind.itemsize)
            for file, layout, weight in zip(files, layouts, counts, strict=True):
                begin = layout[name].begin + start * kind.itemsize
                total += weight * np.frombuffer(file[begin : begin + length].tobytes(), dtype=kind).astype(np.float64)
            begin = tensor.begin + start * kind.itemsize
            mean = (total / sum(counts)).astype(kind)
            written[begin : begin + length] = np.frombuffer(mean.tobytes(), dtype=np.uint8)
    written.flush()


def _own_tensors(model: Path) -> dict[tuple[str, str], _Tensor]:
    """The tensors of a model; none of an adapter, whose configuration says what it and its base make together."""
    return {} if base_of(model) is not None else _tensors_of(model)


def _tensors_of(model: Path) -> dict[tuple[str, str], _Tensor]:
    """The tensors of a model by file and name."""
    found = {
        (path.name, name): tensor
        for path in sorted(model.glob(_WEIGHTS))
        for name, tensor in _read_header(path).items()
    }
    if not found:
        raise CheckpointError(f"{model}: has no weights ({_WEIGHTS}). Restore the model.")
    return found


def _read_header(path: Path) -> dict[str, _Tensor]:
    """What a safetensors file says it holds: eight bytes of length, then JSON."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > path.stat().st_size:
                raise ValueError("its header is longer than the file")
            header: dict[str, Any] = json.loads(file.read(length))
        return {
            name: _Tensor(entry["dtype"], tuple(entry["shape"]), 8 + length + entry["data_offsets"][0])
            for name, entry in header.items()
            if name != "__metadata__"
        }
    except (OSError, ValueError, KeyError, TypeError) as err:
        raise CheckpointError(f"{path}: cannot be read ({err}). Restore the model.") from err


def _configuration(model: Path) -> Mapping[str, Any]:
    try:
        found: Mapping[str, Any] = json.loads((model / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as err:
        raise CheckpointError(f"{model / 'config.json'}: cannot be read ({err}). Restore the model.") from err
    return found


def _differing(first: Mapping[str, Any], second: Mapping[str, Any]) -> str | None:
    for key in sorted(first.keys() | second.keys()):
        if first.get(key) != second.get(key) and not any(part in key for part in _NO_DIFFERENCE):
            return key
    return None
