"""What is PostgreSQL's own of a log on a server: rights, order under locks, and connections that come and go."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, cast

import psycopg
import pytest

from schema import log_link
from schema.errors import ConfigurationError, LogAway, LogError, LogNotThere, LogUnavailable
from schema.event import Delivery, WebhookReceived, encode, uuid7
from schema.log import open_to_append, open_to_read
from schema.log_link import RETRY_MOST_S, Link, conninfo
from schema.log_place import Server

if TYPE_CHECKING:
    from bench.cluster import Postgres
    from schema.log_postgres import Recorder

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)

APPEND = "SELECT simtrail.append_events(%s::uuid[], %s::bigint[], %s::text[], %s::bytea[])"


def event(n: int, body: bytes = b"{}") -> WebhookReceived:
    delivery = Delivery("2026-03-02T09:00:00.000000Z", "main", "127.0.0.1", {}, body)
    return WebhookReceived(uuid7(NOW, lambda size: n.to_bytes(size, "big")), 1, delivery)


def database(server: Server) -> str:
    return server.url.rpartition("/")[2]


@pytest.fixture
def log(server_log):
    with open_to_append(server_log) as opened:
        yield opened
        positions = [row[0] for row in opened.stored_after(0)]
        assert positions == list(range(1, opened.head() + 1))


@pytest.fixture
def owner(postgres: Postgres, server_log):
    """A connection of the log's owner, who is a superuser too."""
    with psycopg.connect(postgres.url(database(server_log)), autocommit=True) as connection:
        yield connection


def recorder(log) -> Recorder:
    return cast("Recorder", log.recorder)


def break_connection(log) -> None:
    """The server ends it, as when it is restarted."""
    with psycopg.connect(recorder(log).datastore.link._conninfo, autocommit=True) as other:
        backend = recorder(log).datastore.link.open().info.backend_pid
        other.execute("SELECT pg_terminate_backend(%s, 5000)", (backend,))


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE simtrail.stored_events SET state = ''",
        "DELETE FROM simtrail.stored_events",
        "DELETE FROM simtrail.stored_events WHERE false",
        "TRUNCATE simtrail.stored_events",
        "INSERT INTO simtrail.stored_events TABLE simtrail.stored_events ON CONFLICT (notification_id) DO UPDATE SET state = ''",
    ],
)
@pytest.mark.parametrize("replica", [False, True])
def test_nobody_changes_or_removes_an_event(log, owner, statement, replica):
    """Not the owner either, in any kind of session."""
    log.append([event(1)])
    if replica:
        owner.execute("SET session_replication_role = replica")
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only: an event is never"):
        owner.execute(statement)
    assert log.at(1).delivery.body == b"{}"


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE simtrail.stored_events SET state = ''",
        "DELETE FROM simtrail.stored_events",
        "TRUNCATE simtrail.stored_events",
        "INSERT INTO simtrail.stored_events VALUES (gen_random_uuid(), 1, 'webhook.received', '', 1000)",
        "DROP TABLE simtrail.stored_events",
        "ALTER TABLE simtrail.stored_events DISABLE TRIGGER ALL",
        "DROP TRIGGER stored_events_no_update ON simtrail.stored_events",
        "CREATE OR REPLACE FUNCTION simtrail.refuse() RETURNS trigger LANGUAGE sql AS ''",
        "CREATE TABLE simtrail.mine (x int)",
        "SET session_replication_role = replica",
        "CREATE ROLE another",
    ],
)
def test_the_applications_role_may_append_and_read_alone(log, server_log, statement):
    """It can't even choose a position; and it owns nothing."""
    log.append([event(1)])
    with psycopg.connect(server_log.url, autocommit=True) as connection:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(statement)
        owned = connection.execute(
            "SELECT count(*) FROM pg_shdepend WHERE refobjid = current_user::regrole AND deptype = 'o'"
        )
        assert owned.fetchone() == (0,)


def test_a_commit_is_durable_whatever_the_session_says(log, owner):
    """The one function that appends sets synchronous_commit right, and gives it back."""
    for said, meant in (("off", "on"), ("local", "on"), ("remote_apply", "remote_apply")):
        owner.execute(f"SET synchronous_commit = {said}")
        with owner.transaction():
            owner.execute(APPEND, ([], [], [], []))
            assert owner.execute("SHOW synchronous_commit").fetchone() == (meant,)
        assert owner.execute("SHOW synchronous_commit").fetchone() == (said,)
    assert log.head() == 0


