"""Scores of texts that a model wrote, from counts of each row: any choice of rows can be scored again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Counts = dict[str, npt.NDArray[np.float64]]
"""Columns of numbers, one entry a row."""

_TOKENIZERS = {"zh": "zh", "ja": "char", "ko": "char", "th": "char"}
_OTHERS = "13a"


def translation_counts(written: Sequence[str], right: Sequence[str], language: str) -> Counts:
    """What BLEU and chrF count in each row.

    Args:
        written: The model's texts.
        right: The right ones.
        language: Of both, such as ``zh``: decides BLEU's tokenizer; chrF needs none.
    """
    counts = {"exact": np.array([a.strip() == b.strip() for a, b in zip(written, right, strict=True)], dtype=float)}
    for name, metric in _metrics(language).items():
        # The counts behind its corpus score; a test holds them against the library's own.
        table = np.array(metric._extract_corpus_statistics(list(written), [list(right)]), dtype=float)
        counts |= {f"{name}_{column:02d}": table[:, column] for column in range(table.shape[1])}
    return counts


def translation_scores(counts: Mapping[str, Any]) -> dict[str, float]:
    """chrF (Popović 2015) and BLEU (Papineni et al. 2002) as sacrebleu gives them, and the share of exact rows.

    Args:
        counts: Columns of :func:`translation_counts`, of any choice of rows.

    Returns:
        ``chrf`` and ``bleu`` in [0, 100], ``exact_match`` in [0, 1].
    """
    found = {}
    for name, metric in _metrics().items():
        sums = [int(column.sum()) for column in _columns(counts, name)]
        found[name] = float(metric._compute_score_from_stats(sums).score)
    return {**found, "exact_match": float(np.mean(counts["exact"]))}


def sentence_chrf(counts: Mapping[str, Any]) -> npt.NDArray[np.float64]:
    """chrF of each row, ``[rows]``, in [0, 100]."""
    metric, table = _metrics()["chrf"], np.stack(_columns(counts, "chrf"), axis=1).astype(int)
    return np.array([metric._compute_score_from_stats(row).score for row in table.tolist()], dtype=float)


def _columns(counts: Mapping[str, Any], name: str) -> list[npt.NDArray[np.float64]]:
    return [np.asarray(counts[key]) for key in sorted(counts) if key.startswith(f"{name}_")]


def _metrics(language: str = "") -> dict[str, Any]:
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    family = language.lower().replace("_", "-").split("-")[0]
    return {"chrf": CHRF(), "bleu": BLEU(tokenize=_TOKENIZERS.get(family, _OTHERS))}


def transcription_counts(written: Sequence[str], right: Sequence[str]) -> Counts:
    """Errors (substitutions, deletions, insertions) in words and characters of each row, and how many are right.

    Args:
        written: The model's texts.
        right: The right ones, none blank.
    """
    import jiwer

    rows = []
    for one, other in zip(written, right, strict=True):
        words, characters = jiwer.process_words(other, one), jiwer.process_characters(other, one)
        rows.append([part for found in (words, characters) for part in (_errors(found), _length(found))])
    table = np.array(rows, dtype=float).reshape(-1, 4)
    return dict(zip(("word_errors", "words", "character_errors", "characters"), table.T, strict=True))


def transcription_scores(counts: Mapping[str, Any]) -> dict[str, float]:
    """Word and character error rate over all rows: errors by right words or characters; above 1 if it writes more."""
    return {
        "wer": float(np.sum(counts["word_errors"]) / np.sum(counts["words"])),
        "cer": float(np.sum(counts["character_errors"]) / np.sum(counts["characters"])),
    }


def _errors(found: Any) -> int:
    return int(found.substitutions + found.deletions + found.insertions)


def _length(found: Any) -> int:
    return int(found.hits + found.substitutions + found.deletions)
