"""Dropout by the model's own configuration fields: each family names them differently."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sweep.errors import ModelError


@dataclass(frozen=True, slots=True, kw_only=True)
class Fields:
    """Fields of a family's configuration, by what is dropped.

    Attributes:
        hidden: Between the layers' parts, and after the embeddings.
        attention: Of the attention's weights.
        classifier: Before the classification head.
        layers: Share of the layers that a step leaves out (Fan et al., arXiv:1909.11556).
    """

    hidden: tuple[str, ...] = ()
    attention: tuple[str, ...] = ()
    classifier: tuple[str, ...] = ()
    layers: tuple[str, ...] = ()


_BERT = Fields(
    hidden=("hidden_dropout_prob",), attention=("attention_probs_dropout_prob",), classifier=("classifier_dropout",)
)
_LLAMA = Fields(attention=("attention_dropout",))
_MARIAN = Fields(
    hidden=("dropout", "activation_dropout"),
    attention=("attention_dropout",),
    layers=("encoder_layerdrop", "decoder_layerdrop"),
)
_BART = Fields(
    hidden=_MARIAN.hidden, attention=_MARIAN.attention, classifier=("classifier_dropout",), layers=_MARIAN.layers
)

FIELDS: Mapping[str, Fields] = {
    "bert": _BERT,
    "roberta": _BERT,
    "xlm-roberta": _BERT,
    "camembert": _BERT,
    "electra": _BERT,
    "albert": Fields(hidden=_BERT.hidden, attention=_BERT.attention, classifier=("classifier_dropout_prob",)),
    "deberta-v2": Fields(hidden=_BERT.hidden, attention=_BERT.attention, classifier=("pooler_dropout",)),
    "distilbert": Fields(
        hidden=("dropout",), attention=("attention_dropout",), classifier=("seq_classif_dropout", "qa_dropout")
    ),
    "modernbert": Fields(
        hidden=("embedding_dropout", "mlp_dropout"),
        attention=("attention_dropout",),
        classifier=("classifier_dropout",),
    ),
    "gpt2": Fields(hidden=("resid_pdrop", "embd_pdrop", "summary_first_dropout"), attention=("attn_pdrop",)),
    "t5": Fields(hidden=("dropout_rate",), classifier=("classifier_dropout",)),
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": _LLAMA,
    "gemma3_text": _LLAMA,
    "phi3": Fields(hidden=("resid_pdrop", "embd_pdrop"), attention=("attention_dropout",)),
    "bart": _BART,
    "mbart": _BART,
    "marian": _MARIAN,
    "m2m_100": _MARIAN,
    "whisper": _MARIAN,
    "wav2vec2": Fields(
        hidden=("hidden_dropout", "activation_dropout", "feat_proj_dropout"),
        attention=("attention_dropout",),
        classifier=("final_dropout",),
        layers=("layerdrop",),
    ),
}
"""Dropout fields by ``model_type``."""

KINDS = ("dropout", "attention_dropout", "classifier_dropout", "layer_drop")
"""The settings; ``dropout`` is for all but the layers, and gives way to the others."""


def apply_dropout(config: Any, settings: Mapping[str, Any]) -> None:
    """Set what the settings say of dropout in a configuration, in place; None leaves the model's own values.

    Raises:
        ModelError: If the family is unknown or has no such dropout, or a value is out of range.
    """
    for kind in KINDS:
        if settings.get(kind) is not None:
            set_dropout(config, float(settings[kind]), kind)


def set_dropout(config: Any, dropout: float, kind: str = "dropout") -> None:
    """Set the dropout probabilities of one kind in a configuration, in place.

    Args:
        config: A transformers configuration.
        dropout: Probability, in [0, 1).
        kind: One of ``KINDS``.

    Raises:
        ModelError: If the family is unknown, lacks a field, or the value is out of range.
    """
    if not 0 <= dropout < 1:
        raise ModelError(f"{kind}: {dropout} is not in [0, 1). Give a share such as 0.1.")
    family = str(getattr(config, "model_type", "")) or type(config).__name__
    if family not in FIELDS:
        raise ModelError(
            f"{kind}: the configuration fields of the family {family!r} are unknown; known are "
            f"{', '.join(sorted(FIELDS))}. Leave `{kind}` out to keep the model's own values."
        )
    names = fields_of(family, kind)
    if not names:
        having = ", ".join(sorted(known for known in FIELDS if fields_of(known, kind)))
        raise ModelError(f"{kind}: the family {family!r} has none; {having} have. Leave `{kind}` out.")
    for name in names:
        if not hasattr(config, name):
            raise ModelError(
                f"{kind}: the {family} configuration has no field {name!r}. Leave `{kind}` out to keep its values."
            )
        setattr(config, name, dropout)


def fields_of(family: str, kind: str) -> tuple[str, ...]:
    """Configuration fields that a kind of dropout sets in a family."""
    fields = FIELDS[family]
    if kind == "dropout":
        return (*fields.hidden, *fields.attention, *fields.classifier)
    return {"attention_dropout": fields.attention, "classifier_dropout": fields.classifier}.get(kind, fields.layers)
