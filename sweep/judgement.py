"""The verdict on a final whose runs are over: what the models cost, who wins, and the test split for the winner."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sweep.bench import Bench
from sweep.checkpoints import FolderKeeper, model_folder
from sweep.checkpoints.adapted import weight_bytes
from sweep.checkpoints.averaging import difference, why_not_averaged
from sweep.deployment.export import export_model
from sweep.domain import Trial, TrialState, confirmation_seed, ranked
from sweep.errors import StoppedEarlyError, SweepError, is_disk_full
from sweep.finale import keep_model, lineage_of, located
from sweep.ports import Clock, Recorder, StudyStore, VerdictReached
from sweep.redaction import Redactor
from sweep.selection import Finalist, Verdict, judge
from sweep.selection.assessment import ModelOnSplit
from sweep.selection.final import Final, runs_of
from sweep.selection.soup import Recipe, greedy_recipes, uniform_recipes
from sweep.selection.test_split import TestOpening, openings, record_opening, said
from sweep.selection.winner import read_verdict
from sweep.soups import Soups
from sweep.spec.model import StudySpec
from sweep.study_files import write_atomically

SOUP = "soup"
"""Label of the average among the finalists."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FinalModel:
    """A model of the final: of a run, or a soup on one seed.

    Attributes:
        label: How the record of test openings names it.
        folder: A folder transformers can load.
        seed_index: Of its fresh seed.
        score: Objective value on the validation split of that seed.
        like: The run that has its settings; its own, unless it is a soup.
        recipe: Trials that were averaged; empty unless it is a soup.
        metrics: On that validation split.
    """

    label: str
    folder: Path
    seed_index: int
    score: float
    like: Trial
    recipe: Recipe = ()
    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """Judges a final.

    Attributes:
        spec: The searched study.
        final_spec: Of the final.
        final: Its finalists.
        prepared: Summary of the data of each seed index.
        store: Of the final.
        recorder: Of the searched study; takes the verdict.
        final_recorder: Of the final; takes the models.
        note: Takes one line for each thing that takes a while.
        is_stopping: Asked between the longer steps.
    """

    spec: StudySpec
    final_spec: StudySpec
    final: Final
    prepared: Sequence[Mapping[str, Any]]
    environment: Mapping[str, Any]
    redactor: Redactor
    store: StudyStore
    recorder: Recorder
    final_recorder: Recorder
    clock: Clock
    bench: Bench
    note: Callable[[str], None]
    is_stopping: Callable[[], bool]

    def run(self) -> Verdict:
        """Judge, keep the models that the verdict names, and write it.

        Raises:
            StoppedEarlyError: If it was stopped; what was written stands, and the next session goes on.
            SweepError: If something cannot be read or written.
        """
        runs, earlier = self._runs(), _earlier(self.spec)
        finalists = self.final.standings(runs)
        soups = Soups(
            layout=self.final_spec.layout,
            rule=self.spec.rule,
            runs=runs_of(filter(_counts, runs)),
            evaluate=self._evaluated,
            merge=lambda model, to, drawn: self.bench.merge(model, to, self.spec.settings(drawn)),
        )
        soup = self._soup(finalists, soups)
        finalists = [*finalists, soup] if soup is not None else finalists
        best = {one.label: self._best_model(one, runs, soups) for one in finalists}
        finalists = self._timed([_weighed(one, best[one.label], earlier) for one in finalists], best, earlier)
        verdict = judge(finalists, self.spec.rule, seeds=self.final.confirm.seeds, level=self.final.confirm.level)
        deployed = best.get(verdict.winner or "")
        if deployed is None:
            self.note("warning: the final has no model to deploy: no run of a finalist is complete with its model")
            if earlier is not None and earlier.winner == verdict.winner:
                verdict = replace(verdict, deploy=earlier.deploy, test=earlier.test)
            self._write(verdict)
            return verdict
        baseline = self._counterpart(verdict, deployed, runs)
        kept = [deployed] if baseline is None or baseline.label == deployed.label else [deployed, baseline]
        labels = [one.label for one in kept]
        known = earlier.test if earlier and earlier.test and earlier.test.get("models") == labels else None
        verdict = replace(verdict, deploy=self._deployment(deployed), test=known)
        # Written before the test split is opened: a failing evaluation must not cost the verdict.
        self._write(verdict)
        verdict = replace(verdict, test=known or self._tested(kept))
        by_number = {run.number: run for run in self._runs()}
        for one in reversed(kept):
            self._heed_stop()
            self._keep(replace(one, like=by_number[one.like.number]), verdict)
        self._write(verdict)
        soups.drop_models(deployed.folder if deployed.recipe else None)
        # The best run of each stays, too: with more seeds, another may win.
        self._drop_other_models(runs, {one.like.number for one in (*kept, *best.values()) if one and not one.recipe})
        return verdict

    def _runs(self) -> list[Trial]:
        return [located(run, self.final_spec.layout) for run in self.store.trials()]

    def _write(self, verdict: Verdict) -> None:
        written = verdict.to_json()
        write_atomically(self.spec.layout.verdict, json.dumps(written, indent=2))
        self.recorder.record(VerdictReached(verdict=written, at=self.clock.now()))

    def _heed_stop(self) -> None:
        if self.is_stopping():
            raise StoppedEarlyError("the final was stopped before its verdict was complete")

    # The soup

    def _soup(self, finalists: Sequence[Finalist], soups: Soups) -> Finalist | None:
        """The average of the finalists' weights as one finalist more; None unless the spec asks for it."""
        kind, seeds = self.final.confirm.soup, self.final.confirm.seeds
        if kind == "none":
            return None
        able = [one.trial_number for one in finalists if one.kind == "finalist" and one.dropped_after is None]
        ingredients = [n for n in able if n is not None and all((n, i) in soups.runs for i in range(seeds))]
        objection = self._objection(ingredients, soups)
        if objection is not None:
            self.note(f"warning: no soup: {objection}")
            return None
        self.note(f"averaging the weights of trials {_listed(ingredients)}")
        try:
            recipes = self._recipes(ingredients, soups)
            if all(len(recipe) == 1 for recipe in recipes.values()):
                self.note("no soup: no average is as good as the best of its finalists alone")
                return None
            scores = {index: soups.value(recipe, index) for index, recipe in recipes.items()}
        except StoppedEarlyError:
            raise
        except SweepError as err:
            if is_disk_full(err):
                raise
            self.note(f"warning: no soup: {str(err).splitlines()[0]}. `sweep resume {self.spec.study}` tries again.")
            return None
        return Finalist(label=SOUP, kind="soup", scores=scores, recipes=recipes)

    def _recipes(self, ingredients: Sequence[int], soups: Soups) -> Mapping[int, Recipe]:
        seeds, sign = self.final.confirm.seeds, self.spec.rule.sign
        if self.final.confirm.soup == "uniform":
            return uniform_recipes(ingredients, seeds)
        return greedy_recipes(ingredients, seeds, lambda recipe, index: sign * soups.value(recipe, index))

    def _objection(self, ingredients: Sequence[int], soups: Soups) -> str | None:
        """Why these trials make no soup."""
        if self.spec.objective.data.folds:
            return "with folds there are no validation rows that an average could be chosen by"
        seeds = range(self.final.confirm.seeds)
        if len(ingredients) < 2:
            return f"fewer than two finalists have a model on each of the {len(seeds)} seeds"
        layers = {
            number: self.spec.settings(soups.runs[number, 0].hyperparameters).get("keep_layers")
            for number in ingredients
        }
        if len({repr(kept) for kept in layers.values()}) > 1:
            told = ", ".join(f"trial {number} keeps {kept or 'all'}" for number, kept in layers.items())
            return f"the finalists keep other layers ({told}), so their weights do not stand for the same"
        for index in seeds:
            models = [_model(soups.runs[number, index]) for number in ingredients]
            try:
                objection = why_not_averaged(models)
            except SweepError as err:
                objection = str(err)
            if objection is not None:
                return f"the finalists' models are not alike: {objection}"
        return None

    def _evaluated(self, model: Path, seed_index: int, hyperparameters: Mapping[str, Any]) -> Mapping[str, float]:
        folder, settings = str(self.prepared[seed_index]["folder"]), self.spec.settings(hyperparameters)
        return self.bench.evaluate(ModelOnSplit(model=model, prepared=folder, settings=settings))

    # The models

    def _best_model(self, finalist: Finalist, runs: Sequence[Trial], soups: Soups) -> FinalModel | None:
        """The finalist's model with the best score on the validation split, of those that are there."""
        if finalist.kind != "soup":
            own = next(filter(_has_model, ranked(_own_runs(finalist, runs), self.spec.rule)), None)
            return None if own is None else _of_run(own)
        index = min(finalist.scores, key=lambda one: (self.spec.rule.rank_key(finalist.scores[one]), one))
        recipe = tuple(finalist.recipes[index])
        if len(recipe) == 1:
            return replace(_of_run(soups.runs[recipe[0], index]), label=_soup_label(recipe, index))
        return FinalModel(
            label=_soup_label(recipe, index),
            folder=soups.model(recipe, index),
            seed_index=index,
            score=finalist.scores[index],
            like=soups.runs[recipe[0], index],
            recipe=recipe,
            metrics=soups.metrics(recipe, index),
        )

    def _counterpart(self, verdict: Verdict, deployed: FinalModel, runs: Sequence[Trial]) -> FinalModel | None:
        """The baseline's model on the seed of the deployed one, else on its first."""
        own = [run for run in _own_runs(verdict.baseline, runs) if _has_model(run)] if verdict.baseline else []
        run = next((run for run in own if run.seed_index == deployed.seed_index), own[0] if own else None)
        return None if run is None else _of_run(run)

    def _timed(
        self, finalists: Sequence[Finalist], best: Mapping[str, FinalModel | None], earlier: Verdict | None
    ) -> list[Finalist]:
        """With the latencies of their models, measured once: a second look must not tell equals apart by noise."""
        known = {one.label: one.latency_ms for one in earlier.finalists} if earlier else {}
        models = {label: model for label, model in best.items() if model is not None}
        if any(known.get(label) is None for label in models):
            known |= self._latencies(models)
        return [replace(one, latency_ms=known.get(one.label)) for one in finalists]

    def _latencies(self, models: Mapping[str, FinalModel]) -> dict[str, float]:
        """By label; models of one architecture compute the same, so that one of them is measured for all."""
        measured: list[ModelOnSplit] = []
        places = dict[str, int]()
        try:
            for label, model in models.items():
                own = self._on_split(model)
                places[label] = next((i for i, one in enumerate(measured) if _cost_the_same(one, own)), len(measured))
                if places[label] == len(measured):
                    measured.append(own)
            found = self.bench.latencies(measured)
        except StoppedEarlyError:
            raise
        except SweepError as err:
            self.note(f"warning: latencies could not be measured: {str(err).splitlines()[0]}")
            return {}
        return {} if found is None else {label: found[place] for label, place in places.items()}

    def _deployment(self, model: FinalModel) -> dict[str, Any]:
        index = model.seed_index
        placed = {"model": str(model.folder), "seed_index": index, "score": model.score}
        if model.recipe:
            averaged = {"trials": list(model.recipe), "metrics": dict(model.metrics)}
            return {**placed, "run": None, "seed": None, "step": None, **averaged}
        seed = confirmation_seed(self.final_spec.search.seed, index)
        return {**placed, "run": model.like.number, "seed": seed, "step": model.like.step}

    # The test split

    def _tested(self, models: Sequence[FinalModel]) -> Mapping[str, Any] | None:
        """The test split says it of the model to deploy and of the baseline's counterpart alone: it must not choose."""
        if not dict(self.prepared[0].get("rows", {})).get("test"):
            return None
        self._heed_stop()
        self.note("opening the test split for the winner")
        labels = [model.label for model in models]
        count = record_opening(self.spec.layout, TestOpening(at=self.clock.now(), reason="verdict", models=labels))
        if count > 1:
            self.note(f"warning: the test split was {said(count)}: what it says is no longer news")
        try:
            found = self.bench.assess([self._on_split(model) for model in models])
        except StoppedEarlyError:
            raise
        except SweepError as err:
            if is_disk_full(err):
                raise
            self.note(
                f"warning: the winner has no score on the test split: {str(err).splitlines()[0]}. "
                f"`sweep resume {self.spec.study}` tries again; `--evaluation-minutes` gives it longer."
            )
            return None
        for model, told in zip(models, found["models"], strict=True):
            if not model.recipe:
                self.store.keep_test(model.like.number, told["metrics"])
        parts = [{"metrics": told["metrics"], "interval": told["interval"]} for told in found["models"]]
        last = models[-1]
        return {
            "opened_at": [opening.at for opening in openings(self.spec.layout)],
            "winner": parts[0],
            "baseline": parts[-1] if last.like.confirms == 0 and not last.recipe else None,
            "difference": self._better(found["difference"]),
            "models": labels,
        }

    def _on_split(self, model: FinalModel) -> ModelOnSplit:
        folder = str(self.prepared[model.seed_index]["folder"])
        settings = self.spec.settings(model.like.hyperparameters)
        return ModelOnSplit(model=model.folder, prepared=folder, settings=settings)

    def _better(self, difference: Mapping[str, Any] | None) -> dict[str, Any] | None:
        """A difference of two models as a gain: positive is better."""
        if difference is None:
            return None
        sign = self.spec.rule.sign
        bounds = sorted(sign * bound for bound in difference["interval"])
        return {**difference, "mean": sign * difference["mean"], "interval": bounds}

    # What stays

    def _keep(self, model: FinalModel, verdict: Verdict) -> None:
        data, now = self.prepared[model.seed_index], self.clock.now()
        if not model.recipe:
            keep_model(
                self.final_spec,
                model.like,
                data=data,
                environment=self.environment,
                redactor=self.redactor,
                recorder=self.final_recorder,
                now=now,
            )
            return
        # It is nobody's run, so the record of runs has no place for it; the export tells of its data.
        test = (verdict.test or {}).get("winner", {}).get("metrics")
        lineage = lineage_of(
            self.final_spec,
            replace(model.like, metrics=dict(model.metrics), test=test, step=None),
            data=data,
            environment=self.environment,
            run_id=None,
            now=now,
            redactor=self.redactor,
        )
        lineage = replace(lineage, trial_number=None, step=None, seed=None, hyperparameters={})
        export_model(model.folder, lineage, self.final_spec.layout.soup_export, link=True)

    def _drop_other_models(self, runs: Sequence[Trial], kept: set[int]) -> None:
        """A soup asks for the models of all: more seeds, or more finalists, make another of them."""
        keeper = FolderKeeper(self.final_spec.layout.checkpoints)
        for run in runs:
            stays = run.number in kept or (self.final.confirm.soup != "none" and _counts(run))
            weights = {run.step} if stays and run.step is not None else set[int]()
            keeper.keep(run.number, set(), weights)


