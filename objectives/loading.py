"""Finding an objective by its task's name."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from typing import cast

from objectives.function import FunctionObjective, is_training
from sweep.errors import UserError
from sweep.ports import Objective

_TASKS = "objectives.tasks"


def task_names() -> list[str]:
    """Names of the tasks that come with the product."""
    package = importlib.import_module(_TASKS)
    return sorted(m.name.replace("_", "-") for m in pkgutil.iter_modules(package.__path__))


def load_objective(name: str) -> Objective:
    """Build the objective of a task.

    Args:
        name: A task's name such as ``text-classification``, or ``package.module:Class``, or
            ``package.module:function`` of a function ``train(hyperparameters, report)``.

    Raises:
        UserError: If there is no such task, module or class.
    """
    if ":" in name:
        module_name, _, class_name = name.partition(":")
    else:
        known = task_names()
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise UserError(
                f"task: {name!r} is unknown.{hint} Use one of {', '.join(known)}, or `package.module:Class`."
            )
        module_name, class_name = f"{_TASKS}.{name.replace('-', '_')}", "OBJECTIVE"
    try:
        module = importlib.import_module(module_name)
    except (ImportError, ValueError) as err:
        raise UserError(
            f"task: {name!r}: the module {module_name!r} cannot be imported ({err}). "
            "Install it, or put its folder on PYTHONPATH."
        ) from err
    found = getattr(module, class_name, None)
    if not callable(found):
        near = difflib.get_close_matches(class_name, dir(module), n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise UserError(f"task: {name!r}: {module_name} has no class {class_name!r}.{hint} Name a class of it.")
    return FunctionObjective(found) if is_training(found) else cast(Objective, found())
