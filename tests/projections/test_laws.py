from __future__ import annotations

import itertools
import json
import sqlite3
import tempfile
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from projections import bulk, read_model, rebuild
from projections.follower import apply
from projections.reading import read
from schema.decode import Decoder
from schema.log import open_to_read

# Few cards, jobs and bills, so that deliveries meet; each identifier may be missing,
# so that rows are made, tied, merged, re-keyed and robbed of numbers.
CARDS = st.fixed_dictionaries(
    {},
    optional={
        "iccid": st.sampled_from(["8970100000000000013", "897010000000000001", "8970100000000000021", 8.97e18]),
        "imsi": st.sampled_from(["250010000000001", "250010000000002"]),
        "msisdn": st.sampled_from(["79000000001", "89000000002", "9000000003"]),
        "id": st.sampled_from([1, 2]),
        "status": st.sampled_from(["active", "blocked", "terminated", 3, "сервис"]),
        "balance": st.sampled_from(["-15.20", 120, "1e999999999", None]),
        "tariff": st.sampled_from(["M2M-5", "M2M-6", "nul\0"]),
        # Without a column of their own: kept apart, and to be carried along.
        "colour": st.sampled_from(["red", "blue"]),
        "size": st.integers(1, 2),
    },
)
BILLS = st.fixed_dictionaries(
    {},
    optional={
        "id": st.sampled_from([501, 502, "number-N1"]),
        "number": st.sampled_from(["N1", "N2"]),
        "amount": st.sampled_from(["12345.67", 1, 2**62]),
        "date": st.sampled_from(["01.12.2025", "2026-03-01", "nonsense", 253402300799]),
        "paid": st.booleans(),
        "manager": st.sampled_from(["А", "Б"]),
        "desk": st.integers(1, 2),
    },
)
FILES = st.sampled_from([{"type": "base64", "name": "a", "body": "QQ=="}, {"body": "!"}, 1])
JOBS = st.fixed_dictionaries(
    {"qid": st.sampled_from(["q-1", "q-2"]), "items": st.lists(CARDS, max_size=3)},
    optional={
        "queue": st.sampled_from(["sim_lock", "sim_unlock", "ping", "mystery"]),
        "added": st.sampled_from([1764579600, -1]),
        "user": st.fixed_dictionaries(
            {"id": st.sampled_from([17, 18])}, optional={"last_name": st.sampled_from(["А", "Б"])}
        ),
        "status": st.fixed_dictionaries(
            {},
            optional={
                "count": st.integers(0, 3),
                "process": st.integers(0, 3),
                "percentage": st.sampled_from([0, 50, 100]),
            },
        ),
    },
)
NOTICES = st.one_of(
    st.fixed_dictionaries(
        {"type": st.sampled_from(["msu_lock", "package_empty"]), "items": st.lists(CARDS, max_size=3)}
    ),
    st.fixed_dictionaries(
        {
            "type": st.sampled_from(["generate_bill", "unpaid_bill_3", "unpaid_bill_5", "unpaid_bill_6"]),
            "items": st.lists(BILLS, max_size=2),
            "files": st.lists(FILES, max_size=2),
        },
    ),
)
BODIES = st.one_of(
    JOBS.map(lambda body: json.dumps(body).encode()),
    NOTICES.map(lambda body: json.dumps(body).encode()),
    st.sampled_from([b"", b"\xff", b"[]", b'{"type": "other"}', b'{"qid": null}']),
)
CORRECTIONS = st.one_of(
    st.tuples(
        st.just("bill"),
        st.sampled_from(["main:501", "main:number-N1"]),
        st.sampled_from([None, "2026-01-01T00:00:00.000000Z"]),
    ),
    st.tuples(
        st.just("sim"),
        st.sampled_from(["main:8970100000000000013", "main:id-1"]),
        st.sampled_from(["active", "blocked"]),
    ),
    st.tuples(
        st.just("same_sim"),
        st.just("main:+79000000001"),
        st.sampled_from(["main:8970100000000000013", "main:imsi-250010000000001"]),
    ),
    st.tuples(st.just("account"), st.just("main"), st.sampled_from(["good", "restricted"])),
    st.tuples(st.just("void"), st.integers(1, 8).map(str), st.none()),
)
STORIES = st.lists(
    st.tuples(
        st.one_of(BODIES, BODIES, BODIES, CORRECTIONS),
        st.sampled_from([timedelta(seconds=1), timedelta(hours=13)]),
        st.sampled_from(["main", "other"]),
    ),
    min_size=1,
    max_size=12,
)
BATCHES = st.lists(st.integers(1, 4), max_size=12)


