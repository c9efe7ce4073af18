from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schema.aliases import folded
from schema.redaction import BODY_CHARACTERS, cut, is_secret, mask, mask_urls, unreadable_text, withhold

if TYPE_CHECKING:
    from schema.readings import Json


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("https://a.example/webhooks/main/S3CRET", "https://a.example/webhooks/main/***"),
        ("https://a.example/webhooks/main/S3CRET?x=1#y", "https://a.example/webhooks/main/***"),
        ("see /webhooks/main/S3CRET, thanks", "see /webhooks/main/*** thanks"),
        ("https://a.example/hook?to=%2Fwebhooks%2Fmain%2FS3CRET", "https://a.example/hook?to=%2Fwebhooks%2Fmain%2F***"),
        (r"https:\/\/a.example\/webhooks\/main\/S3CRET", r"https:\/\/a.example\/webhooks\/main\/***"),
        ("https://a.example//webhooks//main//S3CRET", "https://a.example//webhooks//main//***"),
        ("https://user:pa:ss@a.example/", "https://***@a.example/"),
        ("https://token@a.example/webhooks/main/S3CRET", "https://***@a.example/webhooks/main/***"),
        ("https://u:p@ss@a.example", "https://***@a.example"),
        ("https://a.example/webhooks/main", "https://a.example/webhooks/main"),
        ("https://a.example/?mail=ivan@b.example", "https://a.example/?mail=ivan@b.example"),
        ("ivan@b.example", "ivan@b.example"),
        ("/webhooks/a/1 /webhooks/b/2", "/webhooks/a/*** /webhooks/b/***"),
    ],
)
def test_a_urls_secrets_are_masked(text, masked):
    """What follows a webhook's source, and what precedes a host, is replaced; the rest stays."""
    assert mask(text) == masked
    assert mask(masked) == masked


@pytest.mark.parametrize(
    "hostile", ["webhooks/", "webhooks%2F", "://", ":%2F%2F", "a:", "webhooks", "/", "%2F", "\\/", "@", "\\"]
)
def test_masking_takes_time_in_proportion(hostile):
    """A megabyte of beginnings is masked as soon as any other megabyte: this test would not end otherwise."""
    for start in ("", "webhooks/", "https://"):
        text = start + hostile * (1_000_000 // len(hostile)) + "x"
        assert mask(text)
        assert unreadable_text(text.encode())


@pytest.mark.parametrize(
    "name", ["pin", "PIN1", "p_i-n 2", "pin_code", "puk", "PUK2", "ki", "K_i", "opc", "OPc", "\u212ai", "pu\u212a"]
)
def test_secret_names(name):
    """PIN, PUK, Ki and OPc are known in every spelling that folds to them."""
    assert is_secret(folded(name))


@pytest.mark.parametrize("name", ["iccid", "kind", "topic", "op", "spin", "imsi", "key"])
def test_other_names_are_no_secrets(name):
    """A name that merely holds those letters is none."""
    assert not is_secret(folded(name))


def test_secret_fields_are_withheld_at_any_depth():
    """Their values go, whatever they are; what is set apart is left to others."""
    apart: dict[str, Any] = {"pin": 1}
    value: Any = {"pin": {"a": 1}, "a": [{"Ki": [1], "b": {"PUK 1": "x", "c": 5}}], "apart": apart}
    withhold(value, apart=apart)
    assert value == {
        "pin": "(withheld)",
        "a": [{"Ki": "(withheld)", "b": {"PUK 1": "(withheld)", "c": 5}}],
        "apart": {"pin": 1},
    }


def test_urls_are_masked_in_values_and_keys_at_any_depth():
    """The one in the handler, and any other, in strings and names of fields."""
    url, hidden = "https://a.example/webhooks/main/S3CRET", "https://a.example/webhooks/main/***"
    cases: tuple[tuple[Json, Json], ...] = (
        ({"handler": url}, {"handler": hidden}),
        ({"handler": url, "a": [url]}, {"handler": hidden, "a": [hidden]}),
        ({"handler": "x", "a": {url: url}}, {"handler": "x", "a": {hidden: hidden}}),
        (url, hidden),
        ([url], [hidden]),
    )
    for value, expected in cases:
        assert mask_urls(value, json.dumps(value).encode()) == expected


def test_a_url_spelled_with_escapes_is_masked():
    """JSON may write any letter as an escape."""
    body = rb'{"a":"https://a.example/\u0077ebhooks/main/S3CRET","b":"ftp://u:p\u0040h"}'
    assert mask_urls(json.loads(body), body) == {"a": "https://a.example/webhooks/main/***", "b": "ftp://***@h"}


@pytest.mark.parametrize(
    "body",
    [
        b'{"pin":"1234"',
        b'{"P_I-N 2" : 1234',
        rb'{"\u0070in":1234',
        b"<puk>12345678</puk>",
        b"iccid=89&pin1=1234",
        b"ki: 0123",
        b'{"opc":"00"',
        '{"pin":"1234"}'.encode("utf-16"),
        '{"pin":"1234"}'.encode("utf-32-le"),
        "/webhooks/main/1234".encode("utf-16-le"),
    ],
)
def test_unreadable_bytes_that_may_hold_secrets_are_withheld(body):
    """Where a secret can't be told from the rest, nothing is shown."""
    text = unreadable_text(body)
    assert text.startswith("(withheld")
    assert "1\u24002" not in text
    assert "12" not in text.replace(f"{len(body)}", "")


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"shipping topics, kinds", "shipping topics, kinds"),
        (b"a\0b\xff", "a\u2400b\ufffd"),
        (b"", ""),
        (b'"https://user:S3CR', '"https://***'),
        (b'{"a":"https://a.example/x', '{"a":"https://a.example/x'),
        (b'{"a":"https://u:p@h/webhooks/main/S3CRET"', '{"a":"https://***@h/webhooks/main/***"'),
    ],
)
def test_unreadable_bytes_are_shown_as_text(body, text):
    """What is not UTF-8 or NUL is replaced, URLs are masked."""
    assert unreadable_text(body) == text


def test_long_bodies_are_cut_and_say_so():
    """Neither a long body nor long unreadable bytes are shown whole, and both name the log."""
    assert cut("x" * BODY_CHARACTERS) == "x" * BODY_CHARACTERS
    for text in (cut("x" * (BODY_CHARACTERS + 1)), unreadable_text(b"x" * (BODY_CHARACTERS + 1))):
        assert text.startswith("x" * BODY_CHARACTERS + "…")
        assert "the log has the whole" in text
        assert len(text) < BODY_CHARACTERS + 100
    wide = "\U0001f600" * (BODY_CHARACTERS + 1)
    assert unreadable_text(wide.encode()).startswith(wide[:-1] + "…")
    url = b"https://user:" + b"p" * 500
    assert "ppp" not in unreadable_text(b"x" * (BODY_CHARACTERS - 100) + url + b"@h/")


@given(st.binary(max_size=400))
def test_unreadable_text_can_be_shown(body: bytes):
    """Whatever the bytes, their text is UTF-8 without NUL."""
    text = unreadable_text(body)
    text.encode()
    assert "\0" not in text
