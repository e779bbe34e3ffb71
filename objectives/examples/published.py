"""Data sets that others have published: which files, where, under which licence, and how to know them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from sweep.errors import InvalidDataError

_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A data set in a sub-folder of a folder of data sets.

    Attributes:
        name: Of the sub-folder.
        files: Names or patterns of its files.
        page: Where they are published, at the revision that is meant.
        licence: As its publishers state it.
        sha256: Of all files one after another, in the order of their names.
    """

    name: str
    files: tuple[str, ...]
    page: str
    licence: str
    sha256: str

    def found_in(self, folder: Path) -> list[Path]:
        """Its files, by name.

        Raises:
            InvalidDataError: If one is missing, or they are not the published ones.
        """
        place = folder / self.name
        found = {pattern: sorted(place.glob(pattern)) for pattern in self.files}
        missing = [pattern for pattern, files in found.items() if not files]
        if missing:
            raise InvalidDataError(
                f"{place}: there is no {', '.join(missing)}. Fetch it from {self.page} ({self.licence}) into this "
                "folder, or name the folder above it with --data."
            )
        files = sorted(file for some in found.values() for file in some)
        digest = hashlib.sha256()
        for file in files:
            with file.open("rb") as stream:
                while block := stream.read(_BLOCK):
                    digest.update(block)
        if digest.hexdigest() != self.sha256:
            raise InvalidDataError(
                f"{place}: {len(files)} files have the sha256 {digest.hexdigest()}, not {self.sha256}: they are not "
                f"those of {self.page}. Fetch them again."
            )
        return files


SNIPS = Published(
    name="snips",
    files=("train_*_full.json", "validate_*.json"),
    page="https://github.com/sonos/nlu-benchmark/tree/b86ac7f1577868c42158d0dec77db50956046696"
    "/2017-06-custom-intent-engines",
    licence="CC0 1.0",
    sha256="2c884c52f56b9cbda598f9b42c0d69759891475abaf54c136b7f11382ee49128",
)
WNUT17 = Published(
    name="wnut17",
    files=("wnut17train.conll", "emerging.dev.conll", "emerging.test.annotated"),
    page="https://github.com/leondz/emerging_entities_17/tree/e52a2d2a71ac1a051ca2d532eef28653c5c02603",
    licence="CC BY 4.0",
    sha256="ea002d2f6a1d91faa7bffd1457796d2e8d12fcccb1c1be633db629795069087d",
)
XQUAD = Published(
    name="xquad",
    files=("xquad.en.json",),
    page="https://github.com/google-deepmind/xquad/tree/7d30520c717524000f0d9d2f9c10a069acd9d285",
    licence="CC BY-SA 4.0",
    sha256="e4c57d1c9143aaa1c5d265ba5987a65f4e69528d2a98f29d6e75019b10344f29",
)
SHAKESPEARE = Published(
    name="tinyshakespeare",
    files=("input.txt",),
    page="https://github.com/karpathy/char-rnn/tree/6f9487a6fe5b420b7ca9afb0d7c078e37c1d1b4e/data/tinyshakespeare",
    licence="Shakespeare's text; the repository MIT",
    sha256="86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
)
TATOEBA = Published(
    name="tatoeba_en_zh",
    files=("cmn.txt",),
    page="https://github.com/sunlanchang/Seq2Seq-for-NMT/tree/a7cfaa2a529d3a15d741e6d48568a517f95cb1a1/data",
    licence="CC BY 2.0 FR",
    sha256="e1439be4f55aeb39f30c478aa6372dec93764475395eefbb9bce49e768a3bba2",
)
DIGITS = Published(
    name="fsdd_subset",
    files=tuple(f"[0-9]_*_{take}.wav" for take in (0, 1, 2, 5, 6)),
    page="https://github.com/Jakobovski/free-spoken-digit-dataset/tree/26eb9aaf76e81b692f806f9140c2d2777410d7a1"
    "/recordings",
    licence="CC BY-SA 4.0",
    sha256="e5be62a8c6dac123366c0abfd99a4b75d9ead25c55ff2a095f019ca2fc514cf9",
)
