"""A text classifier as an ONNX file, held against the weights it comes from."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

from objectives.data.batching import TokenRows, padded
from sweep.errors import UserError, VerificationError

TOLERANCE = 1e-4
"""Largest difference of a logit, as a share of the largest logit where that is above 1: fp32 sums in another order."""

_PACKAGES = ("onnx", "onnxruntime", "onnxscript")
_PARITY_ROWS = 256
_BATCH_ROWS = 16
_LARGEST_SINGLE_FILE_BYTES = 1_800_000_000
"""Protocol buffers end at 2 GiB; larger weights lie in a file beside it."""


class _Logits(torch.nn.Module):
    """The part of a classifier that the file holds."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self._model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Any:
        """Logits ``[batch, classes]`` of token ids and mask, both ``[batch, length]``, int64."""
        return self._model(input_ids=input_ids, attention_mask=attention_mask).logits


def write_onnx(model: torch.nn.Module, rows: TokenRows, file: Path, *, max_length: int, pad_id: int) -> dict[str, Any]:
    """Write a classifier as ONNX with free batch and length, and compare both on real rows.

    Args:
        model: A transformers classifier in fp32 on the CPU; put into evaluation mode.
        rows: Rows to compare on; at most 256 are used, short and long ones.
        file: Written.
        max_length: Tokens; longer rows are truncated.
        pad_id: Padding token.

    Returns:
        ``max_difference`` of the logits, ``rows`` compared, ``file``'s name.

    Raises:
        UserError: If a package is missing, or rows are pairs.
        VerificationError: If the architecture cannot be written, or the two disagree.
    """
    if rows.others:
        raise UserError("--onnx: classifiers of two texts are not written as ONNX. Export without --onnx.")
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f"--onnx: {', '.join(missing)} not installed. `pip install 'sweep-finetune[onnx]'`.")
    module = _Logits(model).eval()
    order = np.argsort(rows.lengths(max_length), kind="stable")
    order = order[np.unique(np.linspace(0, len(order) - 1, _PARITY_ROWS).astype(np.int64))]
    # Two rows: the exporter takes a batch of one for a constant.
    _write(module, _inputs(rows, np.resize(order[-2:], 2), max_length, pad_id), file)
    largest, difference = 1.0, 0.0
    run = _session(file)
    # One row alone, and batches of several lengths: what was fixed by accident shows.
    for batch in [order[:1], *(order[i : i + _BATCH_ROWS] for i in range(0, len(order), _BATCH_ROWS))]:
        ids, mask = _inputs(rows, batch, max_length, pad_id)
        with torch.inference_mode():
            wanted = module(ids, mask).numpy()
        found = run(ids.numpy(), mask.numpy())
        largest = max(largest, float(np.abs(wanted).max()))
        # A NaN in either must not pass.
        difference = float(np.fmax(difference, np.nan_to_num(np.abs(wanted - found).max(), nan=np.inf)))
    if difference > TOLERANCE * largest:
        raise VerificationError(
            f"--onnx: logits differ by up to {difference:.2e} from the weights' on {len(order)} rows, more than "
            f"{TOLERANCE * largest:.0e}. Nothing was written; export without --onnx."
        )
    return {"max_difference": difference, "rows": len(order), "file": file.name}


def _inputs(rows: TokenRows, batch: Any, max_length: int, pad_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    ids, mask = padded(rows, batch, max_length, pad_id)
    return torch.from_numpy(ids), torch.from_numpy(mask)


def _write(module: torch.nn.Module, example: tuple[torch.Tensor, torch.Tensor], file: Path) -> None:
    axes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("length")}
    weights = sum(parameter.numel() * parameter.element_size() for parameter in module.parameters())
    said = io.StringIO()
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            warnings.simplefilter("ignore")
            logging.getLogger("torch.onnx").setLevel(logging.ERROR)
            torch.onnx.export(
                module,
                example,
                str(file),
                dynamo=True,
                input_names=["input_ids", "attention_mask"],
                output_names=["logits"],
                dynamic_shapes=(axes, axes),
                external_data=weights > _LARGEST_SINGLE_FILE_BYTES,
                verbose=False,
            )
    # The exporter raises freely on an architecture it does not know.
    except Exception as err:
        reason = " ".join(str(err).split())[:300]
        raise VerificationError(
            f"--onnx: this model cannot be written as ONNX: {type(err).__name__}: {reason} Export without --onnx."
        ) from err


def _session(file: Path) -> Any:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])

    def run(ids: Any, mask: Any) -> Any:
        return session.run(["logits"], {"input_ids": ids, "attention_mask": mask})[0]

    return run
