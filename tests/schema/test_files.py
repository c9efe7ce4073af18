from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schema.files import content, take_files
from schema.readings import File


@given(st.binary(max_size=200), st.booleans(), st.booleans(), st.data())
def test_base64_is_decoded_with_or_without_padding(data: bytes, url_safe: bool, padded: bool, draws: st.DataObject):  # noqa: FBT001
    """Either alphabet of RFC 4648, padded or not, with white space anywhere, gives the bytes."""
    text = (base64.urlsafe_b64encode if url_safe else base64.b64encode)(data).decode()
    if not padded:
        text = text.rstrip("=")
    place = draws.draw(st.integers(0, len(text)))
    assert content(text[:place] + " \r\n" + text[place:]) == data


@pytest.mark.parametrize(
    "text", ["a", "abcde", "ab=", "abc==", "ab===", "====", "=", "a=bc", "ab!c", "абвг", "YWJj\0", "data:,a"]
)
def test_what_is_no_base64_has_no_content(text):
    """A wrong length, padding or character is refused, not repaired."""
    assert content(text) is None


def test_files_are_taken_out_of_the_body():
    """The files are given in order, and only a marker is left of their contents."""
    body: dict[str, Any] = {
        "files": [{"type": "base64", "format": "application/pdf", "name": "../a\0.pdf", "body": "YWJj"}, "YWJj"]
    }
    anomalies: list[str] = []
    assert take_files(body, anomalies) == (File("../a␀.pdf", "application/pdf", b"abc"), File(None, None, None))
    assert anomalies == ["nul_in_text", "file_not_object"]
    assert body["files"][0]["body"] == "(base64, 4 characters)"
    assert body["files"][1] == "(base64, 4 characters)"


@pytest.mark.parametrize(
    ("entry", "file", "expected"),
    [
        ({"type": "base64", "body": "?"}, File(None, None, None), ["file_base64"]),
        ({"type": "base64"}, File(None, None, None), ["file_base64"]),
        ({"type": "base64", "body": 5}, File(None, None, None), ["file_base64"]),
        ({"type": "base64", "body": ""}, File(None, None, b""), []),
        ({"type": "hex", "body": "YWJj"}, File(None, None, b"abc"), ["file_type"]),
        (
            {"body": "YWJj", "name": 7, "format": []},
            File("7", None, b"abc"),
            ["file_type", "number_for_text", "field_not_text"],
        ),
    ],
)
def test_a_bad_file_is_named_and_kept(entry, file, expected):
    """A file that can't be read keeps its place, and says what is wrong with it."""
    anomalies: list[str] = []
    assert take_files({"files": [entry]}, anomalies) == (file,)
    assert anomalies == expected


def test_files_that_are_no_array_are_named():
    """Absent files are none; null or an object in their place is remarked."""
    cases: tuple[tuple[dict[str, Any], list[str]], ...] = (
        ({}, []),
        ({"files": None}, ["files_not_array"]),
        ({"files": {}}, ["files_not_array"]),
    )
    for body, expected in cases:
        anomalies: list[str] = []
        assert take_files(body, anomalies) == ()
        assert anomalies == expected
