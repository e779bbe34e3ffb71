"""From a file, a text or stored values to a spec; every problem is told at once."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from sweep.errors import InvalidSpecError
from sweep.spec import rules
from sweep.spec.checks import DEFAULT_TASK, Surroundings, check_study
from sweep.spec.credentials import is_spared
from sweep.spec.keys import SHORTHANDS
from sweep.spec.model import (
    BudgetSpec,
    ConfirmSpec,
    DataSpec,
    LimitsSpec,
    MetricSpec,
    ObjectiveSpec,
    OnSpec,
    PrunerSpec,
    ResourcesSpec,
    SamplerSpec,
    SearchSpec,
    StudySpec,
    TrackingSpec,
    TrainingSpec,
)
from sweep.spec.problems import Place, Problems, one_line
from sweep.spec.reading import Reader
from sweep.spec.references import expanded, still_meant
from sweep.spec.source import Node, Scalar, Table, read_yaml, tree_of, with_overrides

MAX_BYTES = 1024 * 1024
_BUNDLED = Path(__file__).with_name("bundled.yaml")


def load_spec(path: Path, overrides: Sequence[str] = (), environ: Mapping[str, str] = os.environ) -> StudySpec:
    """Load a study's spec.

    Args:
        path: The YAML file; relative paths inside start from its folder.
        overrides: ``a.b=c`` laid over the file, in their order; values are YAML.
        environ: Where ``${NAME}`` is looked up.

    Raises:
        InvalidSpecError: With all problems, one line each.
    """
    name = one_line(str(path))
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise InvalidSpecError(f"{name}: does not exist. Write one with 'sweep init {name}'.") from error
    except IsADirectoryError as error:
        raise InvalidSpecError(f"{name}: is a folder. Name the YAML file in it.") from error
    except (OSError, ValueError) as error:
        raise InvalidSpecError(f"{name}: cannot be read: {one_line(str(error))}. Mind its permissions.") from error
    if len(content) > MAX_BYTES:
        raise InvalidSpecError(f"{name}: is larger than 1 MiB, which no spec is. Is this the right file?")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise InvalidSpecError(f"{name}:{line}: is not UTF-8 text. Save the file as UTF-8.") from error
    folder = Path(os.path.abspath(path)).parent
    return parse_spec(text, place=name, folder=folder, overrides=overrides, environ=environ)


def parse_spec(
    text: str,
    *,
    place: str,
    folder: Path,
    overrides: Sequence[str] = (),
    environ: Mapping[str, str] = os.environ,
) -> StudySpec:
    """Read a study's spec from text.

    Args:
        text: The YAML.
        place: Name of the text in messages.
        folder: Where relative paths start.
        overrides: As in :func:`load_spec`.
        environ: As in :func:`load_spec`.

    Raises:
        InvalidSpecError: With all problems, one line each.
    """
    problems = Problems()
    return _study(_document(text, place, problems), folder, overrides, problems, environ)


def spec_from_resolved(
    data: Mapping[str, Any], *, needed: Collection[str] | None = None, environ: Mapping[str, str] = os.environ
) -> StudySpec:
    """The spec of a stored study; its files need not be there any more.

    Args:
        data: What :meth:`StudySpec.resolved` gave.
        needed: Keys such as ``history`` whose variables must be set; secrets elsewhere may keep the name of one that
            is not. None needs all.
        environ: Where ``${NAME}`` is looked up.

    Raises:
        InvalidSpecError: If the values are no spec.
    """
    place = Place(0, 0, "stored spec")
    tree = tree_of(data, place)
    table = tree if isinstance(tree, Table) else Table(place, {})
    return _study(table, Path("/"), (), Problems(), environ, must_exist=False, needed=needed)


def bundled_spec(storage: Path, overrides: Sequence[str] = ()) -> StudySpec:
    """The bundled study, which runs without a download.

    Args:
        storage: Storage root.
        overrides: As in :func:`load_spec`; relative paths start from the working folder.

    Raises:
        InvalidSpecError: If an override is wrong.
    """
    problems = Problems()
    table = _document(_BUNDLED.read_text(encoding="utf-8"), "bundled.yaml", problems)
    root = Scalar(table.place, os.path.abspath(storage), quoted=True)
    table = Table(table.place, {**table.entries, "storage": root})
    return _study(table, Path.cwd(), overrides, problems, os.environ)


def _document(text: str, name: str, problems: Problems) -> Table:
    place = Place(0, 1, name)
    if len(text) > MAX_BYTES:
        raise InvalidSpecError(f"{name}: is larger than 1 MiB, which no spec is. Is this the right file?")
    tree: Node | None = read_yaml(text, place, problems)
    if problems and tree is None:
        problems.raise_if_any()
    if tree is None or (isinstance(tree, Scalar) and tree.is_null):
        raise InvalidSpecError(f"{one_line(name)}:1: is empty. Write a spec with 'sweep init'.")
    if not isinstance(tree, Table):
        what = "a single value" if isinstance(tree, Scalar) else "a list"
        remedy = "Start with 'study: my-study'; 'sweep init' writes a whole one."
        raise InvalidSpecError(f"{one_line(str(tree.place))}: is {what}, not a mapping of keys. {remedy}")
    return tree


def _study(
    table: Table,
    folder: Path,
    overrides: Sequence[str],
    problems: Problems,
    environ: Mapping[str, str],
    *,
    must_exist: bool = True,
    needed: Collection[str] | None = None,
) -> StudySpec:
    table = with_overrides(table, overrides, SHORTHANDS, problems)
    told = len(problems)
    table, written = expanded(table, environ, problems, lambda keys: needed is not None and is_spared(keys, needed))
    if len(problems) > told:
        problems.raise_if_any()  # what the values break is not known yet
    task = _task(table)
    reader = Reader(problems, own=rules.is_own(task), task=task)
    found = reader.study(table)
    check_study(found, reader, Surroundings(folder=Path(os.path.abspath(folder)), must_exist=must_exist))
    problems.raise_if_any()
    spec = _built(found)
    return spec.model_copy(update={"references": still_meant(spec.resolved(), table, written)}) if written else spec


def _task(table: Table) -> str:
    objective = table.entries.get("objective")
    task = objective.entries.get("task") if isinstance(objective, Table) else None
    return task.text if isinstance(task, Scalar) and not task.is_null else DEFAULT_TASK


def _built(found: dict[str, Any]) -> StudySpec:
    objective, search = found["objective"], found["search"]
    return StudySpec(
        study=found["study"],
        objective=ObjectiveSpec(
            **{
                **objective,
                "data": DataSpec(**objective["data"]),
                "training": TrainingSpec(**objective.get("training", {})),
            }
        ),
        search=SearchSpec(
            **{
                **search,
                "sampler": SamplerSpec(**search.get("sampler", {})),
                "pruner": PrunerSpec(**search.get("pruner", {})),
            }
        ),
        metric=MetricSpec(**found["metric"]),
        budget=BudgetSpec(**found.get("budget", {})),
        confirm=None if found.get("confirm") is None else ConfirmSpec(**found["confirm"]),
        resources=ResourcesSpec(**found.get("resources", {})),
        limits=LimitsSpec(**found.get("limits", {})),
        on=_policies(found.get("on", {})),
        tracking=TrackingSpec(**found.get("tracking", {})),
        **{key: found[key] for key in ("storage", "history", "keep") if key in found},
    )


def _policies(found: Mapping[str, Mapping[str, Any]]) -> OnSpec:
    kinds = {name: info.annotation for name, info in OnSpec.model_fields.items()}
    return OnSpec(**{name: kinds[name](**values) for name, values in found.items()})  # type: ignore[misc]
