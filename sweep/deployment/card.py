"""The model card: what a stranger needs to know before using the weights."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sweep.deployment.lineage import Lineage
from sweep.deployment.scores import recorded_scores
from sweep.deployment.snippets import PIPELINES, how_to_use

_HUB_NAMES = {"bundled:minilm-l6": "sentence-transformers/all-MiniLM-L6-v2"}
_LICENSES = {"bundled:tweets": "MIT"}
_NOT_SCORES = ("system/", "train_", "train/", "fold/", "learning_rate", "epoch", "examples_per_second", "seconds")


def model_card(lineage: Lineage) -> str:
    """The card as Markdown, with the front matter that model hubs read."""
    front = json.dumps(_front_matter(lineage), indent=1, ensure_ascii=False)
    # JSON is YAML, and quotes what YAML would read as something else.
    return f"---\n{front}\n---\n\n{card_text(lineage)}"


def card_text(lineage: Lineage) -> str:
    """The card without front matter."""
    return "\n".join(
        [
            f"# {lineage.study}, {_who(lineage)}\n",
            _summary(lineage),
            "## How to use it\n",
            how_to_use(lineage),
            "## Scores\n",
            _scores(lineage),
            "## How it was chosen\n",
            _choice(lineage),
            "## Data\n",
            _table(_data(lineage)),
            "## Training\n",
            _table({**lineage.hyperparameters, "seed": lineage.seed, "optimizer steps": lineage.step}),
            f"All settings:\n\n```json\n{json.dumps(lineage.settings, indent=2, ensure_ascii=False)}\n```\n",
            "## Limits\n",
            _limits(lineage),
            "## Origin\n",
            _table(_origin(lineage)),
        ]
    )


def _front_matter(lineage: Lineage) -> dict[str, Any]:
    base = _HUB_NAMES.get(lineage.base_model, lineage.base_model)
    name = f"{lineage.study}, {_who(lineage)}"
    data: dict[str, Any] = {"type": "custom", "name": str(lineage.data.get("data_name") or lineage.study)}
    splits = recorded_scores(lineage)
    results: list[dict[str, Any]] = [
        {
            "task": {"type": lineage.task.partition(":")[0]},
            "dataset": {**data, "split": split},
            "metrics": [{"type": key, "value": value} for key, value in score_metrics(metrics).items()],
        }
        for split, metrics in splits.items()
        if score_metrics(metrics)
    ]
    # A folder's path says nothing to a stranger, and hubs take names alone.
    is_hub_name = base.count("/") == 1 and not base.startswith(("/", ".", "~")) and ":" not in base
    return {
        "library_name": "transformers",
        "pipeline_tag": PIPELINES.get(lineage.task, lineage.task),
        **({"base_model": base} if is_hub_name else {}),
        "tags": ["sweep", f"study:{lineage.study}"],
        "metrics": [lineage.metric["name"]],
        **({"model-index": [{"name": name, "results": results}]} if results else {}),
    }


def score_metrics(metrics: Mapping[str, float]) -> dict[str, float]:
    """The metrics that say how good a model is."""
    return {name: value for name, value in sorted(metrics.items()) if not name.startswith(_NOT_SCORES)}


def _who(lineage: Lineage) -> str:
    return "average of the finalists" if lineage.trial_number is None else f"trial {lineage.trial_number}"


def _summary(lineage: Lineage) -> str:
    return f"Fine-tuned for {lineage.task} from `{lineage.base_model}`: {_who(lineage)} of study `{lineage.study}`" + (
        f", weights of optimizer step {lineage.step}.\n" if lineage.step is not None else ".\n"
    )


def _scores(lineage: Lineage) -> str:
    metric = lineage.metric
    folds = len(lineage.data.get("folds") or ())
    where = f"as the mean over {folds} folds of the training rows" if folds else "on the validation split"
    about = "The model itself was trained on all of these rows after that. " if folds else ""
    text = (
        f"Chosen by {metric['name']} ({metric['direction']}, {metric['source']} evaluation) {where}. {about}"
        "The validation score chose this model, so it is optimistic; the test score is not used to choose.\n\n"
        f"Validation:\n\n{_table(score_metrics(lineage.validation))}\n"
    )
    if lineage.test is None:
        return f"{text}Test: the test split has not been opened for this model.\n"
    interval = dict((lineage.verdict or {}).get("test") or {}).get("winner", {}).get("interval")
    about = f" ({metric['name']} with its 95 % interval {_interval(interval)})" if interval else ""
    return f"{text}Test{about}:\n\n{_table(score_metrics(lineage.test))}"


def _choice(lineage: Lineage) -> str:
    search, parts = lineage.search, []
    if search:
        states = ", ".join(f"{count} {state.lower()}" for state, count in sorted(search["trials"].items()))
        rows = {
            "trials": states,
            "sampler, pruner, seed": f"{search['sampler']}, {search['pruner']}, {search['seed']}",
            **{f"range of {name}": _range(bounds) for name, bounds in search["space"].items()},
            f"defaults' {lineage.metric['name']}": search["baseline"],
            "cost": f"{search['trial_seconds'] / 3600:.2f} hours of trials, each with "
            f"{search['cpus_per_trial']:g} CPU and {search['gpus_per_trial']:g} GPU",
        }
        parts.append(_table(rows))
    if lineage.verdict is None:
        parts.append("It was not confirmed on fresh seeds: part of its lead may be luck.\n")
        return "\n".join(parts)
    verdict = lineage.verdict
    finalists = [
        [entry["label"], entry["mean"], _interval(entry["interval"]), entry["spread"], entry["search_score"]]
        for entry in verdict["finalists"]
    ]
    parts.append(
        f"Confirmed on {verdict['seeds']} fresh seeds: {verdict['sentence']}\n\n"
        + _rows(["finalist", "mean", "interval", "spread", "in the search"], finalists)
    )
    return "\n".join(parts)


def _data(lineage: Lineage) -> dict[str, Any]:
    data, written = lineage.data, dict(lineage.objective.get("data") or {})
    named = written.get("license") or _LICENSES.get(str(written.get("source")))
    return {
        "source": data.get("data_name", ""),
        "license": named or "not stated (objective.data.license)",
        "sha256": data.get("data_hash", ""),
        **{f"{split} rows": count for split, count in dict(data.get("rows", {})).items()},
        "labels": ", ".join(str(label) for label in data.get("labels", [])),
    }


def _limits(lineage: Lineage) -> str:
    longest = lineage.settings.get("max_length")
    cut = f" Texts are cut after {longest} tokens." if longest else ""
    rows = dict(lineage.data.get("rows", {})).get("test")
    measured = f"on {rows} rows" if rows and lineage.test is not None else "on no held-out rows"
    return (
        f"The scores were measured {measured} of the data above, and hold for data like it: other sources, languages "
        f"and later times were not looked at, nor was fairness between groups.{cut} The model always answers with one "
        "of its labels, also where none fits, and its probabilities are not calibrated.\n\n"
        "`sweep verify` re-evaluates this folder and compares it with the record.\n"
    )


def _origin(lineage: Lineage) -> dict[str, Any]:
    versions = {name: value for name, value in lineage.environment.items() if not isinstance(value, Mapping)}
    return {
        "study": lineage.study,
        "trial": lineage.trial_number,
        "MLflow run": lineage.run_id or "",
        "created": lineage.created_at,
        **versions,
    }


def _range(bounds: Any) -> str:
    if isinstance(bounds, Mapping):
        return (
            "choices " + str(bounds["choices"]) if "choices" in bounds else f"{bounds['low']:g} to {bounds['high']:g}"
        )
    return str(bounds)


def _interval(interval: Sequence[float] | None) -> str:
    return "–" if not interval else f"{interval[0]:.4f} to {interval[1]:.4f}"


def _table(rows: Mapping[str, Any]) -> str:
    return _rows(["", ""], [[key, value] for key, value in rows.items()])


def _rows(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(_cell(cell) for cell in line) + " |\n" for line in lines)


def _cell(value: Any) -> str:
    shown = "–" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)
    return " ".join(shown.replace("|", "\\|").split())
