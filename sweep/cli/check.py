"""``sweep check``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sweep.cli.options import JsonOption, print_json
from sweep.cli.run import SetOption
from sweep.cli.text import duration, settings, size
from sweep.cli.trying import trying
from sweep.errors import UserError

if TYPE_CHECKING:
    from sweep.spec.model import StudySpec

_INDENT, _COLUMN = " " * 11, 12


def check(
    spec_file: Annotated[Path, typer.Argument(metavar="SPEC", help="Spec file.", show_default=False)],
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Validate a spec without training: schema, data, model, metric, resources, disk.

    One real batch goes through training and evaluation. What `sweep run` would refuse, this refuses too, with exit
    code 2; a warning does not stop it.

    Example: `sweep check study.yaml`
    """
    from sweep import objective_jobs

    said = "" if as_json else "spec is valid; preparing data and trying one batch …\n"
    with trying(spec_file, set_, said) as (spec, parent, data):
        findings = objective_jobs.check(spec, parent, data)
    result = _result(spec, data, findings)
    if as_json:
        print_json(result)
    if result["refusals"]:
        raise UserError("\n".join(result["refusals"]))
    if not as_json:
        typer.echo("\n".join(_lines(spec, result)))


def _result(spec: StudySpec, data: dict[str, Any], findings: dict[str, Any]) -> dict[str, Any]:
    from sweep import wiring
    from sweep.checkpoints.space import free_bytes
    from sweep.room import coming_bytes
    from sweep.study_files import secrets_warnings

    checkpoint_bytes, running = int(data["checkpoint_bytes"]), wiring.expected_slots(spec)
    coming = coming_bytes(spec, checkpoint_bytes=checkpoint_bytes, running=running)
    return {
        "study": spec.study,
        "task": {"name": spec.objective.task, "columns": dict(spec.objective.data.columns)},
        "report": findings.pop("report", []),
        "exists": spec.layout.spec.exists(),
        "data": data,
        "model": findings,
        "defaults": spec.defaults(),
        "evaluate_at": list(spec.evaluate_at),
        "fidelity_unit": spec.fidelity_unit,
        "disk": {"needed_bytes": coming, "free_bytes": free_bytes(Path(spec.storage)), "folder": spec.storage},
        "confirm": _final(spec, data, findings),
        "warnings": [
            *data.get("warnings", []),
            *findings.get("warnings", []),
            *secrets_warnings(spec),
            *spec.moved_defaults(),
            *_idle_limits(spec),
            *_idle_pruner(spec),
        ],
        "refusals": wiring.refusals(spec, checkpoint_bytes=checkpoint_bytes, running=running),
    }


def _idle_limits(spec: StudySpec) -> list[str]:
    idle, resources = [], spec.resources
    if spec.budget.gpu_hours is not None and not resources.gpus_per_trial:
        idle.append("budget.gpu_hours is never spent: resources.gpus_per_trial is 0.")
    if resources.gpus_per_trial > resources.devices_per_trial:
        idle.append(
            f"a trial trains on one of its {resources.gpus_per_trial:g} GPUs: resources.devices_per_trial is 1. "
            f"Set it to {resources.gpus_per_trial:g}, or resources.gpus_per_trial to 1."
        )
    return idle


def _devices(spec: StudySpec) -> list[str]:
    """What a trial takes, if it takes several devices."""
    resources = spec.resources
    if resources.devices_per_trial == 1:
        return []
    shared = f"{resources.cpus_per_trial:g} CPUs" + (
        f" and {resources.gpus_per_trial:g} GPUs" if resources.gpus_per_trial else ""
    )
    return [f"devices    {resources.devices_per_trial} a trial, on one node: {shared} in all; tried here with one"]


def _idle_pruner(spec: StudySpec) -> list[str]:
    folds = spec.objective.data.folds
    # The least p-value that the signed-rank test has for so many pairs; at the last fold nobody is stopped any more.
    if folds and spec.search.pruner.name == "wilcoxon" and 0.5 ** (folds - 1) >= spec.p_threshold:
        return [
            f"search.pruner: {folds - 1} folds can never say with p below {spec.p_threshold:g} that a trial is "
            "worse, so none is stopped. Raise p_threshold, or take more folds."
        ]
    return []


def _budget(spec: StudySpec) -> str:
    budget = spec.budget
    hours = [f"{budget.hours:g} hours"] if budget.hours is not None else []
    gpu_hours = [f"{budget.gpu_hours:g} GPU hours"] if budget.gpu_hours is not None else []
    over = " over all sessions" if hours or gpu_hours else ""
    return f"{budget.trials} trials" + "".join(f", {limit}" for limit in hours + gpu_hours) + over


