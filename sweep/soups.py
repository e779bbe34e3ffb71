"""Soups of a final: averages of its finalists' weights, made, scored on the validation split, and kept."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweep.checkpoints import committing, drop, model_folder, read_manifest
from sweep.checkpoints.adapted import base_of
from sweep.checkpoints.averaging import average_models
from sweep.checkpoints.commit import discard
from sweep.domain import MetricRule, Trial
from sweep.errors import CheckpointError, ExecutionError
from sweep.layout import StudyLayout
from sweep.selection.soup import Recipe

_MODEL_PREFIX = "model/"

Evaluate = Callable[[Path, int, Mapping[str, Any]], Mapping[str, float]]
"""(model, seed index, hyperparameters) -> metrics on the validation split of that seed."""

Merge = Callable[[Path, Path, Mapping[str, Any]], None]
"""(adapter, new folder, hyperparameters) of a run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Soups:
    """Makes averages and remembers their scores: beside each stands what it is made of and what it is worth.

    Once scored, a soup's weights are dropped again until somebody asks for its model, so that the disk holds one soup
    more than are kept, however many are tried.

    Attributes:
        layout: Of the final.
        rule: Of the study.
        runs: The runs with a model, by trial number and seed index.
        evaluate: Evaluates a model.
        merge: Writes the plain model of an adapter into a new folder.
    """

    layout: StudyLayout
    rule: MetricRule
    runs: Mapping[tuple[int, int], Trial]
    evaluate: Evaluate
    merge: Merge

    def value(self, recipe: Recipe, seed_index: int) -> float:
        """Objective value of a soup; that of a recipe of one is its run's own.

        Raises:
            SweepError: If it cannot be made or evaluated.
        """
        if len(recipe) == 1:
            return _value(self.runs[recipe[0], seed_index])
        return self.metrics(recipe, seed_index)[self.rule.name]

    def metrics(self, recipe: Recipe, seed_index: int) -> Mapping[str, float]:
        """Metrics of a soup on the validation split.

        Raises:
            SweepError: If it cannot be made or evaluated.
        """
        known = self._known(recipe, seed_index)
        if known is None:
            known = self._make(recipe, seed_index, None)
            drop(self.layout.soup(seed_index, recipe), _MODEL_PREFIX)
        return known

    def model(self, recipe: Recipe, seed_index: int) -> Path:
        """Folder of a soup's model, whose weights are made again if they were dropped.

        Raises:
            SweepError: If it cannot be made or evaluated.
        """
        folder, known = self.layout.soup(seed_index, recipe), self._known(recipe, seed_index)
        if known is None or not _has_model(folder):
            self._make(recipe, seed_index, known)
        return model_folder(folder)

    def drop_models(self, kept: Path | None) -> None:
        """Drop the weights of all soups but one, and what is damaged.

        Raises:
            CheckpointError: If one cannot be made slim.
        """
        for folder in sorted(self.layout.soup(0, (0,)).parent.parent.glob("soup-*/[!.]*")):
            if kept is not None and folder == kept.parent:
                continue
            try:
                read_manifest(folder, verify=False)
            except CheckpointError:
                discard(folder)
                continue
            drop(folder, _MODEL_PREFIX)

    def _ingredients(self, recipe: Recipe, seed_index: int) -> list[Trial]:
        return [self.runs[number, seed_index] for number in recipe]

    def _known(self, recipe: Recipe, seed_index: int) -> Mapping[str, float] | None:
        """Metrics of a soup that was made of the same runs, if there is one."""
        try:
            meta = read_manifest(self.layout.soup(seed_index, recipe), verify=False).meta
        except CheckpointError:
            return None
        metrics: Mapping[str, float] = meta["metrics"]
        return metrics if meta["made_of"] == self._origin(recipe, seed_index) else None

    def _origin(self, recipe: Recipe, seed_index: int) -> list[list[int | None]]:
        return [[run.number, run.step] for run in self._ingredients(recipe, seed_index)]

    def _make(self, recipe: Recipe, seed_index: int, known: Mapping[str, float] | None) -> Mapping[str, float]:
        """Average and evaluate, in this order, then commit: a soup that is there has its metrics."""
        ingredients = self._ingredients(recipe, seed_index)
        origin = self._origin(recipe, seed_index)
        meta: dict[str, Any] = {"made_of": origin, "trials": list(recipe), "seed_index": seed_index}
        target = self.layout.soup(seed_index, recipe)
        with committing(target, meta, stands=lambda other: other["made_of"] == origin) as folder:
            self._average(ingredients, model_folder(folder))
            if known is None:
                known = dict(self.evaluate(model_folder(folder), seed_index, ingredients[0].hyperparameters))
                if not math.isfinite(known.get(self.rule.name, math.nan)):
                    raise ExecutionError(f"evaluate gave {known}, without a finite {self.rule.name!r}")
            meta["metrics"] = known
        return known

    def _average(self, runs: Sequence[Trial], to: Path) -> None:
        """Write the average of runs' models.

        Factors of adapters do not average to the average of what they add, so adapters are merged: one after the
        other, so that three whole models lie on the disk at most, however many runs there are.
        """
        models = [_model(run) for run in runs]
        if not any(map(base_of, models)):
            average_models(models, to)
            return
        merged, mean = to.with_name("merged"), to.with_name("mean")
        self._write_plain(runs[0], to)
        for count, run in enumerate(runs[1:], 1):
            self._write_plain(run, merged)
            average_models([to, merged], mean, counts=[count, 1])
            shutil.rmtree(merged)
            shutil.rmtree(to)
            mean.rename(to)

    def _write_plain(self, run: Trial, to: Path) -> None:
        if base_of(_model(run)) is None:
            shutil.copytree(_model(run), to)
        else:
            self.merge(_model(run), to, run.hyperparameters)


def _model(run: Trial) -> Path:
    return model_folder(Path(run.checkpoint or ""))


def _value(run: Trial) -> float:
    if run.value is None:
        raise CheckpointError(f"{run.name}: has no score. Train it again.")
    return run.value


def _has_model(folder: Path) -> bool:
    try:
        return any(name.startswith(_MODEL_PREFIX) for name in read_manifest(folder).files)
    except CheckpointError:
        return False
