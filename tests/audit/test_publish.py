"""Publishing: what Datasette is given, and what it then can and can't do."""

from __future__ import annotations

import signal
import socket
import sqlite3
import subprocess
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from audit import publish
from projections.read_model import open_to_write
from schema.configuration import Configuration
from schema.errors import ConfigurationError, ReadModelError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Datasette leaves connections to databases in memory open as it is imported: so it is here, under the mark.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning")

DEADLINE_S = 30


def make_read_model(path: Path) -> None:
    open_to_write(path, Configuration()).close()


def add_user(connection: sqlite3.Connection, name: str) -> None:
    connection.execute(
        "INSERT INTO users VALUES (?, 'main', ?, NULL, ?, NULL, '2026-01-01', '2026-01-01', 1)",
        (f"main:{name}", name, name),
    )
    connection.commit()


@pytest.fixture
def audit_db(tmp_path: Path) -> Path:
    path = tmp_path / "audit.db"
    make_read_model(path)
    return path


def understood(command: list[str]) -> dict[str, Any]:
    """The options that Datasette itself reads from the command, less those that stand as by default."""
    from datasette.cli import serve  # type: ignore[import-untyped] # noqa: PLC0415

    words = command[command.index("serve") + 1 :]
    with serve.make_context("serve", list(words)) as given, serve.make_context("serve", []) as by_default:
        return {name: value for name, value in given.params.items() if value != by_default.params[name]}


def test_datasette_is_given_the_read_model_and_nothing_else(audit_db: Path) -> None:
    """Datasette opens audit.db alone, mutable, with our description, address and settings, and no folder or plug-in."""
    options = understood(publish.publish_command(audit_db, publish.metadata_path(), "127.0.0.2", 8123))

    assert options.pop("metadata").name == str(publish.metadata_path())
    assert options == {
        "files": (str(audit_db),),
        "host": "127.0.0.2",
        "port": 8123,
        "settings": (
            ("sql_time_limit_ms", 3000),
            ("facet_time_limit_ms", 1000),
            ("num_sql_threads", 4),
            ("default_page_size", 100),
            ("max_returned_rows", 500),
            ("default_cache_ttl", 0),
            ("suggest_facets", False),
            ("allow_download", False),
        ),
    }


def test_each_setting_differs_from_datasettes_own(audit_db: Path) -> None:
    """A setting that says what Datasette does anyway is not passed, the size of a page excepted, which tests lean on."""
    from datasette.app import DEFAULT_SETTINGS  # type: ignore[import-untyped] # noqa: PLC0415

    settings = dict(understood(publish.publish_command(audit_db, publish.metadata_path(), "", 1))["settings"])

    assert {name for name, value in settings.items() if DEFAULT_SETTINGS[name] == value} == {"default_page_size"}


