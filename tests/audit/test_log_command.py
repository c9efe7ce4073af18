"""`simtrail log`: making a log on a server, and moving one without losing or changing an event."""

from __future__ import annotations

import os
import signal
import sqlite3
import threading
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

import psycopg
import pytest
from click.testing import CliRunner

from audit import folder as folders
from audit import log_copy
from audit.command import main
from projections.digest import digests
from schema import correction as corrections
from schema.correction import Correction
from schema.errors import LogError
from schema.event import CorrectionRecorded, Delivery, WebhookReceived, instant, uuid7
from schema.log import open_to_append, open_to_read
from schema.log_place import Server, url

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from click.testing import Result

    from bench.cluster import Postgres
    from schema.log import Row
    from schema.log_place import Place
    from tests.conftest import Eventually, Start

START = datetime(2026, 5, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("SIMTRAIL_")]:
        monkeypatch.delenv(name)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def done(*arguments: object) -> str:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result.output


def events(first: int, count: int) -> list[WebhookReceived | CorrectionRecorded]:
    made: list[WebhookReceived | CorrectionRecorded] = []
    for n in range(first, first + count):
        at = START + timedelta(seconds=n)
        kind = CorrectionRecorded if n % 7 == 3 else WebhookReceived
        body = b'{"type": "msu_lock", "items": [{"iccid": "8970100000%010d"}]}' % n if n % 5 else b"\xff no JSON"
        if kind is CorrectionRecorded:
            body = corrections.encode(Correction("account", "main", "good", "A. Auditor", f"seen on paper {n}"))
        made.append(kind(uuid7(at, partial(int.to_bytes, n)), 1, Delivery(instant(at), "main", "", {}, body)))
    return made


def fill(place: Place, first: int, count: int) -> None:
    with open_to_append(place) as log:
        log.append(events(first, count))


def rows(place: Place) -> list[object]:
    with open_to_read(place) as log:
        return list(log.rows_after(0, max_events=1_000_000))


@pytest.fixture
def database(postgres: Postgres) -> Iterator[str]:
    """A database without a log, whose owner is no superuser; the owner's URL."""
    name = f"own{os.urandom(4).hex()}"
    postgres.execute(f"CREATE ROLE {name} LOGIN CREATEROLE")
    postgres.execute(f"CREATE DATABASE {name} OWNER {name}")
    yield postgres.url(name, name)
    postgres.execute(f"DROP DATABASE {name} WITH (FORCE)")


def test_init_makes_a_log_that_its_role_can_use(postgres: Postgres, database: str) -> None:
    """By an owner who is no superuser; and again, without harm. What it prints is what --log takes."""
    role = f"app{os.urandom(4).hex()}"
    told = done("log", "init", "--log", database, "--role", role)
    (application,) = [line.split()[1] for line in told.splitlines() if line.strip().startswith("--log ")]
    assert application == f"postgresql://{role}@127.0.0.1:{postgres.port}/{database.rpartition('/')[2]}"
    assert f'ALTER ROLE "{role}" PASSWORD' in told
    fill(Server(application), 0, 3)
    assert "It was there already." in done("log", "init", "--log", database, "--role", role)
    assert len(rows(Server(application))) == 3
    postgres.execute(f"DROP OWNED BY {role}", database.rpartition("/")[2])
    postgres.execute(f"DROP ROLE {role}")


def test_init_prints_what_someone_else_can_run(postgres: Postgres, database: str) -> None:
    """The statements of a whole log, with the role."""
    role = f"app{os.urandom(4).hex()}"
    name = database.rpartition("/")[2]
    postgres.execute(done("log", "init", "--log", database, "--role", role, "--sql"), name)
    fill(Server(postgres.url(name, role)), 0, 1)
    postgres.execute(f"DROP OWNED BY {role}", name)
    postgres.execute(f"DROP ROLE {role}")


def test_init_says_why_it_can_not(postgres: Postgres, database: str, tmp_path: Path) -> None:
    """A role that may not, a role that could do anything, a server that is away, a file."""
    name = database.rpartition("/")[2]
    postgres.execute(f"CREATE ROLE {name}_narrow LOGIN")
    for place, role, why in (
        (postgres.url(name, f"{name}_narrow"), "simtrail", "permission denied"),
        (database, "postgres", "superuser"),
        (database, name, "is the log's owner"),
        ("postgresql://u:geheim@127.0.0.1:1/d", "simtrail", "can't be made in postgresql://u@127.0.0.1:1/d"),
    ):
        result = run("log", "init", "--log", place, "--role", role)
        assert result.exit_code == 1
        assert why in result.output
        assert "geheim" not in result.output
    assert postgres.execute("SELECT to_regclass('simtrail.stored_events')", name) == [(None,)]
    assert run("log", "init", "--log", url(tmp_path / "log.db")).exit_code == 2
    postgres.execute(f"DROP ROLE {name}_narrow")


