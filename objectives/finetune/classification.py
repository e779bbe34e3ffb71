"""What classifiers of texts have in common: how texts are encoded, the head, weights against imbalance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from transformers import AutoModelForSequenceClassification

from objectives.data.pairs import encode_pairs
from objectives.data.rows import Rows
from objectives.data.task import Encoded
from objectives.data.tokens import token_ids
from objectives.finetune.models import Head
from objectives.finetune.task import Frame


def encode_texts(rows: Rows, tokenizer: Any, max_length: int) -> Encoded:
    """Token ids of texts, or of pairs where there is a ``text_pair``."""
    if "text_pair" in rows.columns:
        return encode_pairs(tokenizer, max_length, rows["text"], rows["text_pair"])
    return Encoded(ids=token_ids(tokenizer, max_length, rows["text"]))


def classification_head(known: Mapping[str, Any], problem_type: str) -> Head:
    """A logit for each class."""

    def configure(config: Any) -> None:
        name_labels(config, known)
        config.problem_type = problem_type

    return Head(part="classifier", auto=AutoModelForSequenceClassification, configure=configure)


def name_labels(config: Any, known: Mapping[str, Any]) -> None:
    """Set names and number of the classes and the padding token of a configuration, in place."""
    config.id2label = dict(enumerate(known["labels"]))
    config.label2id = {label: i for i, label in enumerate(known["labels"])}
    # Some families find the last token of a row by it, so it must be the one that rows are padded with.
    config.pad_token_id = known["pad_id"]


def class_weights(frame: Frame) -> npt.NDArray[np.float32] | None:
    """Weights of the classes, ``[classes]``, whose mean over the training rows is 1; None weighs all alike.

    ``balanced`` gives each class the same part in the loss: rows / (classes x rows of the class), King and Zeng 2001.
    """
    if frame.settings.get("class_weights", "none") == "none":
        return None
    counts = np.array([frame.data.meta["classes"]["train"][label] for label in frame.data.labels], dtype=np.float64)
    weights: npt.NDArray[np.float32] = (counts.sum() / (len(counts) * np.maximum(counts, 1))).astype(np.float32)
    return weights
