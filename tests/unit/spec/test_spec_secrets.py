"""Secrets in a spec: named by variables, never stored, asked for when the study goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sweep.errors import InvalidSpecError, UserError
from sweep.redaction import Redactor
from sweep.spec import (
    how_to_keep_secrets,
    load_spec,
    parse_spec,
    spec_from_resolved,
    spec_secrets,
    spec_text,
    stored_spec,
    with_secrets,
)
from sweep.spec.references import with_values
from sweep.study_files import read_spec, write_facts

SPEC = """\
study: own
objective:
  task: own.module:Thing
  model: owner/name
  data: {train: "${FOLDER}/x.csv", text: hf_abcdefghijklmnopqrstuv}
  training:
    epochs: 1
    batch_size: ${ROWS}
    api_key: ${KEY}
    keys: ["${KEY}", plain]
    prompt: ${GREETING}, you
search:
  learning_rate: 1e-5..1e-3 log
tracking: {uri: "https://ann:${PW}@mlflow.example.org"}
history: postgresql://ann:${PW}@db/x
"""
ENVIRONMENT = {"ROWS": "8", "KEY": "123456", "GREETING": "hello", "PW": "c4n/ry"}


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "x.csv").touch()
    return {**ENVIRONMENT, "FOLDER": str(tmp_path)}


def read(text: str, folder: Path, environ: dict[str, str]) -> Any:
    return parse_spec(text, place="study.yaml", folder=folder, environ=environ)


def test_variables_are_used_by_their_values_and_stored_by_their_names(tmp_path: Path, environ: dict[str, str]) -> None:
    spec = read(SPEC, tmp_path, environ)
    training = spec.objective.training
    assert (training.batch_size, spec.objective.data.train) == (8, (str(tmp_path / "x.csv"),))
    assert spec.settings({})["api_key"] == "123456", "digits of a secret are no number"
    assert spec.settings({})["keys"] == ["123456", "plain"]
    assert spec.tracking.uri == "https://ann:c4n/ry@mlflow.example.org"
    stored, struck = stored_spec(spec, Redactor())
    assert struck == []
    assert stored == spec.resolved()
    text = spec_text(stored)
    for name in ("KEY", "GREETING", "PW"):
        assert f"${{{name}}}" in text
        assert environ[name] not in text
    assert spec.settings({}, as_written=True)["api_key"] == "${KEY}"
    assert spec.objective_settings(as_written=True)["training"]["keys"] == ["${KEY}", "plain"]
    assert spec_from_resolved(stored, environ=environ) == spec
    assert read(text, tmp_path, environ) == spec
    assert {"c4n/ry", "123456"} <= spec_secrets(spec)


def test_an_unset_variable_is_told_with_its_line_and_nothing_else(tmp_path: Path, environ: dict[str, str]) -> None:
    del environ["KEY"]
    with pytest.raises(InvalidSpecError) as caught:
        read(SPEC.replace("keys", "others").replace('"${KEY}", ', "").replace("1e-5..", "9.."), tmp_path, environ)
    assert caught.value.problems == [
        "study.yaml:9: objective.training.api_key=${KEY} names the environment variable KEY, which is not set. "
        "Set it, or write the value."
    ]


def test_a_wrong_value_is_shown_as_it_was_written(tmp_path: Path, environ: dict[str, str]) -> None:
    text = SPEC.replace("history: postgresql://ann:${PW}@db/x", "history: ${PW}")
    with pytest.raises(InvalidSpecError) as caught:
        read(text, tmp_path, environ)
    assert "history=${PW} is not a postgresql://" in str(caught.value)
    assert "c4n/ry" not in str(caught.value)


def test_what_is_written_out_is_struck_out_of_what_is_stored_with_a_warning(tmp_path: Path) -> None:
    environ = {**ENVIRONMENT, "FOLDER": str(tmp_path), "WANDB_API_KEY": "plain-as-day"}
    (tmp_path / "x.csv").touch()
    text = SPEC.replace("${PW}", "c4n/ry").replace("${KEY}", "c4nary").replace(", you", ", plain-as-day")
    spec = read(text, tmp_path, environ)
    stored, struck = stored_spec(spec, Redactor.from_environment(environ))
    own = ["objective.training.api_key", "objective.training.keys", "objective.training.prompt"]
    assert set(struck) == {"tracking.uri", "history", own[0], own[2]}
    assert stored["history"] == "postgresql://ann:***@db/x"
    assert stored["objective"]["training"]["api_key"] == "***"
    assert stored["objective"]["data"]["text"] == "hf_abcdefghijklmnopqrstuv", "names are no secrets"
    warned = how_to_keep_secrets(struck)
    assert any("history" in line and "PGPASSWORD" in line and "${NAME}" in line for line in warned)
    assert any("tracking.uri" in line and "MLFLOW_TRACKING_PASSWORD" in line for line in warned)
    # It loads to an equal spec but for the secrets, and to the same with them.
    back = spec_from_resolved(stored, environ=environ)
    assert back.model_copy(
        update={"history": spec.history, "tracking": spec.tracking, "objective": spec.objective}
    ) == (spec.model_copy(update={"references": back.references}))
    filled = with_secrets(stored, spec.resolved(), {}, None)
    assert spec_from_resolved(filled, environ=environ) == spec


def test_secrets_come_back_by_variables_and_a_missing_one_is_told(tmp_path: Path, environ: dict[str, str]) -> None:
    spec = read(SPEC.replace("${PW}", "c4n/ry"), tmp_path, environ)
    stored, _ = stored_spec(spec, Redactor())
    with pytest.raises(UserError) as caught:
        with_secrets(stored, None, {}, None)
    assert str(caught.value) == (
        "study 'own': the secret in tracking.uri and history is not stored. Name the study by its spec file, "
        "which has it, or set SWEEP_TRACKING_URI, or set SWEEP_HISTORY."
    )
    with pytest.raises(UserError, match="the secret in history"):
        with_secrets(stored, None, {"SWEEP_TRACKING_URI": "http://h"}, ["history"])
    variables = {"SWEEP_TRACKING_URI": spec.tracking.uri or "", "SWEEP_HISTORY": spec.history or ""}
    assert with_secrets(stored, None, variables, None) == spec.resolved()
    # A file can lack what the command line gave.
    other = read(SPEC.replace("history: postgresql://ann:${PW}@db/x", ""), tmp_path, environ).resolved()
    with pytest.raises(UserError, match="the secret in history is not stored"):
        with_secrets(stored, other, {}, None)
    # Where nothing is missing, variables change nothing.
    whole = read(SPEC, tmp_path, environ).resolved()
    assert with_secrets(whole, None, {"SWEEP_HISTORY": "postgresql://elsewhere/x"}, None) == whole


def test_stars_of_the_users_own_are_no_secret_that_is_missing(tmp_path: Path, environ: dict[str, str]) -> None:
    spec = read(SPEC.replace("${PW}", "c4n/ry").replace("${GREETING}", "hello ***"), tmp_path, environ)
    stored, struck = stored_spec(spec, Redactor())
    write_facts(spec.layout, stored, {}, {}, struck)
    with pytest.raises(UserError, match=r"the secret in tracking.uri and history is not stored"):
        read_spec(spec.layout, needed=None)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**environ, "SWEEP_TRACKING_URI": "http://h", "SWEEP_HISTORY": "postgresql://h/x"}.items():
            patch.setenv(name, value)
        assert read_spec(spec.layout, needed=None).settings({})["prompt"] == "hello ***, you"
    # An older release noted nothing.
    (spec.layout.folder / "struck.json").unlink()
    with pytest.raises(UserError, match=r"tracking.uri and history and objective.training.prompt"):
        read_spec(spec.layout, needed=None)


def test_who_only_looks_at_a_study_needs_no_variable_but_of_its_history(
    tmp_path: Path, environ: dict[str, str]
) -> None:
    stored = read(SPEC, tmp_path, environ).resolved()
    spec = spec_from_resolved(stored, needed=["history"], environ={"PW": "c4n/ry", "FOLDER": "/x"})
    assert spec.history == "postgresql://ann:c4n/ry@db/x"
    assert spec.settings({})["api_key"] == "${KEY}"
    assert spec_from_resolved(stored, needed=[], environ={}).history == "postgresql://ann:${PW}@db/x"
    with pytest.raises(InvalidSpecError, match=r"history=.*names the environment variable PW"):
        spec_from_resolved(stored, needed=["history"], environ={})


@pytest.mark.parametrize("search", ["api_key: [c4nary-a, c4nary-b]", "prompt: [plain, hf_abcdefghijklmnopqrstuv]"])
def test_a_secret_cannot_be_searched(tmp_path: Path, environ: dict[str, str], search: str) -> None:
    text = SPEC.replace("search:\n", f"search:\n  {search}\n").replace("    prompt: ${GREETING}, you\n", "")
    with pytest.raises(InvalidSpecError, match=r"looks like a secret.*objective\.training") as caught:
        read(text.replace("    api_key: ${KEY}\n", ""), tmp_path, environ)
    assert "c4nary" not in str(caught.value)
    assert "hf_abc" not in str(caught.value)


def test_errors_show_no_secret_whatever_is_wrong(tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_text("study: a\nhistory: redis://ann:c4nary@h/0\nobjective: {training: {password: c4nary}}\n")
    with pytest.raises(InvalidSpecError) as caught:
        load_spec(file, ["tracking.uri=ftp://ann:c4nary@h", "objective.api_key=c4nary", "token=c4nary1"])
    assert len(caught.value.problems) > 5
    assert "c4nary" not in str(caught.value)


def test_names_of_variables_in_plain_data_give_their_values() -> None:
    data = {"a": ["${KEY}", 1, None], "b": "x${KEY}y${NONE}"}
    assert with_values(data, ENVIRONMENT) == {"a": ["123456", 1, None], "b": "x123456y${NONE}"}