def _final(spec: StudySpec, data: dict[str, Any], findings: dict[str, Any]) -> dict[str, Any] | None:
    """What the final will take at most; None without one."""
    if spec.confirm is None:
        return None
    runs = (spec.confirm.finalists + 1) * spec.confirm.seeds
    settings = spec.settings(spec.defaults())
    steps, folds = spec.longest_run, spec.objective.data.folds
    if spec.length_unit == "epochs":
        rows = int(data.get("training_rows", data["rows"]["train"]))
        # k models of all but one k-th of the rows and one of all of them see each row k times.
        steps *= (folds or 1) * rows / (int(settings["batch_size"]) * int(settings["accumulation"]))
    elif folds:
        steps *= folds + 1
    return {"runs": runs, "minutes": runs * steps * float(findings["step_seconds"]) / 60}


def _begun(base: dict[str, Any]) -> str:
    """Whose weights a study begins with, if another study trained them."""
    if "study" not in base:
        return ""
    score = f", {base['metric']} {base['score']:.4g}" if "score" in base else ""
    whose = "its average" if "trial_number" not in base else f"trial {base['trial_number']}, step {base['step']}"
    return f"; begins with {whose} of {base['study']}{score}"


def _folds(spec: StudySpec, data: dict[str, Any]) -> list[str]:
    sizes = data.get("folds")
    if not sizes:
        return []
    told = ", ".join(map(str, sizes)) if len(set(sizes)) > 2 else " or ".join(map(str, sorted(set(sizes))))
    return [f"folds      {len(sizes)} of {told} rows; a trial trains {len(sizes) + 1} models, the last on all rows"]


def table(splits: list[str], facts: list[dict[str, Any]]) -> list[str]:
    """What the objective tells of its data, a column for each split."""
    if not facts:
        return []
    width = max(len(fact["what"]) for fact in facts)
    heads = "".join(f"{split:>{_COLUMN}}" for split in splits)
    lines = [f"{_INDENT}{'':{width}}{heads}"]
    for fact in facts:
        cells = (_cell(fact["values"].get(split), fact["kind"]) for split in splits)
        lines.append(f"{_INDENT}{fact['what']:{width}}" + "".join(f"{cell:>{_COLUMN}}" for cell in cells))
    return lines


def _cell(value: float | None, kind: str) -> str:
    if value is None:
        return "–"
    return {"share": f"{value:.1%}", "count": f"{value:,.0f}"}.get(kind, f"{value:.4g}")


def _lines(spec: StudySpec, result: dict[str, Any]) -> list[str]:
    data, model, disk = result["data"], result["model"], result["disk"]
    rows = ", ".join(f"{split} {count}" for split, count in data["rows"].items())
    training_rows = int(data.get("training_rows", data["rows"]["train"]))
    trained = f"; trains on {training_rows}" if training_rows != data["rows"]["train"] else ""
    labels = ", ".join(str(label) for label in data["labels"][:8]) + (" …" if len(data["labels"]) > 8 else "")
    columns = ", ".join(
        part if part == name else f"{part} in {name}" for part, name in spec.objective.data.columns.items()
    )
    points = ", ".join(f"{point:g}" for point in result["evaluate_at"])
    seconds = model["step_seconds"]
    lines = [
        f"study      {spec.study}: {spec.search.sampler.name}, {spec.search.pruner.name}",
        f"budget     {_budget(spec)}",
        f"data       {data.get('data_name', '')}: rows {rows}{trained}",
        *_folds(spec, data),
        f"task       {spec.objective.task}: reads {columns}",
        *([f"labels     {len(data['labels'])}: {labels}"] if data["labels"] else []),
        *table(list(data["rows"]), result["report"]),
        f"model      {spec.objective.model}: {model['parameters']:,} parameters{_begun(data.get('base_model') or {})}",
        f"metric     {spec.rule.name}, {spec.rule.direction}, {spec.rule.source}",
        f"reported   {', '.join(model['metrics'])}",
        f"defaults   {settings(result['defaults'])}",
        f"evaluated  at {points} {spec.fidelity_unit}",
        *_devices(spec),
        f"speed      {duration(seconds) if seconds >= 1 else f'{seconds * 1000:.0f} ms'} per step",
        f"disk       about {size(disk['needed_bytes'])} needed, {size(disk['free_bytes'])} free in {disk['folder']}",
    ]
    if result["confirm"] is not None:
        runs, minutes = result["confirm"]["runs"], result["confirm"]["minutes"]
        lines.append(f"final      {runs} full runs at most, about {duration(60 * minutes)} of one worker's training")
    lines += [f"warning    {warning}" for warning in result["warnings"]]
    return [*lines, "Ready."]
