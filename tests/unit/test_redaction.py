"""What may be shown: URLs, texts, plain data, streams."""

from __future__ import annotations

import base64
import io
import json
import time
from collections.abc import Callable
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.engine import URL

from sweep.redaction import RedactedStream, Redactor, redacted, redacted_values, secrets_in
from sweep.redaction.patterns import is_secret_name
from sweep.redaction.stream import LineRedactor


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://ann:canary@db:5432/x", "postgresql://ann:***@db:5432/x"),
        ("postgresql+psycopg://ann:can/ary@db/x", "postgresql+psycopg://ann:***@db/x"),
        ("postgresql://ann:can@ary@db/x", "postgresql://ann:***@db/x"),
        ("postgresql://ann:can?ar y@db/x", "postgresql://ann:***@db/x"),
        ("postgresql:///x?user=ann&password=canary", "postgresql:///x?user=ann&password=***"),
        ("postgresql://db/x?PASSWORD=can/ary&connect_timeout=5", "postgresql://db/x?PASSWORD=***&connect_timeout=5"),
        ("postgresql://:canary@db/x", "postgresql://:***@db/x"),
        ("https://canary@mlflow.example.org/", "https://***@mlflow.example.org/"),
        ("https://ann:canary@mlflow.example.org/a?b=c", "https://***@mlflow.example.org/a?b=c"),
        ("mssql+pyodbc:///?odbc_connect=DRIVER%3DX%3BPWD%3Dcanary", "mssql+pyodbc:///?odbc_connect=***"),
        ("postgresql://ann@db/x", "postgresql://ann@db/x"),
        ("postgresql:///x?host=/run/postgresql", "postgresql:///x?host=/run/postgresql"),
        ("sqlite:////data/mlflow.db", "sqlite:////data/mlflow.db"),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("models:/intents@champion", "models:/intents@champion"),
        ("bundled:tweets", "bundled:tweets"),
        ("{steps: 3, at: a@b.c}", "{steps: 3, at: a@b.c}"),
    ],
)
def test_a_url_is_shown_without_its_password(url: str, shown: str) -> None:
    assert redacted(url) == shown
    assert redacted(shown) == shown


def test_urls_in_prose_are_found_and_known_passwords_even_outside_of_one() -> None:
    text = "failed: postgresql://ann:can/ary@db/x, then (password=canary) and\nhttp://u:canary@h twice"
    assert "ary" not in redacted(text)
    url = "postgresql://ann:s%C3%A9same@db/x"
    assert redacted("no role sésame, no s%C3%A9same", url) == "no role ***, no ***"


def test_values_of_a_spec_are_redacted_at_any_depth_and_the_rest_stays() -> None:
    spec = {"history": "postgresql://a:canary@h/x", "n": [1, None, ("mysql://b:canary@h/y", 0.5)], "ok": True}
    shown = redacted_values(spec)
    assert shown == {"history": "postgresql://a:***@h/x", "n": [1, None, ["mysql://b:***@h/y", 0.5]], "ok": True}


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=4).map(lambda text: f"#{text}~"))
def test_no_password_is_shown_neither_raw_nor_as_sqlalchemy_writes_it(password: str) -> None:
    parts = URL.create("postgresql", username="ann", password=password, host="db.example.org", database="x")
    raw, encoded = f"postgresql://ann:{password}@db.example.org/x", parts.render_as_string(hide_password=False)
    for url in (raw, encoded):
        assert redacted(url) == "postgresql://ann:***@db.example.org/x"
        assert redacted(f"cannot reach {url} today") == "cannot reach postgresql://ann:***@db.example.org/x today"
        assert password not in redacted(f"it is {password}", encoded)


SHAPES = [
    ("log in with hf_abcdefghijklmnopqrstuvwxyz012345 now", "log in with *** now"),
    ("sk-proj-abcDEF0123456789abcDEF", "***"),
    ("ghp_abcdefghijklmnopqrstuvwxyz0123456789", "***"),
    ("github_pat_11ABCDEFG0abcdefghijkl_mnopq", "***"),
    ("glpat-abcdefghij0123456789", "***"),
    ("AKIAIOSFODNN7EXAMPLE", "***"),
    ("aws_secret_access_key = wJalrXUtnFEMI/K7MDENG+bPx", "aws_secret_access_key = ***"),
    ("xoxb-123456789012-abcdefghijkl", "***"),
    ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.SflKxw-RJSM", "***"),
    ("Authorization: Bearer abc.def-123", "Authorization: Bearer ***"),
    ("{'Authorization': 'Basic YW5uOmNhbmFyeQ=='}", "{'Authorization': 'Basic ***'}"),
    ("got bearer 0123456789abcdef", "got bearer ***"),
    ("train.py --token abc123def --epochs 3", "train.py --token *** --epochs 3"),
    ("['--db-password', 'hunter2', '--x']", "['--db-password', '***', '--x']"),
    ("password: hunter2, then", "password: ***, then"),
    ("connect(password='it is, yes', host=h)", "connect(password='***', host=h)"),
    ('{"api_key": "a\\"b", "c": 2}', '{"api_key": "***", "c": 2}'),
    (r'"{\"secret\": \"abc\", \"c\": 2}"', r'"{\"secret\": \"***\", \"c\": 2}"'),
    ("a\n-----BEGIN RSA PRIVATE KEY-----\nMIIE\nabc\n-----END RSA PRIVATE KEY-----\nb", "a\n***\nb"),
]


