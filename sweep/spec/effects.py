"""What a setting needs in order to do anything; declared beside it, see :mod:`sweep.spec.sections`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class OnlyWith:
    """A setting does nothing unless another one has a fitting value.

    Attributes:
        path: The other setting, from the top of the spec.
        fits: Whether a value of it gives this setting an effect.
        remedy: How to give it one, without a full stop.
    """

    path: str
    fits: Callable[[Any], bool]
    remedy: str


WITH_HUB_DATA = OnlyWith(
    "objective.data.source",
    lambda source: source is not None and not source.startswith("bundled:"),
    "Name a data set of the Hub under source",
)
WITH_STREAMING = OnlyWith("objective.data.streaming", bool, "Set streaming: true")


def _training(key: str) -> str:
    return f"objective.training.{key}"


WITH_ADAPTERS = OnlyWith(_training("method"), lambda method: method != "full", "Set method: lora or dora")
WITHOUT_ADAPTERS = OnlyWith(_training("method"), lambda method: method == "full", "Set method: full")
WITH_WSD = OnlyWith(_training("schedule"), lambda schedule: schedule == "wsd", "Set schedule: wsd")
WITH_PATIENCE = OnlyWith(_training("patience"), lambda patience: patience is not None, "Set patience")
WITHOUT_WARMUP_STEPS = OnlyWith(_training("warmup_steps"), lambda steps: steps is None, "Leave warmup_steps out")
WITH_RANDOM_WEIGHTS = OnlyWith(
    "objective.model", lambda model: model is None or model.startswith("random:"), "Begin with model: random:bert-tiny"
)
WITH_RUNGS = OnlyWith(
    "search.pruner.name",
    lambda name: name in ("successive-halving", "median"),
    "Set name: successive-halving or median",
)
WITH_HALVING = OnlyWith("search.pruner.name", lambda name: name == "successive-halving", "Set name: successive-halving")
WITH_FOLDS = OnlyWith("search.pruner.name", lambda name: name == "wilcoxon", "Set name: wilcoxon, and data.folds")
