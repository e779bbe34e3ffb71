"""The quick objective, whose evaluation of a finished model meets what the file named in its settings says."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sweep.testing.checkpointing_objective import QuickObjective

HANG_SECONDS = 600.0


class Obstructed(QuickObjective):
    """Setting ``obstacle`` names the file: ``fail``, ``hang``, ``nothing`` (no metrics), or no file."""

    def evaluate(self, model: Path, prepared: Path, split: str, settings: Mapping[str, Any]) -> Mapping[str, float]:
        obstacle = Path(str(settings["obstacle"]))
        match obstacle.read_text().strip() if obstacle.exists() else "":
            case "fail":
                raise ValueError("the judge is ill")
            case "hang":
                obstacle.with_suffix(".met").touch()
                time.sleep(HANG_SECONDS)
            case "nothing":
                return {}
        return super().evaluate(model, prepared, split, settings)
