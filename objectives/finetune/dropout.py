"""Dropout by the model's own configuration fields: each family names them differently."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sweep.errors import ModelError

_BERT = ("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout")
_LLAMA = ("attention_dropout",)

FIELDS: Mapping[str, tuple[str, ...]] = {
    "bert": _BERT,
    "roberta": _BERT,
    "xlm-roberta": _BERT,
    "camembert": _BERT,
    "electra": _BERT,
    "albert": ("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout_prob"),
    "deberta-v2": ("hidden_dropout_prob", "attention_probs_dropout_prob", "pooler_dropout"),
    "distilbert": ("dropout", "attention_dropout", "seq_classif_dropout"),
    "modernbert": ("attention_dropout", "embedding_dropout", "mlp_dropout", "classifier_dropout"),
    "gpt2": ("resid_pdrop", "embd_pdrop", "attn_pdrop", "summary_first_dropout"),
    "t5": ("dropout_rate", "classifier_dropout"),
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": _LLAMA,
    "gemma3_text": _LLAMA,
    "phi3": ("resid_pdrop", "embd_pdrop", "attention_dropout"),
}
"""Dropout fields by ``model_type``."""


def set_dropout(config: Any, dropout: float) -> None:
    """Set every dropout probability of a configuration, in place.

    Args:
        config: A transformers configuration.
        dropout: Probability, in [0, 1).

    Raises:
        ModelError: If the family is unknown, lacks a field, or the value is out of range.
    """
    if not 0 <= dropout < 1:
        raise ModelError(f"dropout: {dropout} is not in [0, 1). Give a share such as 0.1.")
    family = str(getattr(config, "model_type", "")) or type(config).__name__
    fields = FIELDS.get(family)
    if fields is None:
        raise ModelError(
            f"dropout: the configuration fields of the family {family!r} are unknown; known are "
            f"{', '.join(sorted(FIELDS))}. Leave `dropout` out to keep the model's own values."
        )
    for name in fields:
        if not hasattr(config, name):
            raise ModelError(
                f"dropout: the {family} configuration has no field {name!r}. Leave `dropout` out to keep its values."
            )
        setattr(config, name, dropout)
