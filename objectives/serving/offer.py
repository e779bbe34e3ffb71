"""What a registry needs to know to serve a text classifier without this project."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_REQUIRED = ("torch", "transformers", "safetensors")
_EXAMPLE = ("An example of a text.", "Another one, to be labelled in the same request.")


def text_classifier_offer(settings: Mapping[str, Any]) -> dict[str, Any]:
    """See :meth:`sweep.ports.Deployable.serving`."""
    return {
        "code": str(Path(__file__).with_name("text_classifier.py")),
        "config": {
            "max_length": int(settings["max_length"]),
            "batch_size": int(settings["evaluation_batch_size"]),
            "trust_remote_code": False,
        },
        # A build's own suffix, as of CPU wheels, is in no index.
        "requirements": [f"{name}=={importlib.metadata.version(name).partition('+')[0]}" for name in _REQUIRED],
        # Without a name for the column, MLflow takes a plain text and a plain list as well as a table. Of a column of
        # strings it would make the text "None" of a null before the model sees it: the model checks by itself.
        "inputs": [{"type": "any", "required": True}],
        "outputs": [
            {"name": "label", "type": "string", "required": True},
            {"name": "probability", "type": "double", "required": True},
            {"name": "probabilities", "type": "map", "values": {"type": "double"}, "required": True},
        ],
        "example": {"columns": ["text"], "data": [[text] for text in _EXAMPLE]},
    }
