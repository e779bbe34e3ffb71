"""Corpora: documents from tables and from plain text."""

from __future__ import annotations

import re
from pathlib import Path

from objectives.data.files import Columns

_BLANK_LINES = re.compile(r"\n[ \t]*\n\s*")


def paragraphs(path: Path, text: str) -> Columns:
    """Documents of a plain text file: its paragraphs, which blank lines separate."""
    found = _BLANK_LINES.split(text.replace("\r\n", "\n").strip("\n"))
    return {"text": [paragraph for paragraph in found if paragraph.strip()]}
