"""MLflow's client, patient with single failures: what may be asked twice is asked again at once."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from sweep.tracking.failures import FAILURES, is_refusal

PAUSES_SECONDS = (0.05, 0.1, 0.2, 0.4)

_ONCE = ("create_", "delete_", "restore_")
"""Requests that make or take away: they may have worked though they seemed to fail, so somebody has to look first."""


class PatientClient:
    """Stands before an ``MlflowClient`` and has its methods.

    A delivery takes many requests; where three of ten fail, hardly any would get through without this.

    Attributes:
        impatient: The client itself.
    """

    def __init__(self, client: Any) -> None:
        self.impatient = client

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.impatient, name)
        return method if name.startswith(_ONCE) else _repeating(method)


def _repeating(method: Callable[..., Any]) -> Callable[..., Any]:
    def call(*arguments: Any, **named: Any) -> Any:
        for pause in PAUSES_SECONDS:
            try:
                return method(*arguments, **named)
            except FAILURES as err:
                if is_refusal(err):
                    raise
                time.sleep(pause)
        return method(*arguments, **named)

    return call
