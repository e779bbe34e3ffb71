"""Arrays that grow on disk: a split is written some rows at a time, whatever its size."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import numpy as np
import numpy.typing as npt

from objectives.data.batching import Array, Ragged


class GrowingArrays:
    """The arrays of a split; once closed they are what :func:`numpy.save` writes of the whole, byte for byte.

    Args:
        folder: Where they lie.
        split: Begins their names.

    Attributes:
        ragged: Which arrays there are, and whether each has rows of different lengths.
    """

    def __init__(self, folder: Path, split: str) -> None:
        self.ragged: dict[str, bool] = {}
        self._folder, self._split = folder, split
        self._files: dict[str, BinaryIO] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._dtypes: dict[str, np.dtype[np.generic]] = {}

    def append(self, rows: Mapping[str, Array]) -> None:
        """Add rows to all arrays.

        Args:
            rows: Values by the array's name.

        Raises:
            TypeError: If the arrays are not those of the rows before: others, or of another kind, shape or dtype.
        """
        found = {name: isinstance(values, Ragged) for name, values in rows.items()}
        if self.ragged and found != self.ragged:
            raise TypeError(f"{self._split}: rows have the arrays {found}, those before them {self.ragged}")
        self.ragged = found
        for name, values in rows.items():
            if not isinstance(values, Ragged):
                self._append(name, values)
                continue
            is_first, behind = name not in self._files, self._shapes.get(name, (0,))[0]
            self._append(name, values.values)
            self._append(f"{name}.offsets", values.offsets if is_first else values.offsets[1:] + behind)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name, file in self._files.items():
            with file:
                file.seek(0)
                # Numpy leaves room in a header for the number of rows to grow.
                _write_header(file, self._shapes[name], self._dtypes[name])

    def _append(self, name: str, values: npt.NDArray[np.generic]) -> None:
        if name not in self._files:
            self._files[name] = (self._folder / f"{self._split}.{name}.npy").open("w+b")
            self._shapes[name], self._dtypes[name] = (0, *values.shape[1:]), values.dtype
            _write_header(self._files[name], self._shapes[name], values.dtype)
        if (values.dtype, values.shape[1:]) != (self._dtypes[name], self._shapes[name][1:]):
            before = f"{self._dtypes[name]} of shape {self._shapes[name][1:]}"
            raise TypeError(f"{self._split}.{name}: {values.dtype} of shape {values.shape[1:]} follows {before}")
        self._files[name].write(np.ascontiguousarray(values).tobytes())
        self._shapes[name] = (self._shapes[name][0] + len(values), *values.shape[1:])


def _write_header(file: BinaryIO, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> None:
    described = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, described)
