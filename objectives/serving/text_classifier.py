"""Serves a text classifier through MLflow: text in, label and probabilities out.

This file is copied into every registered model and runs where Sweep is not installed: it needs torch, transformers and
what comes with MLflow.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer


class TextClassifier:
    """A fine-tuned classifier with its tokenizer.

    Args:
        folder: The model.
        config: ``max_length`` in tokens, longer texts are cut; ``batch_size`` in texts; ``trust_remote_code``, whether
            Python code that the model brings along may run.
    """

    def __init__(self, folder: str, config: Mapping[str, Any]) -> None:
        trust = bool(config.get("trust_remote_code"))
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        model = AutoModelForSequenceClassification.from_pretrained(
            folder, dtype=torch.float32, use_safetensors=True, trust_remote_code=trust
        )
        self._model = model.to(self._device).eval()
        self._tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust)
        if self._tokenizer.pad_token is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token or self._tokenizer.unk_token
        self._labels = [model.config.id2label[number] for number in range(model.config.num_labels)]
        self._max_length = int(config["max_length"])
        self._batch_size = int(config["batch_size"])

    def predict(self, model_input: Any, params: Mapping[str, Any] | None = None) -> pd.DataFrame:
        """Label, its probability, and the probability of each label.

        Args:
            model_input: A data frame with the texts in its first column, a list of texts, or one text.
            params: Not used; MLflow passes it.

        Returns:
            A row for each text, in order: ``label``, ``probability``, ``probabilities`` by label.

        Raises:
            ValueError: If a row is null or another thing than a text; a server answers it with status 400.
        """
        texts = _texts(model_input)
        probabilities = np.empty((len(texts), len(self._labels)))
        for start in range(0, len(texts), self._batch_size):
            batch = texts[start : start + self._batch_size]
            probabilities[start : start + len(batch)] = self._probabilities(batch)
        best = probabilities.argmax(1)
        return pd.DataFrame(
            {
                "label": [self._labels[number] for number in best],
                "probability": [float(row[number]) for row, number in zip(probabilities, best, strict=True)],
                "probabilities": [dict(zip(self._labels, map(float, row), strict=True)) for row in probabilities],
            }
        )

    def _probabilities(self, texts: list[str]) -> Any:
        batch = self._tokenizer(
            texts,
            padding=True,
            truncation=True,
            max_length=self._max_length,
            return_token_type_ids=False,
            return_tensors="pt",
        )
        with torch.inference_mode():
            logits = self._model(**batch.to(self._device)).logits
        return logits.double().softmax(-1).cpu().numpy()


def _texts(model_input: Any) -> list[str]:
    if isinstance(model_input, pd.DataFrame):
        model_input = model_input.iloc[:, 0].tolist()
    texts = [model_input] if isinstance(model_input, str) else list(model_input)
    for number, text in enumerate(texts):
        if not isinstance(text, str):
            found = "null" if pd.api.types.is_scalar(text) and pd.isna(text) else repr(text)
            raise ValueError(f"row {number}: {found} is no text. Give one text, or a list or column of texts.")
    return texts


def _load_pyfunc(path: str, model_config: Mapping[str, Any]) -> TextClassifier:
    """What MLflow calls."""
    return TextClassifier(path, model_config)
