from __future__ import annotations

import io
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from audit import append as capture
from audit.append import FormError, bodies, form_of, shown_name
from schema.log import open_to_append

NOW = datetime(2026, 5, 1, tzinfo=UTC)


def append(path: Path, captured: list[tuple[str, bytes]]) -> list[tuple[int, str]]:
    with open_to_append(path) as log:
        return list(capture.append(log, captured, "main", now=lambda: NOW, entropy=os.urandom))


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("a.json", "json"),
        ("A.JSON", "json"),
        ("a.ndjson", "ndjson"),
        ("a.jsonl", "ndjson"),
        ("a.json.gz", "raw"),
        ("json", "raw"),
        ("-", "raw"),
    ],
)
def test_a_suffix_tells_the_form(name: str, form: str) -> None:
    """A file's form is what its last suffix promises; anything else is raw."""
    assert form_of(Path(name)) == form


def test_ndjson_is_one_body_a_line_byte_for_byte() -> None:
    """Of a line only its end is not the body; blank lines hold none; the last line needs no end."""
    stream = io.BytesIO(b'{"a":1}\r\n\n \t\n {"b" : 2}\t\n\r\n{"c":3}')

    assert list(bodies(stream, "ndjson", "x")) == [b'{"a":1}', b' {"b" : 2}\t', b'{"c":3}']


@pytest.mark.parametrize("form", ["json", "raw"])
def test_a_file_of_one_body_is_taken_byte_for_byte(form: capture.Form) -> None:
    """The whole file is the body, with every blank and line end in it."""
    content = b'\r\n { "a":\t1 } \n\n'

    assert list(bodies(io.BytesIO(content), form, "x")) == [content]


@pytest.mark.parametrize("content", [b"", b"\xff\x00", b"{", b'{"a":1}\n{"b":2}\n'])
def test_raw_takes_anything(content: bytes) -> None:
    """A raw body needn't be JSON, nor anything at all."""
    assert list(bodies(io.BytesIO(content), "raw", "x")) == [content]


@pytest.mark.parametrize("content", [b"", b"\xff\x00", b"{", b'{"a":1}\n{"b":2}\n', b'{"a": NaN}'])
def test_what_is_called_json_must_be(content: bytes) -> None:
    """A file that should hold one JSON text and doesn't is refused, by name and with the way round."""
    with pytest.raises(FormError, match=r"^a\.json is not JSON: .*--format raw"):
        list(bodies(io.BytesIO(content), "json", "a.json"))


def test_what_is_called_ndjson_must_be() -> None:
    """A line that isn't JSON is refused by its number, as is a JSON text that spans lines."""
    with pytest.raises(FormError, match=r"^a\.jsonl, line 3, is not JSON"):
        list(bodies(io.BytesIO(b"1\n\n{\n}\n"), "ndjson", "a.jsonl"))


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/a/b/schet-№5.json", "schet-№5.json"),
        ("tab\there\nand there", "tab here\N{REPLACEMENT CHARACTER}and there"),
        (os.fsdecode(b"caf\xe9.json"), "caf\N{REPLACEMENT CHARACTER}.json"),
    ],
)
def test_a_files_name_is_shown_as_text_on_one_line(path: str, shown: str) -> None:
    """Only the base name is told, and whatever bytes a file system has there, it is text of one line."""
    assert shown_name(Path(path)) == shown


def test_a_body_becomes_an_event(tmp_path: Path) -> None:
    """An appended body is an event of now and of its source, which tells its file and that nobody sent it."""
    path = tmp_path / "log.db"

    assert append(path, [("a.json", b"{}"), ("b", b"\xff")]) == [(1, "a.json"), (2, "b")]

    with open_to_append(path) as log:
        first, second = log.after(0)
    assert first.delivery.body == b"{}"
    assert first.delivery.received_at == "2026-05-01T00:00:00.000000Z"
    assert first.delivery.source == "main"
    assert first.delivery.remote == "append"
    assert first.delivery.headers == {"x-simtrail-file": "a.json"}
    assert second.delivery.body == b"\xff"


@pytest.mark.parametrize("bound", ["GROUP_DELIVERIES", "GROUP_BYTES"])
def test_bodies_share_commits_within_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bound: str) -> None:
    """A commit holds at most so many bodies or bytes, and what is told is on disk already."""
    monkeypatch.setattr(capture, bound, 3)
    with open_to_append(tmp_path / "log.db") as log:
        recorded = capture.append(log, [("x", b"1")] * 7, "main", now=lambda: NOW, entropy=os.urandom)

        heads = [(position, log.head()) for position, _ in recorded]

    assert heads == [(1, 3), (2, 3), (3, 3), (4, 6), (5, 6), (6, 6), (7, 7)]


def test_an_error_leaves_recorded_what_was_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a later body can't be had, exactly those are in the log whose positions were given."""
    monkeypatch.setattr(capture, "GROUP_DELIVERIES", 2)
    lines = bodies(io.BytesIO(b"1\n2\n3\nnot\n5\n"), "ndjson", "x")
    told: list[tuple[int, str]] = []
    with open_to_append(tmp_path / "log.db") as log:
        captured = (("x", body) for body in lines)
        with pytest.raises(FormError, match="line 4"):
            told.extend(capture.append(log, captured, "main", now=lambda: NOW, entropy=os.urandom))

        assert told == [(1, "x"), (2, "x")]
        assert [event.delivery.body for event in log.after(0)] == [b"1", b"2"]
