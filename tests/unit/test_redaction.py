"""What may be shown of URLs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.engine import URL

from sweep.redaction import redacted, redacted_values


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