def test_a_trial_is_a_commit_that_is_written(log, owner):
    """It moves the server's own log, and no position."""
    before = owner.execute("SELECT pg_current_wal_flush_lsn()").fetchone()
    log.append([])
    assert owner.execute("SELECT pg_current_wal_flush_lsn() > %s", before).fetchone() == (True,)


def test_a_trial_finds_out_that_the_server_takes_no_writes(log):
    """On a connection that was made before, and that no event was refused on."""
    log.append([])
    recorder(log).datastore.link.open().execute("SET default_transaction_read_only = on")
    with pytest.raises(LogUnavailable, match="read-only") as raised:
        log.append([])
    assert raised.value.passing
    log.append([])


def test_nobody_passes_over_what_is_held_open(log, server_log, owner, monkeypatch):
    """While a transaction holds an event that is not committed, no later one can be; then both come in order."""
    monkeypatch.setattr(log_link, "LOCK_TIMEOUT_S", 0.2)
    log.append([event(1)])
    with owner.transaction(force_rollback=True):
        owner.execute(APPEND, ([event(2).originator_id], [1], ["webhook.received"], [b"x"]))
        with open_to_append(server_log) as other, pytest.raises(LogUnavailable, match="lock timeout") as raised:
            other.append([event(3)])
        assert raised.value.passing
        assert log.head() == 1
    # What was rolled back took no position.
    assert log.append([event(3)]) == [2]


def test_a_vacuum_stops_nobody_from_appending(log, owner):
    """As LOCK TABLE would: a vacuum against wrap-around does not give way to it."""
    with owner.transaction(force_rollback=True):
        owner.execute("LOCK TABLE simtrail.stored_events IN SHARE UPDATE EXCLUSIVE MODE")  # A vacuum's lock.
        assert log.append([event(1)]) == [1]


def test_a_gap_is_passed_and_not_waited_for(server_log, owner):
    """As in a log that something else has made: what follows is read, at the positions that it has."""
    foreign = (event(1).originator_id, 1, "webhook.received", encode(event(1).delivery), 7)
    owner.execute("INSERT INTO simtrail.stored_events VALUES (%s, %s, %s, %s, %s)", foreign)
    with open_to_append(server_log) as log:
        assert log.append([event(2)]) == [8]
        assert [found.position for found in log.after(0)] == [7, 8]
        assert [row[0] for row in log.stored_after(0, max_events=1)] == [7]
        assert log.at(5) is None


def test_a_connection_that_broke_is_made_again(log):
    """The append that it broke in is refused, since what came of it is unknown; the next one goes on."""
    log.append([event(1)])
    break_connection(log)
    with pytest.raises(LogUnavailable) as raised:
        log.append([event(2)])
    assert raised.value.passing
    assert log.append([event(2)]) == [2]


def test_a_reader_says_that_the_server_is_away(log, server_log):
    """And reads on once it is back."""
    log.append([event(1)])
    with open_to_read(server_log) as reader:
        assert reader.head() == 1
        break_connection(reader)
        with pytest.raises(LogAway):
            reader.after(0)
        assert reader.head() == 1


def test_a_wait_finds_out_that_its_connection_is_gone(log, server_log):
    """It returns, never fails, and listens on the next one."""
    stop = threading.Event()
    with open_to_read(server_log) as reader:
        reader.wait(stop, 0)
        break_connection(reader)
        for _ in range(3):
            reader.wait(stop, 0.05)
        later = threading.Timer(0.1, lambda: log.append([event(1)]))
        later.start()
        before = time.monotonic()
        while not reader.after(0):
            reader.wait(stop, 30)
        assert time.monotonic() - before < 30
        later.join()


def test_a_commit_with_a_warning_is_not_acknowledged(log, owner):
    """So ends one whose wait for the standby was cancelled: it is on one machine, and may be lost with it."""
    owner.execute("""
        CREATE FUNCTION simtrail.warn() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN RAISE WARNING 'canceling wait for synchronous replication due to user request'; RETURN NULL; END $$;
        CREATE TRIGGER warn AFTER INSERT ON simtrail.stored_events EXECUTE FUNCTION simtrail.warn();
    """)
    with pytest.raises(LogUnavailable, match="canceling wait for synchronous replication") as raised:
        log.append([event(1)])
    assert raised.value.passing
    owner.execute("DROP TRIGGER warn ON simtrail.stored_events")
    assert log.append([event(2)]) == [2]


