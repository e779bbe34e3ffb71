"""The import graph keeps the walls between the rooms."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = {"search", "execution", "tracking", "checkpoints", "selection", "deployment"}
OWNERS = {
    "optuna": {"sweep.search", "dashboards"},
    "ray": {"sweep.execution"},
    "mlflow": {"sweep.tracking", "dashboards"},
    "torch": {"objectives"},
    "transformers": {"objectives"},
    "datasets": {"objectives"},
}
BELOW = {
    "sweep.errors": set(),
    "sweep.redaction": {"sweep.redaction"},
    "sweep.strict_json": set(),
    "sweep.durable": set(),
    "sweep.domain": {"sweep.errors"},
    "sweep.layout": {"sweep.errors", "sweep.domain"},
    "sweep.ports": {"sweep.errors", "sweep.domain", "sweep.layout", "sweep.ports"},
    "sweep.teams": {"sweep.domain"},
    "sweep.spec": {"sweep.errors", "sweep.redaction", "sweep.domain", "sweep.layout", "sweep.spec"},
    "sweep.engine": {"sweep.errors", "sweep.domain", "sweep.layout", "sweep.ports", "sweep.spec", "sweep.engine"},
    "objectives": {
        "sweep.errors",
        "sweep.domain",
        "sweep.ports",
        "sweep.teams",
        "sweep.checkpoints",
        "objectives",
    },
}
FOUNDATION = {
    "sweep.redaction",
    "sweep.strict_json",
    "sweep.durable",
    "sweep.errors",
    "sweep.domain",
    "sweep.layout",
    "sweep.ports",
    "sweep.teams",
    "sweep.spec",
}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def sources() -> list[Path]:
    return [path for top in ("sweep", "objectives", "dashboards") for path in sorted((ROOT / top).rglob("*.py"))]


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            if node.module in {"sweep", "objectives"}:
                yield from (f"{node.module}.{alias.name}" for alias in node.names)
            else:
                yield node.module


def room_of(module: str) -> str:
    parts = module.split(".")
    return ".".join(parts[:2]) if parts[0] == "sweep" else parts[0]


@pytest.mark.parametrize("path", sources(), ids=module_name)
def test_heavy_libraries_are_imported_only_in_their_room(path: Path) -> None:
    room = room_of(module_name(path))
    for name in imports(path):
        owners = OWNERS.get(name.split(".")[0])
        assert owners is None or room in owners, f"{module_name(path)} imports {name}"


@pytest.mark.parametrize("path", sources(), ids=module_name)
def test_rooms_import_only_what_lies_below_them(path: Path) -> None:
    module = module_name(path)
    room = room_of(module)
    for name in imports(path):
        target = room_of(name)
        if name.split(".")[0] not in {"sweep", "objectives", "dashboards"} or name in {"sweep.__version__"}:
            continue
        if room in BELOW:
            assert target in BELOW[room], f"{module} imports {name}"
        elif room.removeprefix("sweep.") in ROOMS:
            assert target in FOUNDATION | {room}, f"{module} imports {name}"
        elif room.startswith("sweep"):
            assert target not in {"objectives", "dashboards"}, f"{module} imports {name}"


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("sweep.cli.main", ("torch", "transformers", "datasets", "ray", "mlflow", "optuna", "scipy", "numpy")),
        ("sweep.spec", ("torch", "transformers", "ray", "mlflow", "optuna", "numpy")),
        ("sweep.wiring", ("torch", "transformers", "datasets", "mlflow")),
        ("sweep.execution.warm_parent", ("torch", "transformers", "ray", "mlflow", "optuna")),
    ],
)
def test_importing_a_light_module_loads_no_heavy_library(module: str, heavy: tuple[str, ...]) -> None:
    code = f"import sys, {module}; print(*[m for m in {heavy!r} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == []


def test_a_forbidden_import_would_be_noticed(tmp_path: Path) -> None:
    file = tmp_path / "offender.py"
    file.write_text("def f():\n    from optuna import create_study\n    import sweep.search.store\n")
    assert list(imports(file)) == ["optuna", "sweep.search.store"]
