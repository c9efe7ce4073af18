"""The export as a download: to each role what it may have, whole or visibly cut."""

from __future__ import annotations

import asyncio
import errno
import io
import json
import shutil
import sqlite3
import zipfile
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from audit import folder as folders
from audit.export import prepare
from audit.formats import FORMATS
from audit.roles import Role
from audit.selection import PARTS, PERSONAL, select
from audit.site import export

if TYPE_CHECKING:
    from collections.abc import Callable

    from audit.folder import DataFolder

    AsRole = Callable[[Role | None], httpx.Client]


def opened(answer: httpx.Response) -> zipfile.ZipFile:
    assert answer.status_code == 200, answer.text
    archive = zipfile.ZipFile(io.BytesIO(answer.content))
    assert archive.testzip() is None
    return archive


def package(archive: zipfile.ZipFile) -> dict[str, Any]:
    descriptor: dict[str, Any] = json.loads(archive.read("datapackage.json"))
    return descriptor


@pytest.mark.parametrize("role", Role)
def test_each_role_gets_what_it_may_see(month: DataFolder, as_role: AsRole, role: Role) -> None:
    """An auditor's archive has no part, name or address that is personal; the other roles' have all."""
    archive = opened(as_role(role).get("/-/export.zip"))

    names = {each["name"] for each in package(archive)["resources"]}
    assert names == (set(PARTS) if role.personal else set(PARTS) - PERSONAL)
    with closing(sqlite3.connect(month.read_model)) as connection:
        people = [name for (name,) in connection.execute("SELECT DISTINCT last_name FROM users")]
        for each in package(archive)["resources"]:
            if each["name"] != "events":
                (count,) = connection.execute(f"SELECT count(*) FROM {each['name']}").fetchone()
                assert each["rows"] == count
    text = "".join(archive.read(name).decode() for name in archive.namelist() if name.endswith(".csv"))
    assert people
    assert any(name in text for name in people) is role.personal
    assert ("203.0.113.7" in text) is role.personal


def test_nobody_gets_anything(as_role: AsRole) -> None:
    """Who is not logged in is sent to log in, or told 401."""
    for path in ("/-/export", "/-/export.zip?tables=sims"):
        assert as_role(None).get(path).status_code == 302
        assert as_role(None).get(path, headers={"accept": "*/*"}).status_code == 401


def test_the_form_asks_for_what_the_role_may_have(as_role: AsRole) -> None:
    """The page offers the parts that will be given, and no other; it is one click from the front page."""
    assert 'href="/-/export"' in as_role(Role.AUDITOR).get("/").text
    for role in Role:
        text = as_role(role).get("/-/export").text
        offered = {part for part in PARTS if f'name="tables" value="{part}"' in text}
        assert offered == (set(PARTS) if role.personal else set(PARTS) - PERSONAL)


@pytest.mark.parametrize("form", FORMATS)
def test_what_is_asked_for_is_given(as_role: AsRole, form: str) -> None:
    """Range, source, tables and format are heeded, and the archive is named by its date and position."""
    query = "from=2020-01-01&to=2030-01-01T00:00:00Z&source=main&tables=sims&tables=jobs,bills&format=" + form
    answer = as_role(Role.AUDITOR).get(f"/-/export.zip?{query}")

    told = package(opened(answer))
    assert [each["path"] for each in told["resources"]] == [f"jobs.{form}", f"sims.{form}", f"bills.{form}"]
    assert told["simtrail"]["range"]["source"] == "main"
    assert answer.headers["content-type"] == "application/zip"
    position = told["simtrail"]["snapshot"]["position"]
    assert answer.headers["content-disposition"].endswith(f'-position-{position}.zip"')
    assert answer.headers["cache-control"] == "private, no-store"


@pytest.mark.parametrize(
    ("query", "status", "said"),
    [
        ("tables=users", 400, "users can&#39;t be exported"),
        ("tables=sims;drop", 400, "can&#39;t be exported"),
        ("from=yesterday", 400, "is no moment"),
        ("from=2026-02-01&to=2026-01-01", 400, "the second must be the later one"),
        ("format=xml", 400, "is no format"),
        ("source=<script>", 409, "nothing was received from a source"),
    ],
)
def test_what_can_not_be_exported_is_said_on_the_form(as_role: AsRole, query: str, status: int, said: str) -> None:
    """A wrong range, table, format or source gets the form again, with why, and what was asked still in it."""
    answer = as_role(Role.AUDITOR).get(f"/-/export.zip?{query}")

    assert answer.status_code == status
    assert said in answer.text
    assert "<script>" not in answer.text.split("<main")[1]
    assert 'action="/-/export.zip"' in answer.text


