"""Models that begin from random weights: ``random:bert-tiny`` and the like, or ``random:`` and a configuration file."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from objectives.data.tokenizer_training import Algorithm, Role, TokenizerRecipe
from objectives.finetune.quiet import silence_libraries
from sweep.errors import ModelError

PREFIX = "random:"

_SIZES: Mapping[str, tuple[int, int]] = {"tiny": (2, 128), "mini": (4, 256), "small": (4, 512)}
"""Layers and width, as of the BERT miniatures of Turc et al., arXiv:1908.08962; heads have 64 each."""

_AUDIO_WIDTHS: Mapping[str, tuple[int, int]] = {"tiny": (2, 64), "mini": (4, 128), "small": (6, 256)}

_POSITIONS = 512
_ENCODERS = (
    "bert",
    "distilbert",
    "electra",
    "roberta",
    "xlm-roberta",
    "camembert",
    "albert",
    "deberta-v2",
    "modernbert",
)

VOCABULARY_SIZE = 8_000
"""Tokens of a trained tokenizer, where the spec names no number."""


def _bert(layers: int, width: int) -> dict[str, Any]:
    return {
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": width // 64,
        "intermediate_size": 4 * width,
        "max_position_embeddings": _POSITIONS,
    }


def _gpt2(layers: int, width: int) -> dict[str, Any]:
    return {"n_embd": width, "n_layer": layers, "n_head": width // 64, "n_positions": _POSITIONS}


def _t5(layers: int, width: int) -> dict[str, Any]:
    return {
        "d_model": width,
        "d_kv": 64,
        "d_ff": 4 * width,
        "num_layers": layers,
        "num_heads": width // 64,
        "feed_forward_proj": "relu",
    }


def _wav2vec2(layers: int, width: int) -> dict[str, Any]:
    return {
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": width // 32,
        "intermediate_size": 4 * width,
        # As in the original, a frame is 20 ms of 16 kHz: the product of the strides is 320.
        "conv_dim": [width // 2, width, width, width],
        "conv_stride": [8, 5, 4, 2],
        "conv_kernel": [16, 9, 8, 4],
        "num_feat_extract_layers": 4,
        "num_conv_pos_embeddings": 15,
        "num_conv_pos_embedding_groups": 4,
        "feat_extract_norm": "layer",
        "do_stable_layer_norm": True,
        "layerdrop": 0.0,
        "mask_time_prob": 0.0,
    }


def _whisper(layers: int, width: int) -> dict[str, Any]:
    return {
        "d_model": width,
        "encoder_layers": layers,
        "decoder_layers": layers,
        "encoder_attention_heads": width // 32,
        "decoder_attention_heads": width // 32,
        "encoder_ffn_dim": 4 * width,
        "decoder_ffn_dim": 4 * width,
        "max_target_positions": 128,
        "max_source_positions": 500,  # a window of 10 seconds
    }


_FAMILIES: Mapping[str, tuple[Callable[[int, int], dict[str, Any]], Mapping[str, tuple[int, int]]]] = {
    "bert": (_bert, _SIZES),
    "gpt2": (_gpt2, _SIZES),
    "t5": (_t5, _SIZES),
    "wav2vec2": (_wav2vec2, _AUDIO_WIDTHS),
    "whisper": (_whisper, _AUDIO_WIDTHS),
}

NAMES = tuple(f"{family}-{size}" for family, (_, sizes) in _FAMILIES.items() for size in sizes)
"""Shapes that have a name."""


def is_random(reference: str) -> bool:
    """Whether a model's reference asks for random weights."""
    return reference.startswith(PREFIX)


def random_config(reference: str) -> Any:
    """The configuration of a model that begins from random weights, without a vocabulary of its own yet.

    Args:
        reference: ``random:`` and one of :data:`NAMES`, or the path of a ``config.json`` (or of its folder).

    Raises:
        ModelError: If there is no such shape or file.
    """
    from transformers import AutoConfig

    silence_libraries()
    name = reference.removeprefix(PREFIX)
    if name in NAMES:
        family, _, size = name.rpartition("-")
        shape, sizes = _FAMILIES[family]
        return AutoConfig.for_model(family, **shape(*sizes[size]))
    path = Path(name)
    file = path / "config.json" if path.is_dir() else path
    if not file.is_file():
        near = difflib.get_close_matches(name, NAMES, n=1)
        hint = f" Did you mean {PREFIX + near[0]!r}?" if near else ""
        raise ModelError(
            f"model: {reference!r} is neither a known shape nor a file.{hint} Use {PREFIX} and one of "
            f"{', '.join(NAMES)}, or the path of a config.json."
        )
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        return AutoConfig.for_model(values.pop("model_type"), **values)
    # The library raises freely on values that do not fit.
    except Exception as err:
        reason = " ".join(str(err).split())[:400]
        raise ModelError(
            f"model: {file} is no configuration that transformers knows: {type(err).__name__}: {reason} "
            "It needs a model_type and that family's keys."
        ) from err


def recipe(config: Any, data: Mapping[str, Any], columns: tuple[str, ...]) -> TokenizerRecipe:
    """How the tokenizer of a model that begins at random is trained.

    Args:
        config: Of the model.
        data: The ``data`` part of the objective's settings: ``tokenizer`` and ``vocabulary_size``.
        columns: Parts of the data that hold text.
    """
    role: Role = "decoder"
    if config.is_encoder_decoder:
        role = "encoder-decoder"
    elif config.model_type in _ENCODERS:
        role = "encoder"
    usual: Algorithm = "wordpiece" if role == "encoder" else "byte-bpe"
    return TokenizerRecipe(
        algorithm=data.get("tokenizer") or usual,
        role=role,
        vocabulary_size=data.get("vocabulary_size") or VOCABULARY_SIZE,
        columns=columns,
    )


def fit_vocabulary(config: Any, known: Mapping[str, Any]) -> None:
    """Give a configuration the vocabulary and the special tokens of the study's tokenizer, in place.

    Decoders of sequence-to-sequence models begin with the padding token, as T5 does.

    Args:
        config: Of the model.
        known: What is known about the data: ``vocabulary``, ``pad_id``, ``bos_id``, ``eos_id``.
    """
    config.vocab_size = known["vocabulary"]
    config.pad_token_id = known["pad_id"]
    config.bos_token_id = known.get("bos_id")
    config.eos_token_id = known.get("eos_id")
    if config.is_encoder_decoder:
        config.decoder_start_token_id = known["pad_id"]
    if hasattr(config, "begin_suppress_tokens"):
        config.begin_suppress_tokens = None  # they are of another vocabulary
