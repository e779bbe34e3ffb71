"""Everything a trial needs, imported: the warm parent preloads this module, its children start at once.

Starts no thread and touches no CUDA, so that forking stays safe. The ``datasets`` library is left out: only
preparing a data set of the Hub needs it, and Arrow's allocator keeps a thread of its own.
"""

from __future__ import annotations

import os

os.environ |= {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "DISABLE_SAFETENSORS_CONVERSION": "1",  # transformers would ask a service on the network to convert a model
}
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")

import safetensors.torch  # noqa: F401
import torch  # noqa: F401
from transformers import (  # noqa: F401
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertForSequenceClassification,
)

import objectives.tasks.text_classification  # noqa: F401
from objectives.finetune.quiet import silence_libraries

silence_libraries()
