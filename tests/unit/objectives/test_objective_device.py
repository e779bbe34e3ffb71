"""A trial that has a GPU computes there, or ends with the reason."""

from __future__ import annotations

import pytest
import torch

from objectives.finetune.device import choose_device
from sweep.errors import UserError

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="this host has a GPU")


def test_a_gpu_that_torch_cannot_use_is_an_error_and_never_the_cpu() -> None:
    words = r"resources\.gpus_per_trial=0\.5, but torch .* finds no GPU .*set resources\.gpus_per_trial to 0"
    with pytest.raises(UserError, match=words):
        choose_device(1, 0.5)


def test_without_gpus_a_trial_computes_on_the_cpu() -> None:
    assert choose_device(1, 0.0) == torch.device("cpu")