@pytest.mark.parametrize(("text", "shown"), SHAPES)
def test_what_looks_like_a_secret_is_struck_out_and_the_rest_stays(text: str, shown: str) -> None:
    assert redacted(text) == shown
    assert redacted(shown) == shown


@pytest.mark.parametrize(
    "text",
    [
        "learning_rate=1e-4, dropout 0.1, token_type_ids, num_tokens=512, max_token: 4096",
        "pad_token: <pad>, eos_token='</s>-and-more', mask_token=[MASK]",
        "9,412 tokens/s, 500 tokens: fine; unknown token: something",
        "sha256 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "commit b2163897a8616104c9cf3fdd59f61152afd1e2b6",
        "/home/ann/mlruns/studies/tweets/checkpoints/trial-0001/step-00000148",
        "task-0123456789abcdefghij, disk-0123456789abcdefghij, hf_transfer, hf_hub_download",
        "trial 12: step 84, accuracy 0.9420 [11/12] best 0.9469 (trial 1)",
        "api_key=${MY_KEY} and {token: ${HF_TOKEN}, a: 1} and https://${T}@host postgresql://ann:${PW}@db/x",
        "sqlite:////data/mlflow.db and http://127.0.0.1:5000/#/experiments/1",
    ],
)
def test_harmless_texts_stay(text: str) -> None:
    redactor = Redactor.from_environment({"HF_TOKEN": "a-secret-of-its-own", "PGPASSWORD": "9f86d0"})
    assert redactor.text(text) == text


ENVIRONMENT = {
    "HF_TOKEN": "tok/en+1",
    "MLFLOW_TRACKING_PASSWORD": "pässword",
    "PGPASSWORD": 'quo"ted',
    "AWS_SECRET_ACCESS_KEY": "c4nary-aws",
    "RAY_AUTH_TOKEN": "0123456789abcdef0123",
    "WANDB_API_KEY": "c4nary-wandb",
    "DATABASE_URL": "postgresql://ann:c4nary-url@db/x",
    "DEPLOY_KEY": "-----BEGIN KEY-----\nline-of-a-key-one\nline-of-a-key-two",
}
HARMLESS = {
    "PATH": "/usr/bin:/bin",
    "PWD": "/home/somebody",
    "GIT_AUTHOR_NAME": "Somebody",
    "XAUTHORITY": "/home/x/.Xauthority",
    "SSH_AUTH_SOCK": "/tmp/agent.sock",
    "TOKENIZERS_PARALLELISM": "falsetto",
    "RAY_AUTH_MODE": "token-mode",
    "MAX_TOKENS": "131072",
    "GOOGLE_APPLICATION_CREDENTIALS": "/usr/bin/env",
    "WANDB_MODE": "offline",
    "API_TOKEN": "short",
}


def test_values_of_secret_variables_are_struck_out_however_they_are_written() -> None:
    redactor = Redactor.from_environment({**ENVIRONMENT, **HARMLESS})
    values = [*list(ENVIRONMENT.values())[:6], "c4nary-url", "line-of-a-key-one", "line-of-a-key-two"]
    for value in values:
        for written in (
            value,
            quote(value, safe=""),
            json.dumps(value),
            json.dumps({"a": [value]}, ensure_ascii=False),
        ):
            assert written.strip('"') not in redactor.text(f"x{written}y {written}")
            assert value not in redactor.text(written)
    for value in HARMLESS.values():
        assert redactor.text(f"it is {value}") == f"it is {value}"


def test_a_short_secret_of_digits_or_letters_is_no_part_of_a_digest_or_a_word() -> None:
    redactor = Redactor.from_environment({"A_TOKEN": "abcdef", "PGPASSWORD": "postgres", "B_PASSWORD": "123456"})
    text = "00abcdef11 postgresql://db/x 0.123456 0123456"
    assert redactor.text(text) == text
    assert redactor.text("abcdef, postgres; 123456.") == "***, ***; ***."


def test_a_known_secret_of_eight_characters_is_struck_out_even_within_a_word() -> None:
    redactor = Redactor().knowing("hunterxyz", "0a1b2c3d", "12345678")
    assert redactor.text("annhunterxyzbob, x0a1b2c3dy, 0.123456789") == "ann***bob, x***y, 0.***9"
    # Everybody knows this one, and it would make a riddle of many a line.
    assert Redactor().knowing("postgres").text("postgresql says: postgres") == "postgresql says: ***"


@pytest.mark.parametrize("safe", ["", "/", " ", "@"])
@pytest.mark.parametrize("change", [str, str.lower, quote, lambda text: text.replace("%20", "+")])
def test_a_known_secret_is_struck_out_however_much_of_it_is_quoted(safe: str, change: Callable[[str], str]) -> None:
    secret = "c4n/ry@ sésame"
    written = change(quote(secret, safe=safe))
    assert Redactor().knowing(secret).text(f"a={written}&b=50%") == "a=***&b=50%"


