"""What a result depends on besides the spec: versions, Python, machine."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from typing import Any

import sweep

SHOWN = ("torch", "transformers", "datasets", "optuna", "mlflow", "ray")


def describe_environment() -> dict[str, Any]:
    """Versions of everything installed, and the machine; imports none of the packages."""
    packages = {
        distribution.metadata["Name"]: distribution.version
        for distribution in importlib.metadata.distributions()
        if distribution.metadata["Name"]
    }
    return {
        "sweep": sweep.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count() or 1,
        **{name: packages[name] for name in SHOWN if name in packages},
        "packages": dict(sorted(packages.items())),
    }
