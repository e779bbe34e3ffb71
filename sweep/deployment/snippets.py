"""How to load and serve an exported model, as text for its card."""

from __future__ import annotations

from sweep.deployment.lineage import Lineage


def how_to_use(lineage: Lineage) -> str:
    """Markdown: with transformers, through MLflow, and with ONNX Runtime where there is an ONNX file."""
    trust = ", trust_remote_code=True" if lineage.objective.get("trust_remote_code") else ""
    parts = [
        f"""```python
from transformers import AutoModelForSequenceClassification, AutoTokenizer

model = AutoModelForSequenceClassification.from_pretrained("."{trust})
tokenizer = AutoTokenizer.from_pretrained("."{trust})
```
""",
        """Once `sweep promote` has registered it, stock MLflow serves it, where torch and transformers are installed:

```
mlflow models serve -m models:/NAME@champion --env-manager local
curl http://127.0.0.1:5000/invocations -H 'Content-Type: application/json' -d '{"inputs": ["a text", "another"]}'
```

What is no text, a null as well, is refused with its row (status 400), and the whole request with it.
""",
    ]
    if lineage.onnx is not None:
        parts.append(
            f"""With ONNX Runtime, logits of token ids; batch and length are free (largest difference from the weights
{lineage.onnx["max_difference"]:.1e} on {lineage.onnx["rows"]} rows):

```python
session = onnxruntime.InferenceSession("{lineage.onnx["file"]}")
batch = tokenizer(texts, padding=True, return_token_type_ids=False, return_tensors="np")
logits = session.run(["logits"], dict(batch))[0]
```
"""
        )
    return "\n".join(parts)
