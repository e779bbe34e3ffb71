from __future__ import annotations

import jiwer
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sacrebleu.metrics import BLEU, CHRF

from objectives.finetune.text_scores import (
    sentence_chrf,
    transcription_counts,
    transcription_scores,
    translation_counts,
    translation_scores,
)

ENGLISH = ["the cat sat on the mat", "a dog", "", "it rains a lot here today"]
RIGHT_ENGLISH = ["the cat sat on a mat", "the dog", "nothing", "it rains a lot here today"]
CHINESE, RIGHT_CHINESE = ["我爱你。", "今天天气很好"], ["我爱他。", "今天的天气很好"]


@pytest.mark.parametrize(
    ("language", "written", "right", "tokenizer"),
    [("en", ENGLISH, RIGHT_ENGLISH, "13a"), ("zh", CHINESE, RIGHT_CHINESE, "zh"), ("zh-TW", CHINESE, CHINESE, "zh")],
)
def test_scores_are_those_of_sacrebleu(language: str, written: list[str], right: list[str], tokenizer: str) -> None:
    found = translation_scores(translation_counts(written, right, language))
    assert found["chrf"] == pytest.approx(CHRF().corpus_score(written, [right]).score)
    assert found["bleu"] == pytest.approx(BLEU(tokenize=tokenizer).corpus_score(written, [right]).score)
    assert found["exact_match"] == np.mean([a == b for a, b in zip(written, right, strict=True)])


def test_each_row_has_a_chrf_of_its_own() -> None:
    found = sentence_chrf(translation_counts(ENGLISH, RIGHT_ENGLISH, "en"))
    expected = [CHRF().sentence_score(a, [b]).score for a, b in zip(ENGLISH, RIGHT_ENGLISH, strict=True)]
    assert found == pytest.approx(expected)


def test_chinese_needs_its_own_tokenizer() -> None:
    as_chinese, as_english = (
        translation_scores(translation_counts(CHINESE, RIGHT_CHINESE, language))["bleu"] for language in ("zh", "en")
    )
    assert as_chinese > 30 > as_english


@given(chosen=st.lists(st.integers(0, len(ENGLISH) - 1), min_size=1, max_size=8))
def test_any_choice_of_rows_is_scored_as_if_it_were_the_corpus(chosen: list[int]) -> None:
    written, right = [ENGLISH[i] for i in chosen], [RIGHT_ENGLISH[i] for i in chosen]
    counts = translation_counts(ENGLISH, RIGHT_ENGLISH, "en")
    found = translation_scores({name: column[chosen] for name, column in counts.items()})
    assert found == translation_scores(translation_counts(written, right, "en"))
    assert found["bleu"] == pytest.approx(BLEU().corpus_score(written, [right]).score)
    spoken = transcription_counts(ENGLISH, RIGHT_ENGLISH)
    rates = transcription_scores({name: column[chosen] for name, column in spoken.items()})
    assert rates == {"wer": pytest.approx(jiwer.wer(right, written)), "cer": pytest.approx(jiwer.cer(right, written))}


def test_a_perfect_text_has_no_errors_and_a_silent_model_all() -> None:
    assert transcription_scores(transcription_counts(RIGHT_ENGLISH, RIGHT_ENGLISH)) == {"wer": 0.0, "cer": 0.0}
    silent = transcription_scores(transcription_counts(["", ""], ["one two", "three"]))
    assert silent == {"wer": 1.0, "cer": 1.0}