# What happens on the way.


class Sent:
    """Takes what an answer sends."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []

    async def __call__(self, message: dict[str, Any]) -> None:
        """Called by what answers."""
        self.messages.append(message)

    @property
    def is_complete(self) -> bool:
        """Whether the answer was ended as a whole one."""
        last = self.messages[-1]
        return last["type"] == "http.response.body" and not last.get("more_body")


async def waiting() -> dict[str, str]:
    await asyncio.Event().wait()
    raise AssertionError


async def hung_up() -> dict[str, str]:
    return {"type": "http.disconnect"}


def stream(month: DataFolder, receive: Callable[[], Any], closed: list[bool]) -> export._Stream:
    stack = ExitStack()
    stack.callback(closed.append, True)
    selection = select(None, allowed=frozenset(PARTS))
    made = stack.enter_context(prepare(month.read_model, month.log, selection, FORMATS["csv"], now=datetime.now(UTC)))
    return export._Stream(stack, made, receive)


def test_who_hangs_up_is_not_read_for(month: DataFolder, monkeypatch) -> None:
    """Once nobody waits, nothing more is read, and the snapshot is let go of."""
    monkeypatch.setattr(export, "PIECE_BYTES", 1)
    closed: list[bool] = []
    sent = Sent()
    asyncio.run(stream(month, hung_up, closed).asgi_send(sent))

    assert not sent.is_complete
    assert len(sent.messages) <= 3
    assert closed == [True]


def test_what_fails_on_the_way_is_no_whole_answer(month: DataFolder, monkeypatch) -> None:
    """A fault at the last file ends the answer without its end, and lets go of the snapshot."""
    closed: list[bool] = []
    sent = Sent()
    made = stream(month, waiting, closed)

    def fail(*_: object) -> bytes:
        raise OSError(errno.EIO, "the disk is gone")

    monkeypatch.setattr("audit.export.descriptor", fail)
    with pytest.raises(OSError, match="the disk is gone"):
        asyncio.run(made.asgi_send(sent))
    assert sent.messages[0]["status"] == 200
    assert not sent.is_complete
    assert closed == [True]

    monkeypatch.undo()
    asyncio.run(stream(month, waiting, closed).asgi_send(sent := Sent()))
    assert sent.is_complete
    zipfile.ZipFile(io.BytesIO(b"".join(message.get("body", b"") for message in sent.messages))).testzip()


def test_an_answer_that_fails_is_cut_off(month: DataFolder, publish, tmp_path, browser, log_in) -> None:
    """Over HTTP a fault on the way is an error of the client's: the connection ends before the answer does."""
    shutil.copytree(month.path, tmp_path / "data")
    copy = folders.existing(tmp_path / "data")
    with closing(sqlite3.connect(copy.read_model)) as connection, connection:
        connection.execute("UPDATE files SET content = x'00' WHERE rowid = (SELECT max(rowid) FROM files)")
    with publish(copy) as url, browser(url) as client:
        log_in(client, "auditor")
        with pytest.raises(httpx.RemoteProtocolError):
            client.get("/-/export.zip")
        assert client.get("/-/export.zip?tables=sims").status_code == 200


def test_only_some_are_streamed_at_a_time(as_role: AsRole) -> None:
    """One more than may be is told to come again, and nothing is left running by those that end."""
    client = as_role(Role.AUDITOR)
    for _ in range(export.AT_A_TIME + 1):
        assert client.get("/-/export.zip?tables=nothing").status_code == 400
        assert client.get("/-/export.zip?tables=tracking").status_code == 200
    with ExitStack() as stack:
        answers = [
            stack.enter_context(as_role(Role.ADMIN).stream("GET", "/-/export.zip")) for _ in range(export.AT_A_TIME + 4)
        ]
        assert {answer.status_code for answer in answers} <= {200, 503}