def test_a_secret_that_is_no_text_troubles_nobody() -> None:
    secret = b"c4n\xffary".decode("utf-8", "surrogateescape")
    assert Redactor.from_environment({"A_TOKEN": secret}).text(f"it is {secret}") == "it is ***"


@given(st.text(min_size=6, max_size=20), st.text(max_size=5), st.text(max_size=5), st.booleans())
def test_a_known_secret_is_struck_out_of_base64_whatever_stands_beside_it(
    password: str, before: str, behind: str, is_of_urls: bool
) -> None:
    encode = base64.urlsafe_b64encode if is_of_urls else base64.b64encode
    code = encode(f"{before}:{password}{behind}".encode()).decode()
    shown = Redactor().knowing(password).text(f"Basic {code}, then")
    assert "***" in shown
    assert code[-len(password) :] not in shown


def test_values_under_a_secret_name_are_struck_out_whatever_they_look_like() -> None:
    data = {"api_key": "x y", "nested": {"db-password": ["a b", {"c": "d"}], "pin_secret": 123456}, "pad_token": "<p>"}
    assert redacted_values(data) == {
        "api_key": "***",
        "nested": {"db-password": ["***", {"c": "***"}], "pin_secret": "***"},
        "pad_token": "<p>",
    }
    assert secrets_in(data) == {"x y", "a b", "d", "123456"}
    benign = {"api_key": "${NAME}", "secret": None, "password": True, "token": "", "labels": ["token", "password"]}
    assert redacted_values(benign) == benign
    assert secrets_in(benign) == set()


LINES = st.lists(
    st.sampled_from(
        [
            *(
                "password=",
                "token: ",
                "--api-key ",
                "://",
                "@",
                "'",
                '"',
                "\\",
                "***",
                "${X}",
                " ",
                "\n",
                ":",
                "&",
                "?",
            ),
            *("c4nary", "abc", "hf_abcdefghijklmnopqrst", "Bearer ", "Authorization: ", "postgresql", "12345678", "}"),
        ]
    ),
    max_size=30,
).map("".join)


@given(st.one_of(LINES, st.text()))
def test_redaction_comes_to_rest_and_never_grows_a_text_much(text: str) -> None:
    redactor = Redactor(frozenset({"c4nary"}))
    shown = redactor.text(text)
    assert "c4nary" not in shown
    assert len(shown) <= 3 * len(text) + 3
    for _ in range(3):
        before, shown = shown, redactor.text(shown)
        assert len(shown) <= len(before)
    assert redactor.text(shown) == shown


@given(LINES, st.integers(1, 7))
def test_a_stream_says_the_same_however_the_text_is_cut(text: str, size: int) -> None:
    redactor, whole, cut = Redactor(frozenset({"c4nary"})), io.StringIO(), io.StringIO()
    for out, step in ((whole, len(text) + 1), (cut, size)):
        stream = RedactedStream(out, redactor)
        for start in range(0, len(text), step):
            stream.write(text[start : start + step])
        stream.flush()
    assert cut.getvalue() == whole.getvalue()
    assert "c4nary" not in cut.getvalue()


def test_a_private_key_over_many_lines_is_not_said_line_by_line() -> None:
    out = io.StringIO()
    stream = RedactedStream(out, Redactor())
    for line in ("before", "-----BEGIN PRIVATE KEY-----", "MIIEabc", "def", "-----END PRIVATE KEY-----", "after"):
        stream.write(f"{line}\n")
    stream.buffer.write(b"password=bytes\n")
    assert out.getvalue().split() == ["before", "***", "after", "password=***"]


@pytest.mark.parametrize(
    "unit", ["a", "a://", "?token ", "password=", "token --", "--token ", "\\", "password='", "key:)"]
)
def test_a_line_of_a_megabyte_is_no_trap(unit: str) -> None:
    text = unit * (200_000 // len(unit))
    began = time.perf_counter()
    redacted(text)
    assert time.perf_counter() - began < 20


def test_a_key_that_is_only_spoken_of_silences_nothing() -> None:
    lines = LineRedactor(Redactor.from_environment({}))
    shown = lines.feed("expected -----BEGIN PRIVATE KEY-----\nepoch 1 loss 0.3\nepoch 2\n")
    assert "epoch 1 loss 0.3\nepoch 2\n" in shown


def test_a_secret_of_letters_is_known_beside_an_underscore() -> None:
    assert "hunterxyz" not in Redactor.from_environment({}).knowing("hunterxyz").text("ann_hunterxyz, hunterxyz_2")


@pytest.mark.parametrize("name", ["smtp_pass", "pass", "auth", "db-dsn", "connection_string"])
def test_settings_that_hold_a_secret_are_known_by_their_names(name: str) -> None:
    assert is_secret_name(name)
    assert not is_secret_name(f"{name}enger")
