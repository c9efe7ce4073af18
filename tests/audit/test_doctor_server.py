"""What the doctor finds of a log on a server: each thing that can be wrong with it, and what to do."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import psycopg
import pytest

from audit.doctor_server import log_on_server
from schema.errors import LogNotThere
from schema.event import Delivery, WebhookReceived, uuid7
from schema.log import open_to_append
from schema.log_place import Server

if TYPE_CHECKING:
    from bench.cluster import Postgres

NOW = datetime(2026, 5, 1, tzinfo=UTC)


@pytest.fixture
def log(server_log: Server) -> Server:
    """A log with five events, as the application has it."""
    with open_to_append(server_log) as opened:
        delivery = Delivery("2026-05-01T00:00:00.000000Z", "main", "", {}, b"{}")
        opened.append([WebhookReceived(uuid7(NOW, os.urandom), 1, delivery) for _ in range(5)])
    return server_log


def as_owner(postgres: Postgres, log: Server, *statements: str) -> None:
    for statement in statements:
        postgres.execute(statement, log.url.rpartition("/")[2])


@pytest.mark.parametrize("full", [False, True])
def test_a_sound_log_has_nothing_to_mend(log: Server, full: bool) -> None:  # noqa: FBT001
    """It is told that it is whole, append-only and in order; and nothing of the trying is left."""
    finding = log_on_server(log, full=full)
    assert (finding.state, finding.remedy) == ("ok", None)
    assert "5 events without holes on PostgreSQL" in finding.told
    assert "on no other server before it is acknowledged" in finding.told
    with open_to_append(log) as opened:
        assert opened.head() == 5


def test_a_role_that_could_change_events_is_warned_of(postgres: Postgres, log: Server) -> None:
    """The owner, a superuser, or one that was given more than init gives."""
    owner = log_on_server(Server(postgres.url(log.url.rpartition("/")[2])), full=False)
    assert (owner.state, "superuser" in owner.told) == ("warning", True)
    as_owner(postgres, log, "GRANT INSERT ON simtrail.stored_events TO simtrail")
    given = log_on_server(log, full=False)
    assert (given.state, "may write in its table" in given.told) == ("warning", True)
    assert "simtrail log init" in str(given.remedy)


@pytest.mark.parametrize(
    "statement",
    [
        "DROP TRIGGER stored_events_no_update ON simtrail.stored_events",
        "ALTER TABLE simtrail.stored_events DISABLE TRIGGER stored_events_no_truncate",
        "ALTER TABLE simtrail.stored_events ENABLE TRIGGER stored_events_no_delete",
    ],
)
def test_a_trigger_that_is_missing_or_can_be_gone_round_is_found(
    postgres: Postgres, log: Server, statement: str
) -> None:
    """ENABLE without ALWAYS is not enough: a session in a replica's part would not be stopped."""
    as_owner(postgres, log, statement)
    finding = log_on_server(log, full=False)
    assert finding.state == "failed"
    assert "triggers that refuse" in finding.told


@pytest.mark.parametrize("position", [1, 3])
def test_a_hole_is_found(postgres: Postgres, log: Server, position: int) -> None:
    """Positions have no gaps by themselves: what is missing was removed."""
    as_owner(
        postgres,
        log,
        "ALTER TABLE simtrail.stored_events DISABLE TRIGGER ALL",
        f"DELETE FROM simtrail.stored_events WHERE notification_id = {position}",
        "ALTER TABLE simtrail.stored_events ENABLE ALWAYS TRIGGER stored_events_no_delete",
        "ALTER TABLE simtrail.stored_events ENABLE ALWAYS TRIGGER stored_events_no_update",
        "ALTER TABLE simtrail.stored_events ENABLE ALWAYS TRIGGER stored_events_no_truncate",
    )
    finding = log_on_server(log, full=False)
    assert (finding.state, "1 holes" in finding.told) == ("failed", True)


def test_appends_that_do_not_wait_for_each_other_are_found(postgres: Postgres, log: Server) -> None:
    """As on an engine whose advisory locks do nothing: there a follower would pass over events."""
    with psycopg.connect(postgres.url(log.url.rpartition("/")[2])) as connection:
        row = connection.execute("SELECT pg_get_functiondef('simtrail.append_events'::regproc)").fetchone()
    assert row is not None
    without = str(row[0]).replace("PERFORM pg_advisory_xact_lock", "PERFORM hashint4extended")
    assert without != row[0]
    as_owner(postgres, log, without)
    finding = log_on_server(log, full=False)
    assert finding.state == "failed"
    assert "do not wait for each other" in finding.told


def test_a_server_that_may_lose_what_it_says_is_kept_is_found(postgres: Postgres, log: Server) -> None:
    """Fsync off is a server for tests, not for evidence."""
    postgres.execute("ALTER SYSTEM SET fsync = off")
    postgres.execute("SELECT pg_reload_conf()")
    try:
        postgres.wait_until("SELECT current_setting('fsync') = 'off'")
        finding = log_on_server(log, full=False)
    finally:
        postgres.execute("ALTER SYSTEM RESET fsync")
        postgres.execute("SELECT pg_reload_conf()")
        postgres.wait_until("SELECT current_setting('fsync') = 'on'")
    assert (finding.state, "fsync is off" in finding.told) == ("failed", True)


def test_another_versions_log_is_told(postgres: Postgres, log: Server) -> None:
    """And who mends it."""
    as_owner(postgres, log, "COMMENT ON TABLE simtrail.stored_events IS 'simtrail log, version 99: append-only'")
    finding = log_on_server(log, full=False)
    assert finding.state == "failed"
    assert "version 99" in finding.told
    assert "simtrail log init" in str(finding.remedy)


def test_what_can_not_be_asked_says_so(postgres: Postgres) -> None:
    """A server that is away, and a database without a log."""
    away = log_on_server(Server("postgresql://simtrail:geheim@127.0.0.1:1/log"), full=False)
    assert (away.state, "geheim" in away.told) == ("failed", False)
    with pytest.raises(LogNotThere, match="simtrail log init"):
        log_on_server(Server(postgres.url("template1")), full=False)