PLAIN = STORIES.map(lambda story: [step for step in story if isinstance(step[0], bytes) or step[0][0] != "void"])
"""Without events that make others void: those are folded by a rebuild, not in a page."""


@pytest.fixture(scope="module")
def told(new_world):
    """A world in which a story was told, in a folder of its own."""

    @contextmanager
    def tell(story):
        with tempfile.TemporaryDirectory() as folder:
            world = new_world(Path(folder))
            for said, pause, source in story:
                if isinstance(said, bytes):
                    world.send(said, after=pause, source=source)
                else:
                    world.correct(*said)
            yield world
            world.close()

    return tell


@settings(max_examples=60, deadline=None)
@given(story=STORIES, batches=BATCHES, page=st.integers(1, 12), held=st.sampled_from([0, 2, 1_000]))
def test_any_split_into_batches_gives_the_same_tables(  # noqa: PLR0913, PLR0917 - what is split, and how
    told, tables_of, whole, story, batches, page, held
):
    """Batches, and so live following against a rebuild in one piece, can't be told apart by the rows."""
    with told(story) as world:
        at_once = world.fold_into(world.folder / "one.db", [])
        # One that forgets what it holds between two batches is as one that was started again.
        with mock.patch.object(read_model, "HELD_ROWS", held):
            in_parts = world.fold_into(world.folder / "parts.db", batches)
        assert tables_of(at_once) == tables_of(in_parts)
        whole(at_once)
        whole(in_parts)
        anew = world.folder / "anew.db"
        small = mock.patch.object(rebuild, "BATCH_EVENTS", page), mock.patch.object(bulk, "HELD_ROWS", held)
        with open_to_read(world.log) as log, small[0], small[1]:
            rebuild.build(log, anew, world.configuration)
        assert tables_of(anew) == tables_of(at_once)


@settings(max_examples=25, deadline=None)
@given(story=STORIES, last=st.integers(1, 12), batches=BATCHES)
def test_as_of_a_position_is_having_followed_so_far(told, tables_of, story, last, batches):
    """Time travel gives what was published then, corrections and all."""
    with told(story) as world, told(story[:last]) as then:
        with open_to_read(world.log) as log:
            built = world.folder / "then.db"
            rebuild.build(log, built, world.configuration, last=min(last, len(story)))
        assert tables_of(built) == tables_of(then.fold_into(then.folder / "audit.db", batches))


@settings(max_examples=25, deadline=None)
@given(story=PLAIN)
def test_applying_a_page_again_changes_nothing(told, tables_of, story):
    """A page handed over twice, after a crash or by a second follower, is passed over."""
    with told(story) as world:
        path = world.fold_into(world.folder / "audit.db", [])
        before = tables_of(path)
        model = read_model.open_to_write(path, world.configuration)
        with open_to_read(world.log) as log:
            apply(model, read(log.after(0), Decoder(world.configuration)), since=0)
        model.close()
        assert tables_of(path) == before