def test_a_log_is_copied_there_and_back(tmp_path: Path, server_log: Server) -> None:
    """From a file to a server to a file: positions, ids, topics and bytes, and so the tables."""
    origin = folders.create(tmp_path / "origin")
    fill(origin.log_file, 0, 50)
    told = done("log", "copy", url(origin.log_file), server_log.url)
    assert "has 50 events, 50 of them copied now" in told
    back = folders.create(tmp_path / "back")
    again = done("log", "copy", server_log.url, url(back.log_file))
    assert again.splitlines()[1] == told.splitlines()[1]
    assert rows(origin.log_file) == rows(server_log) == rows(back.log_file)
    for folder, place in ((origin, None), (back, None), (folders.create(tmp_path / "far"), server_log)):
        done("project", "--once", "--data", folder.path, *(["--log", place.url] if place else []))
    assert len({str(model_digests(tmp_path / name)) for name in ("origin", "back", "far")}) == 1


def caught_up(folder: Path, place: Server) -> bool:
    return "Lag               0" in done("status", "--data", folder, "--log", place.url)


def model_digests(folder: Path) -> object:
    with closing(sqlite3.connect(folder / "audit.db")) as connection:
        return digests(connection)


def test_a_backup_of_a_log_on_a_server_is_a_file(tmp_path: Path, server_log: Server) -> None:
    """Equal event by event, with the hash that a copy has; and it goes back on a server."""
    folder = folders.create(tmp_path / "data")
    fill(server_log, 0, 30)
    told = done("backup", tmp_path / "backup", "--data", folder.path, "--log", server_log.url)
    assert sorted(path.name for path in (tmp_path / "backup").iterdir()) == ["SHA256SUMS", "log.db"]
    assert rows(tmp_path / "backup" / "log.db") == rows(server_log)
    again = done("log", "copy", url(tmp_path / "backup" / "log.db"), server_log.url)
    assert "has 30 events, 0 of them copied now" in again
    assert told.split("sha256 ")[1].strip() == again.splitlines()[1].rpartition(" ")[2]


def test_a_copy_goes_on_where_it_stopped(tmp_path: Path, server_log: Server) -> None:
    """Also in the middle of a page; what was there is compared, and what is new is copied."""
    origin = tmp_path / "log.db"
    fill(origin, 0, 10)
    done("log", "copy", url(origin), server_log.url)
    fill(origin, 10, 15)
    assert "has 25 events, 15 of them copied now" in done("log", "copy", url(origin), server_log.url)
    assert "has 25 events, 0 of them copied now" in done("log", "copy", url(origin), server_log.url)
    assert rows(origin) == rows(server_log)
    with open_to_read(origin) as source, open_to_append(server_log) as target:
        stop = threading.Event()
        stop.set()
        assert log_copy.copy(source, target, stop).left == 25


def test_a_copy_follows_until_it_is_told_to_stop(
    tmp_path: Path, server_log: Server, start: Start, eventually: Eventually
) -> None:
    """What is appended meanwhile is there when it ends."""
    origin = tmp_path / "log.db"
    fill(origin, 0, 5)
    running = start("log", "copy", "--follow", url(origin), server_log.url)
    with open_to_append(server_log) as target:
        eventually(lambda: target.head() == 5)
        fill(origin, 5, 5)
        eventually(lambda: target.head() == 10)
    assert running.stop(signal.SIGTERM) == 0
    assert running.said(r"has (\d+) events") == "10"
    assert rows(origin) == rows(server_log)


def test_another_log_is_never_copied_over(tmp_path: Path, server_log: Server) -> None:
    """Where the two differ, or the target has more, nothing is written."""
    origin, other, longer = (tmp_path / name for name in ("log.db", "other.db", "longer.db"))
    fill(origin, 0, 5)
    fill(server_log, 0, 4)
    fill(other, 0, 3)
    fill(other, 90, 9)
    fill(longer, 0, 6)
    before = rows(server_log)
    assert "position 4 differs" in run("log", "copy", url(other), server_log.url).output
    assert rows(server_log) == before
    done("log", "copy", url(origin), server_log.url)
    assert "another log" in run("log", "copy", url(origin), url(longer)).output
    assert len(rows(longer)) == 6
    assert run("log", "copy", url(origin), url(origin)).exit_code == 2


