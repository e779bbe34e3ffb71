"""A small study for each task, on tiny models and generated rows."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from objectives.loading import load_objective
from objectives.testing import tiny_file, tiny_model, tiny_rows
from sweep.spec import StudySpec, parse_spec
from sweep.testing.objective import ObjectiveUnderTest

NAMES = ("anna", "boris", "clara", "david")
PLACES = ("paris", "rome", "oslo", "lima")
TOPICS: Mapping[str, Sequence[str]] = {"food": ("menu", "dinner", "eat"), "music": ("song", "band", "album")}


def entity_rows(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Sentences in which persons and places, some of two words, are tagged."""
    draw = random.Random(seed)
    rows = []
    for _ in range(count):
        tokens, tags = [], []
        for _ in range(draw.randint(2, 4)):
            kind, words = draw.choice((("PER", NAMES), ("LOC", PLACES)))
            tokens += [draw.choice(("the", "please", "now")), draw.choice(words)]
            tags += ["O", f"B-{kind}"]
            if draw.random() < 0.3:
                tokens.append(draw.choice(words))
                tags.append(f"I-{kind}")
        rows.append({"tokens": tokens, "tags": tags})
    return rows


def pair_rows(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Two texts each; the topic of the second is the class."""
    draw = random.Random(seed)
    rows = []
    for number in range(count):
        topics = [draw.choice(sorted(TOPICS)) for _ in range(2)]
        texts = [" ".join(draw.choice(TOPICS[topic]) for _ in range(draw.randint(1, 4))) for topic in topics]
        rows.append({"text": f"{texts[0]} n{number}", "text_pair": texts[1], "label": topics[1]})
    return rows


def topic_rows(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Texts of none, one or both topics."""
    draw = random.Random(seed)
    rows = []
    for number in range(count):
        topics = [topic for topic in sorted(TOPICS) if draw.random() < 0.5]
        words = [draw.choice(TOPICS[topic]) for topic in topics] + ["the", f"n{number}"]
        draw.shuffle(words)
        rows.append({"text": " ".join(words), "label": topics})
    return rows


def rare_rows(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Texts of which one in ten is of the rare class, that a word hints at."""
    draw = random.Random(seed)
    rows = []
    for number in range(count):
        is_rare = number % 10 == 0
        hint = "song" if draw.random() < (0.9 if is_rare else 0.25) else "menu"
        rows.append({"text": f"the {hint} n{number}", "label": "rare" if is_rare else "usual"})
    return rows


def question_rows(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Questions who or where, on sentences with one person and one place at any place in them."""
    draw = random.Random(seed)
    rows = []
    for number in range(count):
        found = {"who": draw.choice(NAMES), "where": draw.choice(PLACES)}
        words = [draw.choice(("the", "please", "now", "for")) for _ in range(draw.randint(2, 30))]
        for word in found.values():
            words.insert(draw.randint(0, len(words)), word)
        asked = draw.choice(sorted(found))
        context = " ".join(words)
        answers = {"text": [found[asked]], "answer_start": [context.index(found[asked])]}
        rows.append({"question": f"{asked} n{number}", "context": context, "answers": answers})
    return rows


def score_rows(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Texts whose score is 100 for each word of music less 100 for each of food."""
    draw = random.Random(seed)
    rows = []
    for number in range(count):
        words = [draw.choice(TOPICS[topic]) for topic in draw.choices(sorted(TOPICS), k=draw.randint(1, 3))]
        score = 100.0 * sum(1 if word in TOPICS["music"] else -1 for word in words) + draw.gauss(0, 5)
        rows.append({"text": " ".join([*words, f"n{number}"]), "score": score})
    return rows


TEXTS = ("who where", *NAMES, *PLACES, *TOPICS["food"], *TOPICS["music"])
ROWS: Mapping[str, Callable[[int], list[dict[str, Any]]]] = {
    "text-classification": tiny_rows,
    "multi-label-classification": topic_rows,
    "token-classification": entity_rows,
    "question-answering": question_rows,
    "text-regression": score_rows,
}


def small_study(
    folder: Path, task: str, rows: Sequence[Mapping[str, Any]] = (), *, data: str = "", **training: Any
) -> StudySpec:
    """A study of a task on a tiny model.

    Args:
        folder: Where everything goes.
        task: Its name.
        rows: Training rows; without any, 60 generated ones.
        data: Further keys of ``data``, as YAML.
        **training: Training settings over the usual ones of a test.
    """
    folder.mkdir(exist_ok=True)
    tiny_file(folder / "train.jsonl", rows or ROWS[task](60))
    tiny_model(folder / "model", [*TEXTS, *(str(v) for row in rows for v in row.values() if isinstance(v, str))])
    settings = {"epochs": 3, "batch_size": 8, "evaluation_batch_size": 16, "max_length": 32, "learning_rate": 5e-3}
    settings |= {"dropout": 0.1, "accumulation": 2, "precision": "fp32", **training}
    text = f"""
study: small
objective:
  task: {task}
  model: ./model
  data: {{train: train.jsonl, validation_fraction: 0.2, test_fraction: 0.2{data and f", {data}"}}}
  training: {json.dumps(settings)}
search: {{learning_rate: 1e-3..1e-2 log, pruner: none}}
"""
    return parse_spec(text, place="study.yaml", folder=folder)


def folded_study(
    folder: Path,
    task: str = "text-classification",
    rows: Sequence[Mapping[str, Any]] = (),
    *,
    folds: int = 3,
    **more: Any,
) -> StudySpec:
    """Like :func:`small_study`, with its training rows in folds."""
    data = more.pop("data", "")
    spec = small_study(folder, task, rows, data=data, **more)
    objective = spec.objective.model_copy(update={"data": spec.objective.data.model_copy(update={"folds": folds})})
    return spec.model_copy(update={"objective": objective, "metric": spec.metric.model_copy(update={"source": "last"})})


def under_test(spec: StudySpec) -> ObjectiveUnderTest:
    """The study's objective, for the conformance suite."""
    return ObjectiveUnderTest(
        create=lambda: load_objective(spec.objective.task),
        spec=spec,
        diverging={"learning_rate": 1e30, "gradient_clipping": None, "warmup": 0.0},
    )


def trained(spec: StudySpec) -> dict[str, float]:
    """Metrics at the end of trial 0."""
    tested = under_test(spec)
    return dict(list(tested.create().train(tested.request()))[-1].metrics)