@settings(max_examples=25, deadline=None)
@given(story=PLAIN, crash=st.integers(0, 60))
def test_a_crash_at_any_statement_changes_nothing(told, tables_of, story, crash):
    """A batch that fails at any of its statements leaves the tables at its start, and succeeds when tried again."""
    with told(story) as world:
        expected = tables_of(world.fold_into(world.folder / "whole.db", []))
        path = world.folder / "audit.db"
        model = read_model.open_to_write(path, world.configuration)
        empty = tables_of(path)
        left = [crash]

        def fail(action: int, what: str | None, *_: object) -> int:
            # To give up what was begun can't fail.
            if (action, what) == (sqlite3.SQLITE_TRANSACTION, "ROLLBACK"):
                return sqlite3.SQLITE_OK
            left[0] -= 1
            return sqlite3.SQLITE_DENY if left[0] == 0 else sqlite3.SQLITE_OK

        model._connection.set_authorizer(fail)
        with open_to_read(world.log) as log:
            page = log.after(0)
            try:
                apply(model, read(page, Decoder(world.configuration)), since=0)
            except sqlite3.DatabaseError:
                model._connection.set_authorizer(None)
                assert tables_of(path) == empty
                apply(model, read(page, Decoder(world.configuration)), since=0)
        model._connection.set_authorizer(None)
        model.close()
        assert tables_of(path) == expected


@settings(max_examples=40, deadline=None)
@given(story=PLAIN, batches=BATCHES, crashes=st.lists(st.integers(1, 400), max_size=4))
def test_following_through_crashes_is_rebuilding(told, tables_of, story, batches, crashes):
    """Whatever the batches, and wherever in them a projector ends and another starts: the tables are those of a rebuild.

    After each crash they are those as of the position that they say they stand for.
    """
    with told(story) as world, open_to_read(world.log) as log:
        path, built = world.folder / "audit.db", world.folder / "built.db"
        left = iter(crashes)
        sizes = itertools.chain(batches, itertools.repeat(1_000))
        model = until_a_crash(read_model.open_to_write(path, world.configuration), left)
        position = 0
        while page := log.after(position, max_events=next(sizes)):
            try:
                position = apply(model, read(page, Decoder(world.configuration)), since=position)
            except sqlite3.OperationalError:
                model.close()
                position = read_model.tracked(path) or 0
                rebuild.discard(built)
                rebuild.build(log, built, world.configuration, last=position)
                assert tables_of(path) == tables_of(built)
                model = until_a_crash(read_model.open_to_write(path, world.configuration), left)
        model._connection.set_progress_handler(None, 0)
        model.close()
        rebuild.discard(built)
        rebuild.build(log, built, world.configuration)
        assert tables_of(path) == tables_of(built)


def until_a_crash(model, crashes):
    """Let a model's connection fail after so many tens of SQLite's steps, if another crash is to come."""
    left = [next(crashes, 0)]

    def fail() -> int:
        left[0] -= 1
        return left[0] == 0

    model._connection.set_progress_handler(fail, 10)
    return model


@settings(max_examples=25, deadline=None)
@given(story=STORIES)
def test_a_redelivery_of_everything_changes_no_state(told, story):
    """Sending each body again at once leaves every card, bill and account as it was, but for when it was last heard of."""
    deliveries = [(body, timedelta(seconds=1), source) for body, _, source in story if isinstance(body, bytes)]
    with told(deliveries) as world:
        states = {
            "sims": "SELECT * FROM sims ORDER BY sim",
            "sim_attributes": "SELECT * FROM sim_attributes ORDER BY sim",
            "bills": "SELECT * FROM bills ORDER BY bill",
            "bill_attributes": "SELECT * FROM bill_attributes ORDER BY bill",
            "accounts": "SELECT source, state, state_since, bill, open_bills, open_kopecks FROM accounts ORDER BY source",
            "jobs": "SELECT job, state, processed, percentage, count, completed_at, awaiting FROM jobs ORDER BY job",
            "files": "SELECT * FROM files ORDER BY sha256",
        }
        before = {name: world.rows(sql) for name, sql in states.items()}
        for body, _, source in deliveries:
            world.send(body, source=source)
        assert {name: world.rows(sql) for name, sql in states.items()} == before