def test_an_answer_is_not_awaited_for_ever(log, owner, monkeypatch):
    """A commit that waits for a standby that is gone waits on the server; who sent it is refused."""
    monkeypatch.setattr(log_link, "ANSWER_S", 0.2)
    owner.execute(
        "CREATE FUNCTION simtrail.sleep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(1); RETURN NULL; END'"
    )
    owner.execute("CREATE TRIGGER sleep AFTER INSERT ON simtrail.stored_events EXECUTE FUNCTION simtrail.sleep()")
    before = time.monotonic()
    with pytest.raises(LogUnavailable, match="did not answer within"):
        log.append([event(1)])
    assert time.monotonic() - before < 0.9
    monkeypatch.undo()
    owner.execute("DROP TRIGGER sleep ON simtrail.stored_events")  # Waits for the one that sleeps.
    assert log.append([event(2)])[0] in {1, 2}


def test_another_history_is_not_followed(log, server_log, owner):
    """A server that took over and lacks what was read before: its events are not those that the tables are made of."""
    log.append([event(1), event(2, b"[1]")])
    with open_to_read(server_log) as reader:
        assert len(reader.after(0)) == 2
        owner.execute("ALTER TABLE simtrail.stored_events DISABLE TRIGGER ALL")
        owner.execute("DELETE FROM simtrail.stored_events WHERE notification_id = 2")
        log.append([event(3, b"[2]"), event(4)])
        break_connection(reader)
        with pytest.raises(LogAway):
            reader.after(2)
        with pytest.raises(LogError, match="does not have the event at position 2"):
            reader.after(2)


def test_the_server_is_asked_again_with_growing_pauses():
    """After each failure a longer one, up to a bound, a random part of it; meanwhile nobody asks."""
    now, drawn = [0.0], [0.0]
    link = Link("host=127.0.0.1 port=1 connect_timeout=2", clock=lambda: now[0], jitter=lambda: drawn[0])
    pauses = []
    for _ in range(7):
        with pytest.raises(psycopg.OperationalError):
            link.open()
        pauses.append(link.wait_s())
        now[0] += link.wait_s() / 2
        with pytest.raises(psycopg.OperationalError):
            link.open()
        assert link.wait_s() == pytest.approx(pauses[-1] / 2)
        now[0] += link.wait_s() + 0.001
        drawn[0] = 1.0 - drawn[0]
    assert pauses == pytest.approx([0.05, 0.2, 0.2, 0.8, 0.8, 2.0, 1.0])
    assert max(pauses) <= RETRY_MOST_S


def test_a_database_without_a_log_is_told_from_one_that_is_away(postgres):
    """Each says what to do."""
    with pytest.raises(LogNotThere, match="simtrail log init"):
        open_to_read(Server(postgres.url("template1")))
    with pytest.raises(LogNotThere, match="simtrail log init"):
        open_to_append(Server(postgres.url("template1")))
    away = Server("postgresql://simtrail:geheim@127.0.0.1:1/log")
    with pytest.raises(LogAway, match=r"postgresql://simtrail@127\.0\.0\.1:1/log can't be reached") as raised:
        open_to_read(away)
    assert "geheim" not in str(raised.value)
    with pytest.raises(LogUnavailable, match="can't be reached"):
        open_to_append(away)


def test_what_the_url_says_comes_before_our_defaults():
    """Those are time-outs, and that the server can be written."""
    said = psycopg.conninfo.conninfo_to_dict(conninfo("postgresql://u@h/d?connect_timeout=9&application_name=mine"))
    assert (said["connect_timeout"], said["application_name"], said["target_session_attrs"]) == (
        "9",
        "mine",
        "read-write",
    )
    with pytest.raises(ConfigurationError, match="libpq") as raised:
        conninfo("postgresql://u:geheim@h:port/d?x=1")
    assert "geheim" not in str(raised.value)


def test_the_librarys_environment_is_not_heard(server_log, monkeypatch):
    """Variables that steer the library can't point the log elsewhere."""
    for name, value in {
        "PERSISTENCE_MODULE": "eventsourcing.popo",
        "POSTGRES_DBNAME": "elsewhere",
        "POSTGRES_ENABLE_DB_FUNCTIONS": "y",
        "APPLICATION_RECORDER_TOPIC": "os:system",
    }.items():
        monkeypatch.setenv(name, value)
    with open_to_append(server_log) as log:
        assert log.append([event(1)]) == [1]
