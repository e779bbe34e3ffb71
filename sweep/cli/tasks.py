"""``sweep tasks``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sweep.cli.options import JsonOption, print_json
from sweep.errors import UserError

if TYPE_CHECKING:
    from sweep.spec.tasks import Setting, TaskSheet


def tasks(
    task: Annotated[str | None, typer.Argument(metavar="[TASK]", help="Show one task in full.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List the tasks: the columns that each reads, its metrics and its own settings.

    Example: `sweep tasks token-classification`
    """
    from sweep.spec.problems import suggestion
    from sweep.spec.tasks import task_sheets

    sheets = task_sheets()
    if task is not None and task not in sheets:
        raise UserError(f"{task}: is not a known task. {suggestion(task, sheets)}")
    chosen = list(sheets) if task is None else [task]
    if as_json:
        print_json([_as_json(name, sheets[name]) for name in chosen])
    elif task is None:
        width = max(map(len, sheets))
        for name, sheet in sheets.items():
            typer.echo(f"{name:{width}}  {sheet.about}")
            typer.echo(f"{'':{width}}  reads {', '.join(_columns(sheet))} · reports {', '.join(sheet.metrics)}")
        typer.echo("\nOne in full: `sweep tasks TASK`; a spec to start from: `sweep init --task TASK --data FILE`.")
    else:
        typer.echo("\n".join(_lines(task, sheets[task])))


def _as_json(name: str, sheet: TaskSheet) -> dict[str, Any]:
    from sweep.spec.needs import formats_of

    return {
        "task": name,
        "about": sheet.about,
        "columns": dict(sheet.columns),
        "formats": list(formats_of(name)),
        "folder": sheet.folder,
        "metrics": dict(sheet.metrics),
        "settings": {key: _setting(setting) for key, setting in sheet.settings.items()},
        "unused": sorted(sheet.unused),
        "model": sheet.model,
        "example": dict(sheet.example),
    }


def _setting(setting: Setting) -> dict[str, Any]:
    bounds: dict[str, Any] = {
        "choices": list(setting.choices) or None,
        "low": setting.low,
        "high": setting.high,
        "help": setting.help or None,
    }
    return {"default": setting.default, **{key: value for key, value in bounds.items() if value is not None}}


def _columns(sheet: TaskSheet) -> list[str]:
    return [part if usual is not None else f"({part})" for part, usual in sheet.columns.items()]


def _lines(name: str, sheet: TaskSheet) -> list[str]:
    from sweep.spec.needs import formats_of

    optional = "; what stands in brackets only where data names its column" if None in sheet.columns.values() else ""
    lines = [
        f"task       {name}: {sheet.about}",
        f"columns    {', '.join(_columns(sheet))}{optional}",
        f"files      {', '.join(formats_of(name))}" + (f"; or a folder with {sheet.folder}" if sheet.folder else ""),
        f"row        {json.dumps(dict(sheet.example), ensure_ascii=False)}",
        *(f"metric     {metric}, {direction}" for metric, direction in sheet.metrics.items()),
    ]
    for key, setting in sheet.settings.items():
        allowed = ", ".join(setting.choices) or "".join(
            f", {bound} {value:g}"
            for bound, value in (("from", setting.low), ("to", setting.high))
            if value is not None
        ).removeprefix(", ")
        default = json.dumps(setting.default).strip('"')
        lines.append(
            f"setting    {key}: {default}" + f" ({allowed})" * bool(allowed) + f", {setting.help}" * bool(setting.help)
        )
    if sheet.unused:
        lines.append(f"unused     {', '.join(sorted(sheet.unused))}")
    return lines
