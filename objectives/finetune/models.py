"""Finding and loading models and tokenizers, whatever the reference."""

from __future__ import annotations

import copy
import difflib
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from transformers import AutoConfig, AutoTokenizer
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME

from objectives.bundled.model import MODEL_NAME, bundled_model
from objectives.finetune.dropout import apply_dropout
from objectives.finetune.layers import check_layers, keep_layers
from objectives.finetune.quantized import NONE, quantization_of, quantize
from objectives.finetune.quiet import silence_libraries
from objectives.finetune.regularisation import freeze
from objectives.finetune.scratch import is_random, random_config
from sweep.errors import ModelError

T = TypeVar("T")


def locate_model(reference: str, verify: bool = False) -> str:
    """Folder of a local or bundled model, or the Hub id as it is.

    Args:
        reference: ``bundled:minilm-l6``, a folder or a Hub id.
        verify: Hash the bundled weights.

    Raises:
        ModelError: If the reference cannot name a model.
    """
    if reference.startswith("bundled:"):
        if reference != MODEL_NAME:
            near = difflib.get_close_matches(reference, [MODEL_NAME], n=1, cutoff=0.4)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ModelError(f"model: {reference!r} is not bundled.{hint} The bundled model is {MODEL_NAME!r}.")
        return str(bundled_model(verify))
    folder = Path(reference)
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise ModelError(
                f"model: {folder} has no config.json: not a folder transformers can load. "
                "Save the model there with save_pretrained."
            )
        _refuse_pickle(folder)
        return str(folder)
    if reference.startswith(("/", ".", "~")) or reference.count("/") > 1 or ":" in reference:
        raise ModelError(
            f"model: {reference!r} is no folder here. Give a folder with config.json, a Hub id or {MODEL_NAME!r}."
        )
    return reference


def load_config(reference: str, verify: bool = False, *, trust_remote_code: bool = False) -> Any:
    """The model's configuration.

    Args:
        reference: See :func:`locate_model`.
        verify: Hash the bundled weights.
        trust_remote_code: Whether Python code that the model brings along may run.

    Raises:
        ModelError: If it cannot be loaded, or not without its own code.
    """
    silence_libraries()
    if is_random(reference):
        return random_config(reference)
    located = locate_model(reference, verify)

    def load() -> Any:
        return AutoConfig.from_pretrained(located, trust_remote_code=trust_remote_code)

    return _loading(reference, "configuration", load)


