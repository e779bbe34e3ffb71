"""Files that an evaluation shows."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path

from objectives.finetune.scores import Confusion, class_report


def write_confusion(folder: Path, confusion: Confusion, labels: Sequence[str]) -> None:
    """Write the confusion matrix (JSON and CSV) and the scores of each class (JSON), each atomically.

    Args:
        folder: Where to write; made if missing.
        confusion: Counts ``[true class, predicted class]``.
        labels: Names of the classes, by id.
    """
    folder.mkdir(parents=True, exist_ok=True)
    matrix = {"labels": list(labels), "rows": "true", "columns": "predicted", "matrix": confusion.tolist()}
    table = io.StringIO(newline="")
    writer = csv.writer(table)
    writer.writerow(["true \\ predicted", *labels])
    for label, counts in zip(labels, confusion.tolist(), strict=True):
        writer.writerow([label, *counts])
    write_artifact(folder / "confusion_matrix.json", json.dumps(matrix, ensure_ascii=False, indent=1))
    write_artifact(folder / "confusion_matrix.csv", table.getvalue())
    report = {"classes": class_report(confusion, labels)}
    write_artifact(folder / "classification_report.json", json.dumps(report, ensure_ascii=False, indent=1))


def write_scores(
    folder: Path, labels: Sequence[str], hits: Sequence[int], given: Sequence[int], right: Sequence[int]
) -> None:
    """Write the scores of each class (JSON), atomically.

    Args:
        folder: Where to write; made if missing.
        labels: Names of the classes.
        hits: Right answers of each.
        given: Answers of each.
        right: Right ones that there were of each.
    """
    folder.mkdir(parents=True, exist_ok=True)
    classes = [
        {
            "label": label,
            "precision": hit / max(1, all_given),
            "recall": hit / max(1, all_right),
            "f1": 2 * hit / max(1, all_given + all_right),
            "support": all_right,
        }
        for label, hit, all_given, all_right in zip(
            labels, map(int, hits), map(int, given), map(int, right), strict=True
        )
    ]
    write_artifact(
        folder / "classification_report.json", json.dumps({"classes": classes}, ensure_ascii=False, indent=1)
    )


def write_artifact(path: Path, content: str) -> None:
    """Write a text file atomically; its folder exists."""
    temporary = path.with_name(f".{path.name}.new")
    try:
        temporary.write_text(content, encoding="utf-8", newline="")
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
