"""The model card: what a stranger needs to know before using the weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sweep.deployment.lineage import Lineage


def _table(rows: Mapping[str, Any]) -> str:
    lines = ["| | |", "|---|---|"]
    for key, value in rows.items():
        shown = f"{value:.6g}" if isinstance(value, float) else value
        lines.append(f"| {key} | {str(shown).replace('|', chr(92) + '|')} |")
    return "\n".join(lines)


def _scores(metrics: Mapping[str, float]) -> dict[str, float]:
    hidden = ("system/", "train_", "learning_rate", "epoch", "examples_per_second", "seconds")
    return {name: value for name, value in sorted(metrics.items()) if not name.startswith(hidden)}


def model_card(lineage: Lineage) -> str:
    """The card as Markdown with the front matter that model hubs read."""
    data = lineage.data
    front = {
        "library_name": "transformers",
        "pipeline_tag": lineage.task,
        "tags": ["sweep", f"study:{lineage.study}"],
    }
    head = "\n".join(f"{key}: {json.dumps(value)}" for key, value in front.items())
    test = _table(_scores(lineage.test)) if lineage.test else "The test split has not been opened for this model."
    labels = ", ".join(str(label) for label in data.get("labels", []))
    versions = {name: value for name, value in lineage.environment.items() if not isinstance(value, Mapping)}
    about_data = {
        "source": data.get("data_name", ""),
        "sha256": data.get("data_hash", ""),
        **{f"{split} rows": count for split, count in dict(data.get("rows", {})).items()},
        "labels": labels,
    }
    origin = {
        "study": lineage.study,
        "trial": lineage.trial_number,
        "MLflow run": lineage.run_id or "",
        "created": lineage.created_at,
        **versions,
    }
    trust = ", trust_remote_code=True" if lineage.objective.get("trust_remote_code") else ""
    return f"""---
{head}
---

# {lineage.study}, trial {lineage.trial_number}

Fine-tuned for {lineage.task} from `{lineage.base_model}`; the choice of trial
{lineage.trial_number} of study `{lineage.study}`, weights of optimizer step {lineage.step}.

```python
from transformers import AutoModelForSequenceClassification, AutoTokenizer

model = AutoModelForSequenceClassification.from_pretrained("."{trust})
tokenizer = AutoTokenizer.from_pretrained("."{trust})
```

## Scores

Chosen by {lineage.metric["name"]} ({lineage.metric["direction"]}, {lineage.metric["source"]} evaluation) on the
validation split. The validation score chose this model, so it is optimistic; the test score is not used to choose.

Validation:

{_table(_scores(lineage.validation))}

Test:

{test}

## Data

{_table(about_data)}

## Training

{_table({**lineage.hyperparameters, "seed": lineage.seed})}

All settings:

```json
{json.dumps(lineage.settings, indent=2, ensure_ascii=False)}
```

## Origin

{_table(origin)}

## Limits

Scores hold for data like the splits above. `sweep verify` re-evaluates this folder and compares it with the record.
"""
