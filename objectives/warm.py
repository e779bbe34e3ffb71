"""Everything a trial needs, imported: the warm parent preloads this module, its children start at once.

Starts no thread and touches no CUDA, so that forking stays safe.
"""

from __future__ import annotations

import os

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")

import datasets
import datasets.utils.logging
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
datasets.disable_progress_bars()
datasets.utils.logging.set_verbosity_error()
