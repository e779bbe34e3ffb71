"""Makes a model folder one that stock MLflow loads and serves: no pickle, no code of this package."""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

MLMODEL = "MLmodel"
_CODE_FOLDER = "code"


def make_servable(folder: Path, offer: Mapping[str, Any], *, created_at: str) -> None:
    """Put MLflow's description and the serving code beside a model's weights; the same input gives the same files.

    Args:
        folder: The model; its weights stay where they are.
        offer: What :meth:`sweep.ports.Deployable.serving` returned.
        created_at: Time stamp of the model, ISO 8601.
    """
    from sweep.tracking.settings import quiet_mlflow

    quiet_mlflow()
    import mlflow

    with warnings.catch_warnings():
        # MLflow warns of its own type hints.
        warnings.simplefilter("ignore")
        from mlflow.models import Model, ModelSignature

    code = Path(offer["code"])
    # Two models in one process may bring different code of the same name: a name of its own for each content.
    module = f"{code.stem}_{hashlib.sha256(code.read_bytes()).hexdigest()[:12]}"
    (folder / _CODE_FOLDER).mkdir(exist_ok=True)
    shutil.copyfile(code, folder / _CODE_FOLDER / f"{module}.py")
    requirements = [f"mlflow=={mlflow.__version__}", *offer["requirements"]]
    environment = {"python": platform.python_version(), "dependencies": ["-r requirements.txt"]}
    files = {
        "requirements.txt": "".join(f"{line}\n" for line in requirements),
        "python_env.yaml": json.dumps(environment),  # JSON is YAML
        "input_example.json": json.dumps(offer["example"]),
        "serving_input_example.json": json.dumps({"dataframe_split": offer["example"]}),
    }
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    signature = {part: json.dumps(offer[part]) for part in ("inputs", "outputs")}
    model = Model(
        signature=ModelSignature.from_dict(signature),
        utc_time_created=created_at,
        model_uuid=hashlib.sha256(json.dumps([module, created_at, signature]).encode()).hexdigest()[:32],
    )
    model.saved_input_example_info = {
        "artifact_path": "input_example.json",
        "serving_input_path": "serving_input_example.json",
        "type": "dataframe",
        "pandas_orient": "split",
    }
    model.add_flavor(
        "python_function",
        loader_module=module,
        python_version=platform.python_version(),
        code=_CODE_FOLDER,
        config=dict(offer["config"]),
        env={"virtualenv": "python_env.yaml"},
    )
    model.save(str(folder / MLMODEL))