def test_a_relative_path_is_made_absolute(audit_db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command holds wherever it is run, though the data folder was named relative to where we are."""
    monkeypatch.chdir(audit_db.parent)

    options = understood(publish.publish_command(type(audit_db)("audit.db"), publish.metadata_path(), "", 1))

    assert options["files"] == (str(audit_db),)


def test_a_missing_read_model_names_the_remedy(tmp_path: Path) -> None:
    """Where there is no audit.db, the error says which command makes it, and none is made."""
    with pytest.raises(ReadModelError, match=r"no read model at .*audit\.db: `simtrail project` or `simtrail serve`"):
        publish.publish_command(tmp_path / "audit.db", publish.metadata_path(), "127.0.0.1", 8001)

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"not a database, but long enough to be taken for one" * 100])
def test_a_file_that_is_no_read_model_is_refused(tmp_path: Path, content: bytes) -> None:
    """A file that the projector has not made is not published."""
    path = tmp_path / "audit.db"
    path.write_bytes(content)

    with pytest.raises(ReadModelError, match=r"can't be read|there is no read model"):
        publish.publish_command(path, publish.metadata_path(), "127.0.0.1", 8001)


@pytest.mark.parametrize("character", "?#%")
def test_a_path_that_datasette_would_misread_is_refused(tmp_path: Path, character: str) -> None:
    """A path that Datasette's unquoted URI would cut short, and so open another file for writing, is refused."""
    folder = tmp_path / f"a{character}b"
    folder.mkdir()
    make_read_model(folder / "audit.db")

    with pytest.raises(ConfigurationError, match="move the data folder"):
        publish.publish_command(folder / "audit.db", publish.metadata_path(), "127.0.0.1", 8001)


def test_the_description_is_the_repositorys_or_the_wheels_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where metadata.yml lies beside the module, as in a wheel, it is taken; never another's that lies above it."""
    assert publish.metadata_path().read_text().startswith("# Datasette's description of audit.db")

    (tmp_path / "audit").mkdir()
    (tmp_path / "metadata.yml").write_text("title: a stranger's")
    packaged = tmp_path / "audit" / "metadata.yml"
    packaged.write_text("title: ours")
    monkeypatch.setattr(publish, "__file__", str(tmp_path / "audit" / "publish.py"))
    assert publish.metadata_path() == packaged


@pytest.fixture
def site(audit_db: Path, tmp_path: Path) -> Iterator[httpx.Client]:
    """Datasette as its own process, answering."""
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = publish.publish_command(audit_db, publish.metadata_path(), "127.0.0.1", port)
    with (tmp_path / "datasette.out").open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, cwd=tmp_path)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
            deadline = time.monotonic() + DEADLINE_S
            while True:
                try:
                    client.get("/-/versions.json").raise_for_status()
                    break
                except httpx.TransportError:
                    assert process.poll() is None, (tmp_path / "datasette.out").read_text()
                    assert time.monotonic() < deadline, (tmp_path / "datasette.out").read_text()
                    time.sleep(0.05)
            yield client
        process.send_signal(signal.SIGTERM)
        # uvicorn stops cleanly, then lets the signal take its usual course.
        assert process.wait(DEADLINE_S) in (0, -signal.SIGTERM)
    finally:
        process.kill()
        process.wait()


def users(site: httpx.Client) -> list[str]:
    answer = site.get("/audit/users.json?_shape=array&_sort=user_id").raise_for_status()
    return [row["user_id"] for row in answer.json()]


def test_pages_follow_the_projector(audit_db: Path, site: httpx.Client) -> None:
    """What another connection commits, and what a rebuild's backup puts in its place, is on the next page."""
    with closing(sqlite3.connect(audit_db)) as projector:
        assert site.get("/audit/users.json").headers["cache-control"] == "no-cache"
        assert users(site) == []
        add_user(projector, "a")
        assert users(site) == ["a"]
        projector.execute("BEGIN IMMEDIATE")
        projector.execute("DELETE FROM users")
        assert users(site) == ["a"], "neither waits for a transaction nor sees into it"
        projector.rollback()

        rebuilt = audit_db.with_name("rebuilt.db")
        make_read_model(rebuilt)
        with closing(sqlite3.connect(rebuilt)) as new:
            for name in ("x", "y"):
                add_user(new, name)
            new.execute("CREATE TABLE made_by_a_later_version (z)")
            new.backup(projector)
        for _ in range(2 * publish.SQL_THREADS):  # Whichever thread answers.
            assert users(site) == ["x", "y"]
            assert site.get("/audit/made_by_a_later_version.json").status_code == 200

        assert projector.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0, "no reader is in the way"


def test_nothing_can_be_written_through_it(audit_db: Path, site: httpx.Client) -> None:
    """No page writes to the read model, hands out the file, or knows of any other."""
    with closing(sqlite3.connect(audit_db)) as projector:
        add_user(projector, "a")
        before = projector.execute("PRAGMA data_version").fetchone()

        for sql in ("with a as (select 1) delete from users", "delete from users", "pragma journal_mode=delete"):
            assert site.get("/audit.json", params={"sql": sql}).status_code == 400
        for path in ("/audit", "/audit/users", "/audit/users/main~3Aa", "/audit/timeline_of_sim", "/-/messages"):
            site.post(path, data={"sql": "delete from users", "message": "x"})
        assert site.get("/audit.db").status_code == 403
        assert list(site.get("/.json").json()) == ["audit"]

        assert projector.execute("PRAGMA data_version").fetchone() == before
        assert users(site) == ["a"]
