"""SQuAD files: questions on paragraphs, nested as Rajpurkar et al., arXiv:1606.05250, published them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from objectives.data.files import Columns
from sweep.errors import InvalidDataError


def read_squad(path: Path, text: str) -> Columns | None:
    """Questions, their paragraphs and answers; None if the file is an ordinary table.

    Raises:
        InvalidDataError: If it begins like a SQuAD file and is none.
    """
    try:
        articles = json.loads(text)["data"]
        if "paragraphs" not in articles[0]:
            return None
    # Whatever else it is, the reader of tables says what is wrong with it.
    except (ValueError, KeyError, IndexError, TypeError, RecursionError):
        return None
    columns: dict[str, list[Any]] = {"question": [], "context": [], "answers": []}
    try:
        for article in articles:
            for paragraph in article["paragraphs"]:
                for asked in paragraph["qas"]:
                    columns["question"].append(asked["question"])
                    columns["context"].append(paragraph["context"])
                    columns["answers"].append(
                        {name: [answer[name] for answer in asked["answers"]] for name in ("text", "answer_start")}
                        if "answers" in asked
                        else None
                    )
    except (KeyError, TypeError) as err:
        raise InvalidDataError(
            f"{path}: begins like a SQuAD file, but question {len(columns['answers']) + 1} lacks {err}. "
            "Write data, paragraphs, context, qas, question and answers with text and answer_start."
        ) from err
    return columns