def _cost_the_same(first: ModelOnSplit, second: ModelOnSplit) -> bool:
    cut = [one.settings.get("max_length") for one in (first, second)]
    return cut[0] == cut[1] and difference(first.model, second.model) is None


def _of_run(run: Trial) -> FinalModel:
    return FinalModel(
        label=f"trial {run.confirms}, seed {run.seed_index}",
        folder=_model(run),
        seed_index=run.seed_index or 0,
        score=run.value or 0.0,
        like=run,
        metrics=run.metrics,
    )


def _soup_label(recipe: Recipe, seed_index: int) -> str:
    return f"soup of trials {_listed(recipe)}, seed {seed_index}"


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))


def _model(run: Trial) -> Path:
    return model_folder(Path(run.checkpoint or ""))


def _has_model(run: Trial) -> bool:
    return run.checkpoint is not None and _model(run).is_dir()


def _counts(run: Trial) -> bool:
    """Whether a run has a score and a model."""
    return run.state is TrialState.COMPLETE and run.value is not None and _has_model(run)


def _own_runs(finalist: Finalist, runs: Sequence[Trial]) -> list[Trial]:
    return [run for run in runs if run.confirms == finalist.trial_number and run.seed_index in finalist.scores]


def _weighed(finalist: Finalist, model: FinalModel | None, earlier: Verdict | None) -> Finalist:
    """With the bytes of its weights; those of a model that is gone stand in the earlier verdict."""
    if model is None:
        known = next((one for one in earlier.finalists if one.label == finalist.label), None) if earlier else None
        return replace(finalist, model_bytes=known.model_bytes if known else None)
    return replace(finalist, model_bytes=weight_bytes(model.folder))


def _earlier(spec: StudySpec) -> Verdict | None:
    """The verdict before, if there is one that can be read."""
    with suppress(SweepError):
        return read_verdict(spec.layout)
    return None
