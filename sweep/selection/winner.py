"""Which model of a study is the one to deploy: the verdict's, or the best trial's while there is none."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sweep.domain import Trial, ranked, trial_seed
from sweep.errors import SweepError, UserError
from sweep.layout import StudyLayout
from sweep.selection.verdict import Verdict
from sweep.spec.model import StudySpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Winner:
    """The model to deploy.

    Attributes:
        study: The study that trained it: the searched one, or its final.
        model: Folder that transformers can load.
        trial_number: Of the searched study; None for a soup.
        run: Number of the trial that trained it, in ``study``; None for a soup.
        seed: Seed it was trained with; None for a soup.
        step: Optimizer step of its weights.
        score: Objective value on the validation split.
        verdict: Of the final, if there was one.
    """

    study: str
    model: Path
    trial_number: int | None
    run: int | None
    seed: int | None
    step: int | None
    score: float | None
    verdict: Verdict | None = None


def read_verdict(layout: StudyLayout) -> Verdict | None:
    """The verdict on a study's finalists; None while there is none.

    Raises:
        SweepError: If it cannot be read.
    """
    try:
        return Verdict.from_json(json.loads(layout.verdict.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as err:
        raise SweepError(f"{layout.verdict}: cannot be read ({err}). Confirm the finalists again.") from err


def winner(spec: StudySpec, trials: Sequence[Trial], model_of: Callable[[Path], Path]) -> Winner:
    """The model that a study's verdict names; without a verdict, the best trial's.

    Args:
        spec: The searched study.
        trials: Its trials.
        model_of: The part of a checkpoint that transformers can load.

    Raises:
        UserError: If no trial is complete, or the model was not kept.
        SweepError: If the verdict cannot be read.
    """
    verdict = read_verdict(spec.layout)
    if verdict is not None and verdict.winner is not None:
        deploy = verdict.deploy or {}
        model = _model(spec.layout.confirmation, deploy)
        if model is None or not model.is_dir():
            raise UserError(
                f"{verdict.winner} of {spec.study!r} won its final, but its model is not there any more "
                f"({model or 'it was not kept'}). Restore it, confirm the finalists on one seed more with "
                f"`sweep resume {spec.study} --seeds {verdict.seeds + 1}`, or export a trial of the search: "
                f"`sweep export {spec.study} --trial NUMBER`."
            )
        return Winner(
            study=spec.layout.confirmation.study,
            model=model,
            trial_number=verdict.finalist(verdict.winner).trial_number,
            run=deploy.get("run"),
            seed=deploy.get("seed"),
            step=deploy.get("step"),
            score=deploy.get("score"),
            verdict=verdict,
        )
    order = ranked(trials, spec.rule)
    if not order:
        raise UserError(f"study {spec.study!r} has no complete trial yet. See `sweep status {spec.study}`.")
    best = order[0]
    checkpoint = best.checkpoint and spec.layout.checkpoint(best.number, best.checkpoint)
    if not checkpoint or not checkpoint.is_dir():
        raise UserError(
            f"trial {best.number} of {spec.study!r}: its model is not there any more "
            f"({checkpoint or 'it was not kept'}). Restore it, or export another: `sweep best {spec.study}`."
        )
    return replace(own_model(spec, best, model_of(checkpoint)), verdict=verdict)


def own_model(spec: StudySpec, trial: Trial, model: Path) -> Winner:
    """The model of a trial of the search itself, whatever a verdict says."""
    return Winner(
        study=spec.study,
        model=model,
        trial_number=trial.number,
        run=trial.number,
        seed=trial_seed(spec.search.seed, trial.number),
        step=trial.step,
        score=trial.value,
    )


def _model(final: StudyLayout, deploy: Mapping[str, Any]) -> Path | None:
    """Where the model to deploy lies now; the storage may have been moved since the verdict."""
    if "model" not in deploy:
        return None
    # Of a run or of a soup: the folder of its checkpoints, the checkpoint, its model.
    return final.checkpoints(0).parent.joinpath(*Path(deploy["model"]).parts[-3:])
