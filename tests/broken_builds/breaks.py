"""Deliberate faults: for each promise, a change that breaks it and the test that must notice.

Each ``*.yaml`` beside this file is a list of entries: ``pain``, ``breaks``, ``file``, ``replace``, ``by``, ``test``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml

HERE = Path(__file__).parent
ROOT = HERE.parent.parent


@dataclass(frozen=True, slots=True, kw_only=True)
class Break:
    """One deliberate fault.

    Attributes:
        pain: What users suffer from without it: a number of the catalogue, or a word.
        breaks: What is broken, in words.
        file: Changed file, from the repository's root.
        replace: Text that stands there exactly once.
        by: What takes its place.
        test: pytest id of the test that must fail.
    """

    pain: int | str
    breaks: str
    file: str
    replace: str
    by: str
    test: str

    def apply(self, root: Path) -> None:
        """Break a copy of the tree."""
        path = root / self.file
        text = path.read_text(encoding="utf-8")
        if text.count(self.replace) != 1:
            raise ValueError(f"{self.file}: the text to replace stands there {text.count(self.replace)} times: {self}")
        path.write_text(text.replace(self.replace, self.by), encoding="utf-8")


def all_breaks() -> list[Break]:
    """Every fault, in the order of the files."""
    entries = [entry for path in sorted(HERE.glob("*.yaml")) for entry in yaml.safe_load(path.read_text()) or []]
    return [Break(**entry) for entry in entries]