def load_tokenizer(reference: str, *, trust_remote_code: bool = False) -> Any:
    """The model's tokenizer, with a padding token.

    Args:
        reference: See :func:`locate_model`.
        trust_remote_code: Whether Python code that the model brings along may run.

    Raises:
        ModelError: If it cannot be loaded, not without its own code, or has no token to pad with.
    """
    silence_libraries()
    located = locate_model(reference)

    def load() -> Any:
        return AutoTokenizer.from_pretrained(located, trust_remote_code=trust_remote_code)

    tokenizer = _loading(reference, "tokenizer", load)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    if tokenizer.pad_token is None:
        raise ModelError(
            f"model: {reference}: its tokenizer has no padding, end or unknown token to pad with. Set its pad_token."
        )
    return tokenizer


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What a task makes of a pretrained model.

    Attributes:
        part: What it is called in messages.
        auto: The class of transformers that finds and builds it, such as ``AutoModelForSequenceClassification``.
        configure: Sets what the task needs in a configuration, in place.
    """

    part: str
    auto: Any
    configure: Callable[[Any], None]


def configured(config: Any, head: Head, settings: Mapping[str, Any]) -> Any:
    """Set what the task needs, and dropout, of a configuration, in place.

    Raises:
        ModelError: If the family has no such dropout.
    """
    head.configure(config)
    apply_dropout(config, settings)
    return config


def load_model(reference: str, head: Head, settings: Mapping[str, Any], *, trained: bool = False) -> torch.nn.Module:
    """The model with a task's head, layers cut and parts frozen, in fp32 on the CPU.

    A head that the model lacks, or all of a model that begins at random, is drawn from torch's global generator: seed
    it before. With adapters the base's linear maps may be held in four bits.

    Args:
        reference: See :func:`locate_model`.
        head: Of the task.
        settings: Training settings: ``dropout``, ``keep_layers``, ``freeze``, ``method``, ``quantization``,
            ``trust_remote_code``.
        trained: Whether it is a trial's own model: then every weight must fit, the head's too.

    Raises:
        ModelError: If it cannot be found, loaded or configured.
        UserError: If it cannot be quantised here.
    """
    trust = bool(settings.get("trust_remote_code"))
    config = configured(load_config(reference, trust_remote_code=trust), head, settings)
    if is_random(reference):
        new: torch.nn.Module = _loading(
            reference, head.part, lambda: head.auto.from_config(config, dtype=torch.float32)
        )
        return _shaped(new, settings)
    held = quantization_of(settings)
    model = load_weights(reference, head, config, trust_remote_code=trust, trained=trained, quantization=held)
    return _shaped(model, settings)


def load_weights(
    reference: str,
    head: Head,
    config: Any,
    *,
    trust_remote_code: bool = False,
    trained: bool = False,
    quantization: str = NONE,
) -> torch.nn.Module:
    """A model's weights in a configuration, in fp32 on the CPU; see :func:`load_model`.

    Args:
        reference: See :func:`locate_model`.
        head: Of the task.
        config: All of the model's layers, and the head's.
        trust_remote_code: Whether Python code that the model brings along may run.
        trained: Whether every weight must fit.
        quantization: How the linear maps of its layers are held.

    Raises:
        ModelError: If it cannot be found or loaded.
        UserError: If it cannot be quantised here.
    """
    located = locate_model(reference)
    model, told = _loading(
        reference,
        head.part,
        lambda: head.auto.from_pretrained(
            located,
            config=config,
            dtype=torch.float32,
            ignore_mismatched_sizes=not trained,
            use_safetensors=True,
            trust_remote_code=trust_remote_code,
            output_loading_info=True,
        ),
    )
    parameters = {name for name, _ in model.named_parameters()}
    lacking = {*told["missing_keys"], *(name for name, *_ in told["mismatched_keys"])}
    model.drawn_weights = sorted(parameters & lacking)
    _leave_fixed(model)
    if quantization != NONE:
        # While the weights are still mapped from the file: all of them in fp32 never lie in memory.
        quantize(model)
    _house(model)
    loaded: torch.nn.Module = model
    return loaded


def drawn_weights(model: torch.nn.Module) -> list[str]:
    """Names of the weights that were drawn at random, as the files that a model was loaded from lack them."""
    return list(getattr(model, "drawn_weights", ()))


def content_of_weights(reference: str) -> str:
    """Hash of the files that a model's weights are loaded from.

    Args:
        reference: See :func:`locate_model`; one of the Hub has been loaded before.

    Raises:
        ModelError: If they cannot be found.
    """
    folder = Path(locate_model(reference))
    if not folder.is_dir():
        from huggingface_hub import snapshot_download

        def fetched() -> str:
            return str(snapshot_download(reference, local_files_only=True, allow_patterns=["*.safetensors"]))

        folder = Path(_loading(reference, "weights", fetched))
    return _loading(reference, "weights", lambda: _content(folder))


def _content(folder: Path) -> str:
    total = hashlib.sha256()
    for name in _weight_files(folder):
        with (folder / name).open("rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()


def _weight_files(folder: Path) -> list[str]:
    """What transformers loads of a folder, which may hold more: one file, or those of an index."""
    if (folder / SAFE_WEIGHTS_NAME).is_file():
        return [SAFE_WEIGHTS_NAME]
    index = json.loads((folder / SAFE_WEIGHTS_INDEX_NAME).read_text(encoding="utf-8"))
    return sorted(set(index["weight_map"].values()))


def outline(config: Any, head: Head, settings: Mapping[str, Any]) -> torch.nn.Module:
    """The model of a configuration without memory for its weights, to count and check.

    Raises:
        ModelError: If the architecture has no such head or the settings do not fit it.
    """
    check_layers(config, settings.get("keep_layers"))

    def build() -> Any:
        with torch.device("meta"):
            return head.auto.from_config(config, trust_remote_code=bool(settings.get("trust_remote_code")))

    return _shaped(_loading(str(getattr(config, "model_type", "model")), head.part, build), settings)


def longest_input(config: Any, tokenizer: Any) -> int | None:
    """Tokens that model and tokenizer can take, or None if they name no limit."""
    limits = [getattr(config, "max_position_embeddings", None), getattr(tokenizer, "model_max_length", None)]
    known = [int(limit) for limit in limits if limit is not None and 0 < limit < 10**7]
    return min(known, default=None)


def _house(model: torch.nn.Module) -> None:
    """Give weights memory of torch's own, which is aligned: as mapped from a file they lie anywhere."""
    # Some kernels round by where their arguments lie: a resumed trial would differ from one that was never interrupted.
    for tensor in (*model.parameters(), *model.buffers()):
        tensor.data = tensor.data.clone()


def _shaped(model: torch.nn.Module, settings: Mapping[str, Any]) -> torch.nn.Module:
    if settings.get("keep_layers") is not None:
        keep_layers(model, settings["keep_layers"])
    freeze(model, settings.get("freeze") or ())
    return model


def _leave_fixed(model: Any) -> None:
    """Leave untrained what a model's class builds so, such as positions by sines: from_pretrained forgets it."""
    with torch.device("meta"):
        built = type(model)(copy.deepcopy(model.config))
    for name, parameter in built.named_parameters():
        if not parameter.requires_grad:
            model.get_parameter(name).requires_grad_(False)


def _refuse_pickle(folder: Path) -> None:
    """Weights in the old format can run code while they are read."""
    pickled = sorted(path.name for path in folder.glob("*.bin") if path.name.startswith("pytorch_model"))
    if pickled and not any(folder.glob("*.safetensors")):
        raise ModelError(
            f"model: {folder} has its weights in {pickled[0]} alone, a pickle, which can run code when it is read. "
            "Save it anew with save_pretrained (model.safetensors), where you trust it."
        )


def _loading(reference: str, part: str, load: Callable[[], T]) -> T:
    try:
        return load()
    except MemoryError:
        raise
    # The libraries raise freely on a configuration that somebody altered.
    except Exception as err:
        if "trust_remote_code" in str(err):
            raise ModelError(
                f"model: {reference!r} brings Python code of its own along, which is not run unasked. "
                "Read it; if you trust it, set objective.trust_remote_code: true, or give "
                "--trust-remote-code to `sweep verify`."
            ) from err
        reason = " ".join(str(err).split())[:400]
        raise ModelError(
            f"model: the {part} of {reference!r} cannot be loaded: {type(err).__name__}: {reason} "
            f"Check the name and the network, or give a local folder or {MODEL_NAME!r}."
        ) from err