def test_a_hole_is_not_closed_by_copying(tmp_path: Path, server_log: Server) -> None:
    """A position is what receipts cite: an event never gets another."""
    origin = tmp_path / "log.db"
    fill(origin, 0, 5)
    with closing(sqlite3.connect(origin)) as connection:
        connection.execute("DROP TRIGGER stored_events_no_delete")
        connection.execute("DELETE FROM stored_events WHERE rowid = 3")
        connection.commit()
    result = run("log", "copy", url(origin), server_log.url)
    assert result.exit_code == 1
    assert "no event at position 3" in result.output
    with open_to_read(server_log) as log:
        assert log.head() == 0


def test_what_was_stored_wrong_is_found_by_reading_it_back(
    tmp_path: Path, server_log: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the target said that it was stored."""
    origin = tmp_path / "log.db"
    fill(origin, 0, 5)
    with open_to_read(origin) as source, open_to_append(server_log) as target:
        insert = target.append_rows

        def spoil(rows: Sequence[Row], *, since: int) -> None:
            insert([(*row[:3], row[3] + b" ") for row in rows], since=since)

        monkeypatch.setattr(target, "append_rows", spoil)
        with pytest.raises(LogError, match="position 1 differs"):
            log_copy.copy(source, target, threading.Event())


def test_a_copy_to_a_file_is_the_only_one_that_appends(tmp_path: Path, server_log: Server) -> None:
    """A receiver at work there, or another copy, is in the way."""
    folder = folders.create(tmp_path / "data")
    with folders.hold(folder, "receiver"):
        result = run("log", "copy", server_log.url, url(folder.log_file))
    assert "another receiver" in result.output
    assert not folder.log_file.exists()


def test_two_copies_to_a_server_do_not_mix(tmp_path: Path, server_log: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second finds that the log does not end where it should, and ends."""
    origin = tmp_path / "log.db"
    fill(origin, 0, 5)
    with open_to_read(origin) as source, open_to_append(server_log) as target:
        with monkeypatch.context() as patch:
            patch.setattr(target, "head", lambda: 0)  # As it was before the other copy.
            log_copy.copy(source, target, threading.Event())
            with pytest.raises(LogError, match="ends at position 5, not at 0"):
                log_copy.copy(source, target, threading.Event())
        assert target.head() == 5


def test_receivers_and_projectors_share_a_log_on_a_server(
    server_log: Server, tmp_path: Path, start: Start, eventually: Eventually
) -> None:
    """Two receivers of one folder, two projectors of two: one order, and equal tables; the password is in no command line."""
    data = tmp_path / "data"
    done("sources", "add", "main", "--data", data)
    secret = done("sources", "rotate", "main", "--data", data).split("/webhooks/")[1].split()[0]
    receivers = [start("receive", "--data", str(data), "--log", server_log.url, "--port", "0") for _ in range(2)]
    urls = [eventually(partial(each.said, r"Receiving at (http\S+);")) for each in receivers]
    folders_of = [data, folders.create(tmp_path / "other").path]
    for folder in folders_of:
        start("project", "--data", str(folder), "--log", server_log.url)
    for n in range(10):
        done("simulate", "--count", 5, "--rate", 1000, "--seed", n, "--url", f"{urls[n % 2]}/webhooks/{secret}")
    for folder in folders_of:
        eventually(partial(caught_up, folder, server_log))
    assert "Head              50" in done("status", "--data", data, "--log", server_log.url)
    assert model_digests(folders_of[0]) == model_digests(folders_of[1])
    third = folders.create(tmp_path / "third").path
    with closing(sqlite3.connect(data / "audit.db")) as live, closing(sqlite3.connect(third / "audit.db")) as copied:
        live.backup(copied)
    done("simulate", "--count", 5, "--rate", 1000, "--seed", 99, "--url", f"{urls[0]}/webhooks/{secret}")
    done("project", "--once", "--data", third, "--log", server_log.url)
    eventually(partial(caught_up, data, server_log))
    assert model_digests(third) == model_digests(data)
    connected = "SELECT count(DISTINCT pid) FROM pg_stat_activity WHERE application_name = 'simtrail' AND datname = current_database()"
    with psycopg.connect(server_log.url, autocommit=True) as connection:
        # One that has ended is on the server's list for a moment longer.
        eventually(lambda: connection.execute(connected).fetchone() == (4,))
