"""metadata.yml: everything published is described, and each query answers, by an index, what it says it does."""

from __future__ import annotations

import asyncio
import gc
import json
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest
import yaml
from sqlite_utils import Database

from audit import platform, publish
from projections.follower import apply
from projections.read_model import open_to_write
from projections.reading import read
from schema import tables
from schema.configuration import Configuration
from schema.decode import Decoder
from schema.event import Delivery, Event, instant
from schema.views import VIEWS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

# Datasette leaves connections to databases in memory open, also as it is imported: so it is here, under the mark.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning")

METADATA: dict[str, Any] = yaml.safe_load(publish.metadata_path().read_text(encoding="utf-8"))
(DATABASE,) = METADATA["databases"].values()
QUERIES: dict[str, dict[str, Any]] = DATABASE["queries"]
DESCRIBED: dict[str, dict[str, Any]] = {
    name: described
    for name, described in DATABASE["tables"].items()
    if "_fts" not in name  # Datasette hides them.
}

GROWING = {"deliveries", "delivery_contents", "sim_events", "job_progress", "bill_notices", "delivery_files"}
"""Tables with a row for each event or more: what reads them whole gets slower every day."""

Row = dict[str, Any]
Rows = list[Row]


def make(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA foreign_keys=ON")
    database = Database(connection)
    tables.create(database)
    tables.create_indexes(database)
    connection.commit()
    return connection


def insert(connection: sqlite3.Connection, table: str, /, **values: object) -> None:
    """A row with these values; what must not be NULL and is not given is empty."""
    json_columns = {"changes": "{}", "anomalies": "[]", "headers": "{}"}
    for column, kind in tables.BY_NAME[table].columns.items():
        if kind.endswith("!"):
            values.setdefault(column, 0 if kind == "integer!" else json_columns.get(column, ""))
    marks = ", ".join(f":{column}" for column in values)
    names = ", ".join(f'"{column}"' for column in values)
    connection.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", values)


A = "main:8970100000000000013"
B = "main:8970100000000000021"
OTHER = "other:imsi-250010000000009"

TIMES = {
    1: "2025-12-01T10:00:00.000000Z",
    2: "2025-12-02T10:00:00.500000Z",
    3: "2025-12-02T10:05:00.000000Z",
    4: "2025-12-04T10:00:00.000000Z",
    5: "2025-12-05T23:59:59.999999Z",
    6: "2025-12-09T10:00:00.000000Z",
    7: "2025-12-10T10:00:00.000000Z",
    8: "2025-12-11T10:00:00.000000Z",
    9: "2025-12-11T11:00:00.000000Z",
}

STATUSES: list[tuple[int, str, str, str | None]] = [
    (2, A, "active", "explicit"),
    (2, B, "unknown", None),
    (3, A, "blocked", "implied"),
    (3, B, "terminated", "explicit"),
    (7, A, "active", "explicit"),
    (8, OTHER, "active", "explicit"),
]


KINDS = {
    1: ("notification", "generate_bill"),
    2: ("job_callback", None),
    3: ("job_callback", None),
    4: ("notification", "unpaid_bill_3"),
    5: ("unrecognised", "new_type"),
    6: ("notification", "unpaid_bill_6"),
    7: ("job_callback", None),
    8: ("notification", "package_empty"),
    9: ("unreadable", None),
}

NOTICES: list[tuple[int, str, str, str | None]] = [
    (1, "501", "issued", None),
    (1, "502", "issued", None),
    (1, "503", "issued", None),
    (4, "503", "issued", TIMES[4]),
    (4, "501", "unpaid_3", None),
    (6, "501", "unpaid_6", None),
]


def tell(connection: sqlite3.Connection) -> None:
    """A short story: a bill goes unpaid and restricts the account, until a card is reported active."""
    connection.execute("PRAGMA defer_foreign_keys=ON")
    tell_deliveries(connection)
    tell_accounts(connection)
    tell_jobs(connection)
    tell_sims(connection)
    tell_bills(connection)
    insert(connection, "tracking", projection="audit", position=9)
    connection.commit()


def tell_deliveries(connection: sqlite3.Connection) -> None:
    for position, (kind, type_) in KINDS.items():
        insert(
            connection,
            "deliveries",
            position=position,
            received_at=TIMES[position],
            source="other" if position == 8 else "main",
            kind=kind,
            type=type_,
            queue="sim_lock" if kind == "job_callback" else None,
            summary="<script>alert(1)</script>",
            outcome=kind if kind.startswith("un") else "read",
            job="main:q-1" if kind == "job_callback" else None,
            sha256=f"{position:064x}",
        )
        body = "not JSON" * 200 if kind == "unreadable" else "{}"
        insert(connection, "delivery_contents", position=position, body=body)


def tell_accounts(connection: sqlite3.Connection) -> None:
    for source, state in (("main", "unpaid"), ("other", "good")):
        insert(connection, "accounts", source=source, state=state, state_since=TIMES[7], position=7)
    for position, state, before in ((4, "unpaid", "good"), (6, "restricted", "unpaid"), (7, "unpaid", "restricted")):
        insert(
            connection,
            "account_events",
            position=position,
            source="main",
            at=TIMES[position],
            state=state,
            state_before=before,
            reason="a reason",
            bill="main:501",
        )


def tell_jobs(connection: sqlite3.Connection) -> None:
    for user, last_name in (("17", "Вымышленная"), ("18", None)):
        insert(connection, "users", user=f"main:{user}", source="main", user_id=user, last_name=last_name, position=2)
    for qid, user, position in (("q-1", "17", 7), ("q-0", "18", 2)):
        insert(
            connection,
            "jobs",
            job=f"main:{qid}",
            source="main",
            qid=qid,
            operation="lock",
            added_at=TIMES[2],
            user=f"main:{user}",
            state="running",
            last_callback_at=TIMES[3],
            position=position,
        )
    for position, processed, effect in ((2, 0, "applied"), (3, 2, "applied"), (7, 1, "late")):
        insert(
            connection,
            "job_progress",
            position=position,
            job="main:q-1",
            source="main",
            at=TIMES[position],
            processed=processed,
            effect=effect,
        )


def tell_sims(connection: sqlite3.Connection) -> None:
    numbers = {
        A: ("8970100000000000013", "+79000000001", "250010000000001"),
        B: ("8970100000000000021", None, "250010000000002"),
        OTHER: (None, None, "250010000000009"),
    }
    for sim, (iccid, msisdn, imsi) in numbers.items():
        seen = [TIMES[position] for position, card, *_ in STATUSES if card == sim]
        insert(
            connection,
            "sims",
            sim=sim,
            source=sim.partition(":")[0],
            iccid=iccid,
            msisdn=msisdn,
            imsi=imsi,
            status="active",
            first_seen_at=seen[0],
            last_seen_at=seen[-1],
            position=1,
        )
    for item, (position, sim, status, basis) in enumerate(STATUSES):
        insert(
            connection,
            "sim_events",
            position=position,
            item=item,
            sim=sim,
            source=sim.partition(":")[0],
            at=TIMES[position],
            what="package_empty" if position == 8 else "job_callback",
            job=None if position == 8 else "main:q-1",
            effect="applied",
            status_after=status,
            status_basis=basis,
        )


def tell_bills(connection: sqlite3.Connection) -> None:
    for bill, stage, paid_at in (("501", "unpaid_6", None), ("502", "issued", None), ("503", "issued", TIMES[4])):
        insert(
            connection,
            "bills",
            bill=f"main:{bill}",
            source="main",
            number=f"M2M-{bill}",
            issued_on="2025-12-01",
            amount_kopecks=1234567,
            stage=stage,
            next_notice_expected_on="2025-12-04" if bill == "502" else None,
            presumed_settled_on="2025-12-05" if bill == "502" else None,
            paid_at=paid_at,
            position=1,
        )
    for item, (position, bill, stage, paid_at) in enumerate(NOTICES):
        insert(
            connection,
            "bill_notices",
            position=position,
            item=item,
            bill=f"main:{bill}",
            source="main",
            at=TIMES[position],
            stage_after=stage,
            paid_at_after=paid_at,
            next_expected_on_after="2025-12-04" if bill == "502" else None,
            presumed_settled_on_after="2025-12-05" if bill == "502" else None,
            effect="applied",
            amount_kopecks=1200005 if position == 1 else 1234567,
        )
    insert(connection, "files", sha256="ab" * 32, name="../../акт.pdf", content=b"%PDF-1.4", position=1)
    insert(connection, "delivery_files", position=1, n=0, sha256="ab" * 32, name="../../акт.pdf")


class Site:
    """A read model as Datasette publishes it, with the settings that it is published with."""

    def __init__(self, path: Path) -> None:
        from datasette.app import Datasette  # type: ignore[import-untyped] # noqa: PLC0415

        settings = {
            name: {"on": True, "off": False}.get(value) if value in ("on", "off") else int(value)
            for name, value in publish.SETTINGS.items()
        }
        self._datasette = Datasette([str(path)], metadata=yaml.safe_load(yaml.safe_dump(METADATA)), settings=settings)

    def get(self, path: str, **parameters: str) -> Any:
        """The answer to a GET."""

        async def ask() -> Any:
            await self._datasette.invoke_startup()
            return await self._datasette.client.get(f"{path}?{urlencode(parameters)}" if parameters else path)

        return asyncio.run(ask())

    def rows(self, query: str, **parameters: str) -> Rows:
        """The rows of a query or a table."""
        answer = self.get(f"/audit/{query}.json", _shape="objects", **parameters)
        assert answer.status_code == 200, answer.text
        rows: Rows = answer.json()["rows"]
        return rows

    def close(self) -> None:
        """End its threads, and its connections to the file."""
        self._datasette.executor.shutdown()
        for database in self._datasette.databases.values():
            database.close()
        del self._datasette
        gc.collect()  # While the mark above still holds.


def varied(path: Path, *statements: str) -> Site:
    """The story with something changed in it."""
    with closing(make(path / "audit.db")) as connection:
        tell(connection)
        for statement in statements:
            connection.execute(statement)
        connection.commit()
    return Site(path / "audit.db")


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    path = tmp_path_factory.mktemp("filled") / "audit.db"
    with closing(make(path)) as connection:
        tell(connection)
    site = Site(path)
    yield site
    site.close()


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    path = tmp_path_factory.mktemp("empty") / "audit.db"
    make(path).close()
    site = Site(path)
    yield site
    site.close()


@pytest.fixture(scope="module")
def planner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    with closing(make(tmp_path_factory.mktemp("planner") / "audit.db")) as connection:
        yield connection


def plan(planner: sqlite3.Connection, sql: str, parameters: Iterable[str] = ()) -> list[str]:
    return [row[3] for row in planner.execute(f"EXPLAIN QUERY PLAN {sql}", dict.fromkeys(parameters, ""))]


# What is described.


def test_all_that_is_published_is_described_and_nothing_else(planner: sqlite3.Connection) -> None:
    """Every table, view and column of the read model has its description, in order, and no other has one."""
    published = {
        name: [column for _, column, *_ in planner.execute("SELECT * FROM pragma_table_info(?)", (name,))]
        for (name,) in planner.execute("SELECT name FROM sqlite_schema WHERE type IN ('table', 'view')")
        if "_fts" not in name
    }

    assert {name: list(described["columns"]) for name, described in DESCRIBED.items()} == published


def test_descriptions_are_sentences() -> None:
    """Each title and description is there, as plain text that ends as a sentence does."""
    places = [METADATA, DATABASE, *QUERIES.values(), *DESCRIBED.values()]
    texts = [place["description"] for place in places]
    texts += [text for described in DESCRIBED.values() for text in described["columns"].values()]

    assert all(place["title"] for place in places)
    assert [text for text in texts if not re.fullmatch(r"[^\n<>]*[.}]", text)] == []


def test_estimates_are_labelled() -> None:
    """A column that holds a computed date or what follows from one says that it is an estimate."""
    estimates = {
        (name, column)
        for name, described in DESCRIBED.items()
        for column in described["columns"]
        if "expected" in column or "presumed" in column
    }

    assert len(estimates) >= 6
    assert [at for at in sorted(estimates) if not DESCRIBED[at[0]]["columns"][at[1]].startswith("Estimate: ")] == []


def test_what_a_page_leans_on_is_there() -> None:
    """Facets, sort orders and labels name columns of their table; tables are labelled, and nothing is hidden."""
    for name, described in DESCRIBED.items():
        named = [*described.get("facets", []), *described.get("sortable_columns", [])]
        named += [described[key] for key in ("sort", "sort_desc", "label_column") if key in described]
        assert set(named) <= set(described["columns"]), name
        assert name in VIEWS or "label_column" in described, name
        assert "sort" in described or "sort_desc" in described, name
        assert "hidden" not in described


def test_labels_are_never_missing() -> None:
    """A row is labelled by a column that is never NULL: Datasette would show the word None instead."""
    for name, table in tables.BY_NAME.items():
        label = DESCRIBED[name]["label_column"]
        assert table.columns[label].endswith("!"), name
        # Nor by what is personal or the sender's: a label is shown wherever the row is referred to.
        assert label in table.key, name


def test_datasette_knows_each_word() -> None:
    """Only words that Datasette 0.65 reads are used: it drops others without a word."""
    assert set(METADATA) == {"title", "description", "about", "databases", "plugins"}
    taken = {name: {"$env": f"SIMTRAIL_{name.upper()}"} for name in ("data", "log", "public")}
    assert METADATA["plugins"] == {"simtrail": taken}
    assert set(METADATA["databases"]) == {"audit"}
    assert set(DATABASE) == {"title", "description", "allow_sql", "queries", "tables"}
    for query in QUERIES.values():
        assert set(query) - {"allow"} == {"title", "description", "params", "hide_sql", "sql"}
    known = {
        "title",
        "description",
        "label_column",
        "sort",
        "sort_desc",
        "sortable_columns",
        "size",
        "facets",
        "columns",
        "fts_table",
        "fts_pk",
        "allow",
    }
    assert set().union(*DESCRIBED.values()) == known


# What is fast.


BY_HAND = ("corrections", "rebuilds", "rebuild_changes", "rebuild_personal_changes")
"""Tables that only a person's commands fill."""

SEARCHES = ("search", "search_users", "search_bodies")
"""Queries that find nothing until they are told what."""

SCANS = {
    "timeline_of_sim": {"sims USING INDEX idx_sims_last_seen_at"},  # For one row: the last.
    "sims_as_of": {"accounts USING COVERING INDEX idx_accounts_position"},
    "progress_of_job": {"jobs USING COVERING INDEX idx_jobs_position"},  # One row.
    "open_bills_as_of": {"bills"},
    "orders_of_user": {"users", "jobs USING INDEX idx_jobs_position"},  # One row of jobs.
    "quarantined_deliveries": set(),
    "quarantined_contents": set(),
    "activity_per_day": set(),
    "orders": set(),
    "unfinished_jobs": set(),
    "msu_locks": set(),
    "packages_run_out": set(),
    "bills_and_notices": {"bills USING INDEX idx_bills_issued_on"},
    "happened_between": set(),
    "odd_deliveries": set(),
    "rebuild_differences": {"rebuild_changes"},
    "search": set(),
    "search_users": set(),
    "search_bodies": set(),
}
"""What each query reads from end to end: small tables, and indexes as far as their first row."""


@pytest.mark.parametrize("name", QUERIES)
def test_a_query_finds_its_rows_by_an_index(planner: sqlite3.Connection, name: str) -> None:
    """No query reads a table that grows with every event from end to end."""
    query = QUERIES[name]
    named = re.findall(r"(?:from|join) (\w+)(?: (?!join|on|where|order|cross|left)(\w+))?", query["sql"])
    alias_of = {alias or table: table for table, alias in named if table in tables.BY_NAME}

    scanned = set()
    for step in plan(planner, query["sql"], query["params"]):
        word, _, rest = step.partition(" ")
        what, _, how = rest.partition(" ")
        if word == "SCAN" and what in alias_of:
            scanned.add(f"{alias_of[what]} {how}".rstrip())

    assert scanned == SCANS[name]


@pytest.mark.parametrize("name", tables.BY_NAME)
def test_a_tables_page_is_sorted_by_an_index(planner: sqlite3.Connection, name: str) -> None:
    """A page as it first opens needs no sort, nor one by any column that a growing table lets people sort by."""
    described = DESCRIBED[name]
    orders = [described["sort"]] if "sort" in described else [f"{described['sort_desc']} DESC"]
    if name in GROWING - {"bill_notices", "delivery_files"}:
        orders += described["sortable_columns"]

    for order in orders:
        steps = plan(planner, f"SELECT * FROM {name} ORDER BY {order} LIMIT 101")
        assert not any("TEMP B-TREE" in step for step in steps), (order, steps)


def test_a_page_counts_no_growing_table() -> None:
    """The tables that grow with every event open without facets."""
    assert [name for name in ("deliveries", "sim_events", "job_progress") if "facets" in DESCRIBED[name]] == []


@pytest.mark.parametrize(
    ("name", "facets"),
    [
        ("deliveries", ["kind", "outcome"]),
        ("sim_events", ["what"]),
        ("job_progress", ["effect"]),
        ("bill_notices", ["type"]),
    ],
)
def test_facets_of_a_growing_table_are_counted_by_an_index(
    planner: sqlite3.Connection, name: str, facets: list[str]
) -> None:
    """Facets that people ask for are counted from an index, not from the table."""
    for facet in facets:
        steps = plan(
            planner,
            f"SELECT {facet}, count(*) FROM (SELECT * FROM {name}) WHERE {facet} IS NOT NULL GROUP BY {facet}",
        )
        assert re.search(rf"USING COVERING INDEX idx_{name}_{facet}", steps[0]), steps


@pytest.mark.parametrize("name", ["quarantine", "quarantine_contents"])
def test_the_quarantine_is_answered_by_the_index_of_its_rows(planner: sqlite3.Connection, name: str) -> None:
    """Neither a page of it, sorted or sifted, nor its count or a facet reads other rows, or sorts these."""
    index = "INDEX idx_deliveries_position_outcome_type"
    for where in ("", *(f"WHERE {column} = 'x'" for column in ("outcome", "type", "source"))):
        steps = plan(planner, f"SELECT * FROM {name} {where} ORDER BY position DESC LIMIT 51")
        assert steps[0] == f"SCAN deliveries USING {index}", steps
        assert not any("TEMP B-TREE" in step for step in steps), steps
    older = plan(planner, f"SELECT * FROM {name} WHERE position < 50 ORDER BY position DESC LIMIT 51")
    assert older[0] == f"SEARCH deliveries USING {index} (position<?)", older
    counts = [f"SELECT count(*) FROM {name}"]
    counts += [
        f"SELECT {facet}, count(*) FROM (SELECT * FROM {name}) WHERE {facet} IS NOT NULL GROUP BY {facet}"
        for facet in DESCRIBED[name]["facets"]
    ]
    for count in counts:
        steps = plan(planner, count)
        assert steps[0] == f"SCAN deliveries USING COVERING {index}", steps
        assert not any("came" in step for step in steps), steps


def test_the_quarantine_can_be_joined_in_every_way(planner: sqlite3.Connection) -> None:
    """Auditors' own SQL may have it on either side of any join."""
    for kind in ("LEFT", "RIGHT", "FULL", "INNER"):
        for name in ("quarantine", "quarantine_contents"):
            assert plan(planner, f"SELECT count(*) FROM {name} AS q {kind} JOIN jobs ON jobs.position = q.position")
            assert plan(planner, f"SELECT count(*) FROM jobs {kind} JOIN {name} AS q ON jobs.position = q.position")


# What is shown.


def test_no_query_hides_a_table_or_a_view() -> None:
    """No query has the name of a table or a view: it would be shown in its place."""
    assert set(QUERIES).isdisjoint({*tables.BY_NAME, *VIEWS})


PAGES = ["/", "/audit", *(f"/audit/{name}" for name in (*QUERIES, *tables.BY_NAME, *VIEWS))]


@pytest.mark.parametrize("path", PAGES)
def test_every_page_opens(empty: Site, filled: Site, path: str) -> None:
    """Each page of the site answers, on an empty read model and on a filled one, as a page and as JSON."""
    for site in (empty, filled):
        for answer in (site.get(path), site.get(f"{path}.json")):
            assert answer.status_code == 200, answer.text
        if path.count("/") == 2:
            assert site.get(f"{path}.csv").status_code == 200
    page = filled.get(path).text
    assert "timed out" not in page
    assert "<script>alert" not in page


def test_no_page_loads_anything_from_another_host(filled: Site) -> None:
    """Nothing that a browser fetches by itself, in any page, lies elsewhere."""
    fetched = []
    for path in [*PAGES, "/audit/sims/main~3A8970100000000000013", "/audit/deliveries/1", "/audit/nothing-there"]:
        page = filled.get(path).text
        fetched += re.findall(
            r"""<(?:script|img|iframe|source|embed|object)\b[^>]*(?:src|data)=["']?([^"' >]+)""", page
        )
        fetched += re.findall(r"""<link rel=["']?stylesheet["']? href=["']?([^"' >]+)""", page)
        fetched += re.findall(r"""(?:@import|url\()\s*["']?([^"')]+)""", page)

    assert fetched
    assert {url for url in fetched if not re.match(r"/(?!/)|data:", url)} == set()


def test_rows_are_joined_by_links(filled: Site) -> None:
    """A key in a table is a link to the page of what it names, shown once; a row lists what refers to it."""
    page = filled.get("/audit/sim_events").text
    for link in (
        f'<a href="/sim/{A.replace(":", "~3A")}">{A}</a></td>',
        '<a href="/delivery/3">3</a></td>',
        '<a href="/job/main~3Aq-1">main:q-1</a></td>',
        '<a href="/audit/accounts/main">main</a></td>',
    ):
        assert page.count(link) > 0, link

    row = filled.get(f"/audit/sims/{A.replace(':', '~3A')}").text
    assert re.search(rf'href="/audit/sim_events\?sim={A.replace(":", "%3A")}">\s*3 rows', row)


def test_a_table_page_shows_its_descriptions(filled: Site) -> None:
    """Title and descriptions, of the table and of its columns, stand on the page."""
    page = filled.get("/audit/bills_open").text

    assert "<h1>Open bills (view)</h1>" in page
    assert "Never a statement that it was paid." in page
    assert "<dd>Estimate: 1 if that date has come, else 0.</dd>" in page


# What the queries answer.


HOSTILE = [
    "'; drop table sims; --",
    "' or 1=1 --",
    "%",
    "*",
    "\x00",
    "\udcff",
    "\u0661\u0662",
    "9" * 10_000,
    "now",
    "-1",
    "1e400",
    "2025-13-45",
    "2025-12-05T99:99",
    "9999-12-31",
    "10000-01-01",
    "<script>alert(1)</script>",
    "[*?",
]


@pytest.mark.parametrize("name", QUERIES)
def test_a_query_takes_any_parameter(filled: Site, name: str) -> None:
    """Whatever stands in a parameter, the query answers, and the page runs none of it."""
    for value in HOSTILE:
        encoded = urlencode(dict.fromkeys(QUERIES[name]["params"], value), errors="surrogateescape")
        for form in (".json", ""):
            answer = filled.get(f"/audit/{name}{form}?{encoded}")
            assert answer.status_code == 200, (value, answer.text)
            assert "<script>alert" not in answer.text or form
    assert filled.rows("sims")


@pytest.mark.parametrize(
    "asked",
    [
        A,
        f"  {A} ",
        "8970100000000000013",
        "89701 0000 0000 0000 13",
        "89701-0000-0000-000013F",
        "897010000000000001",
        "89701000000000000130",
        "+79000000001",
        "+7 (900) 000-00-01",
        "8 900 000 00 01",
        "8(900)000.00.01",
        "79000000001",
        "9000000001",
        "9000000001\u00a0",
        "+7\u202f900\u2011000\u201300\u201301",
        "0079000000001",
        "250010000000001",
    ],
)
def test_a_sim_card_is_found_by_any_of_its_numbers(filled: Site, asked: str) -> None:
    """A card's timeline is found by its ICCID with or without check digit, MSISDN in any Russian form, IMSI or key."""
    assert {row["sim"] for row in filled.rows("timeline_of_sim", sim=asked)} == {A}


@pytest.mark.parametrize(
    "asked",
    [
        "8970100000000000",
        "0000000001",
        "79000000002",
        "970100000000000013",
        "8970100000000000014",
        "main",
        "F",
        "+",
        "other:9000000001",
        "x9000000001",
        "89701000000000000",
    ],
)
def test_a_number_of_no_card_finds_none(filled: Site, asked: str) -> None:
    """A number that is nobody's, or only a part of one, finds no card."""
    assert filled.rows("timeline_of_sim", sim=asked) == []


def test_a_timeline_tells_own_and_effective_status(filled: Site) -> None:
    """The timeline holds the card's events and its account's since it was first seen, newest first, with both statuses."""
    told = [
        (row["position"], row["what"], row["status"], row["account_state"], row["effective_status"], row["user"])
        for row in filled.rows("timeline_of_sim", sim="9000000001")
    ]

    assert told == [
        (7, "job_callback", "active", "unpaid", "active", "main:17"),
        (7, "account unpaid: a reason", "active", "unpaid", "active", None),
        (6, "account restricted: a reason", "blocked", "restricted", "blocked", None),
        (4, "account unpaid: a reason", "blocked", "unpaid", "blocked", None),
        (3, "job_callback", "blocked", "good", "blocked", "main:17"),
        (2, "job_callback", "active", "good", "active", "main:17"),
    ]


def test_a_timeline_of_nothing_is_of_the_card_seen_last(filled: Site) -> None:
    """Where no card is named, the one seen last is shown."""
    assert {row["sim"] for row in filled.rows("timeline_of_sim")} == {OTHER}
    assert {row["sim"] for row in filled.rows("timeline_of_sim", sim=" ")} == {OTHER}


def statuses(site: Site, **parameters: str) -> dict[str, tuple[str, str]]:
    return {row["sim"]: (row["status"], row["effective_status"]) for row in site.rows("sims_as_of", **parameters)}


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        ("2025-12-01", {}),
        ("2025-12-02T10:00:00.499Z", {}),
        ("2025-12-02T10:00:00.500Z", {A: ("active", "active"), B: ("unknown", "unknown")}),
        ("2025-12-02T10:00:00.500000Z", {A: ("active", "active"), B: ("unknown", "unknown")}),
        ("2025-12-02T10:00:00.499999Z", {}),
        ("2025-12-02 10:04", {A: ("active", "active"), B: ("unknown", "unknown")}),
        ("2025-12-02T13:04:59+03:00", {A: ("active", "active"), B: ("unknown", "unknown")}),
        ("2025-12-02T13:05:00+03:00", {A: ("blocked", "blocked"), B: ("terminated", "terminated")}),
        ("2025-12-02", {A: ("blocked", "blocked"), B: ("terminated", "terminated")}),
        ("2025-12-09T10:00Z", {A: ("blocked", "blocked"), B: ("terminated", "terminated")}),
        ("2025-12-10", {A: ("active", "active"), B: ("terminated", "terminated")}),
        ("", {A: ("active", "active"), B: ("terminated", "terminated"), OTHER: ("active", "active")}),
        ("no moment", {}),
    ],
)
def test_statuses_are_those_of_the_moment(filled: Site, moment: str, expected: dict[str, tuple[str, str]]) -> None:
    """Every card seen by a moment is shown as it was then, however the moment is written; a date means its end."""
    assert statuses(filled, moment=moment) == expected


def test_a_restricted_account_blocks_its_cards_as_of_then(empty: Site, tmp_path: Path) -> None:
    """While an account was restricted its cards were blocked, but for terminated ones, and other accounts' were not."""
    assert statuses(empty) == {}
    # The card is active all along: what blocks it is the account.
    site = varied(tmp_path, f"UPDATE sim_events SET status_after = 'active' WHERE sim = '{A}'")

    assert statuses(site, moment="2025-12-05")[A] == ("active", "active")
    assert statuses(site, moment="2025-12-09") == {A: ("active", "blocked"), B: ("terminated", "terminated")}
    basis = {row["sim"]: row["effective_basis"] for row in site.rows("sims_as_of", moment="2025-12-09")}
    assert basis == {A: "account restricted", B: "explicit"}
    assert statuses(site, moment="2025-12-10")[A] == ("active", "active")
    site.close()


def test_statuses_can_be_narrowed_and_continued(filled: Site) -> None:
    """The statuses as of a moment can be narrowed to a source or an effective status, and continued behind a card."""
    assert set(statuses(filled, source="other")) == {OTHER}
    assert set(statuses(filled, status="terminated")) == {B}
    assert set(statuses(filled, after=A)) == {B, OTHER}


def test_deliveries_numbered_out_of_time_count_as_of_their_time(tmp_path: Path) -> None:
    """Of deliveries of one commit, numbered against their times, those received by the moment are all there."""
    site = varied(tmp_path, "UPDATE deliveries SET received_at = '2025-12-02T10:00:00.400000Z' WHERE position = 3")

    assert statuses(site, moment="2025-12-02T10:00:01Z")[B] == ("terminated", "terminated")
    site.close()


@pytest.mark.parametrize("asked", ["q-1", "main:q-1", " q-1 ", ""])
def test_progress_of_a_job(filled: Site, asked: str) -> None:
    """A job's callbacks are shown in the order received, with what each did, by qid or key or as the last heard of."""
    told = [(row["position"], row["processed"], row["effect"]) for row in filled.rows("progress_of_job", job=asked)]

    assert told == [(2, 0, "applied"), (3, 2, "applied"), (7, 1, "late")]


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        ("2025-11-30", {}),
        (
            "2025-12-01",
            {
                "M2M-501": ("issued", "12000.05", 0),
                "M2M-502": ("issued", "12000.05", 0),
                "M2M-503": ("issued", "12000.05", 0),
            },
        ),
        ("2025-12-05", {"M2M-501": ("unpaid_3", "12345.67", 0), "M2M-502": ("issued", "12000.05", 1)}),
        ("2025-12-08T23:00-03:00", {"M2M-501": ("unpaid_3", "12345.67", 0), "M2M-502": ("issued", "12000.05", 1)}),
        ("", {"M2M-501": ("unpaid_6", "12345.67", 0), "M2M-502": ("issued", "12000.05", 1)}),
        ("no moment", {}),
    ],
)
def test_open_bills_are_those_of_the_moment(
    filled: Site, moment: str, expected: dict[str, tuple[str, str, int]]
) -> None:
    """Bills announced and not paid by a moment are shown with stage, amount and presumption as of then."""
    rows = filled.rows("open_bills_as_of", moment=moment)

    assert {row["number"]: (row["stage"], row["amount_rubles"], row["presumed_settled"]) for row in rows} == expected


def test_a_stage_that_was_left_is_presumed_nothing(tmp_path: Path) -> None:
    """A bill whose later notice did come is not presumed settled as of before, whatever is presumed of it now."""
    site = varied(
        tmp_path,
        "UPDATE bill_notices SET presumed_settled_on_after = '2025-12-02', next_expected_on_after = '2025-12-01'"
        " WHERE bill = 'main:501' AND stage_after = 'unpaid_6'",
    )

    (before,) = (row for row in site.rows("open_bills_as_of", moment="2025-12-08") if row["number"] == "M2M-501")
    (now,) = (row for row in site.rows("open_bills_as_of") if row["number"] == "M2M-501")
    assert (before["presumed_settled_on"], before["next_notice_expected_on"], before["presumed_settled"]) == (
        None,
        None,
        0,
    )
    assert (now["presumed_settled_on"], now["presumed_settled"]) == ("2025-12-02", 1)
    assert (before["stage_at"], now["stage_at"]) == (TIMES[4], TIMES[6])
    site.close()


def test_a_late_notice_changes_no_amount(tmp_path: Path) -> None:
    """The amount as of a moment is that of the last notice applied by then."""
    site = varied(tmp_path, "UPDATE bill_notices SET effect = 'late', amount_kopecks = 1 WHERE position = 6")

    assert {row["amount_kopecks"] for row in site.rows("open_bills_as_of")} == {1234567, 1200005}
    site.close()


def test_what_was_before_a_card_was_known_is_not_its_history(tmp_path: Path) -> None:
    """A card's timeline has its account's changes since the card was first seen, none from before."""
    site = varied(tmp_path, f"UPDATE sims SET first_seen_at = '{TIMES[6]}' WHERE sim = '{A}'")

    told = [row["what"] for row in site.rows("timeline_of_sim", sim=A) if row["what"].startswith("account")]
    assert told == ["account unpaid: a reason", "account restricted: a reason"]
    site.close()


@pytest.mark.parametrize("asked", ["17", "main:17", "Вымышленная", ""])
def test_what_a_user_ordered(filled: Site, asked: str) -> None:
    """A user's jobs are found by the platform's id, the key or the last name, or are those of whoever ordered last."""
    assert [row["qid"] if "qid" in row else row["job"] for row in filled.rows("orders_of_user", user=asked)] == [
        "main:q-1"
    ]


def test_what_nobody_ordered(filled: Site) -> None:
    """A name of nobody finds nothing, not everything."""
    assert filled.rows("orders_of_user", user="Никто") == []


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({}, [9, 5]),
        ({"since": "2025-12-05"}, [9, 5]),
        ({"since": "2025-12-06"}, [9]),
        ({"since": "2025-12-11T11:00:00.001Z"}, []),
        ({"source": "other"}, []),
        ({"since": "never"}, []),
    ],
)
def test_quarantine_shows_what_was_not_understood(
    filled: Site, parameters: dict[str, str], expected: list[int]
) -> None:
    """Deliveries not understood are shown newest first, from a date on, of one source or of all."""
    rows = filled.rows("quarantined_deliveries", **parameters)
    contents = filled.rows("quarantined_contents", **parameters)

    assert [row["position"] for row in rows] == [row["position"] for row in contents] == expected
    assert all(0 < len(row["body_begins"]) <= 160 for row in contents)


def test_activity_is_counted_by_day(filled: Site) -> None:
    """Each day has its deliveries counted by kind; days without any have no row."""
    rows = filled.rows("activity_per_day", since="2025-12-02", until="2025-12-11")

    assert [(row["day"], row["deliveries"], row["job_callbacks"], row["quarantined"]) for row in rows] == [
        ("2025-12-11", 2, 0, 1),
        ("2025-12-10", 1, 1, 0),
        ("2025-12-09", 1, 0, 0),
        ("2025-12-05", 1, 0, 1),
        ("2025-12-04", 1, 0, 0),
        ("2025-12-02", 2, 2, 0),
    ]
    assert sum(row["unpaid_notices"] for row in rows) == 2
    assert (
        sum(
            row["packages_empty"]
            for row in filled.rows("activity_per_day", since="2025-12-01", until="2025-12-31", source="main")
        )
        == 0
    )


def test_activity_is_of_the_last_month_by_itself(tmp_path: Path) -> None:
    """Where no day is named, the last 30 days are counted, today among them."""
    with closing(make(tmp_path / "audit.db")) as connection:
        connection.execute("PRAGMA foreign_keys=OFF")
        for position, ago in enumerate(("-30 days", "-29 days", "-0 days"), 1):
            (at,) = connection.execute("SELECT strftime('%Y-%m-%dT%H:%M:%f000Z', 'now', ?)", (ago,)).fetchone()
            insert(connection, "deliveries", position=position, received_at=at, source="main", kind="job_callback")
        connection.commit()
    site = Site(tmp_path / "audit.db")

    assert [row["first_position"] for row in site.rows("activity_per_day")] == [3, 2]
    site.close()


# A month of the simulated platform, projected.

MONTH = datetime(2025, 11, 10, tzinfo=UTC)


def month() -> list[Event]:
    """What the platform sends in a month, received at a pace that brings the hundreds near to one another in time."""
    bodies = platform.deliveries(1, 1500, 60, MONTH)
    return [
        Event(position, Delivery(instant(MONTH + timedelta(milliseconds=7 * position)), "main", "", {}, body))
        for position, body in enumerate(bodies, 1)
    ]


def project(path: Path, events: list[Event]) -> None:
    model = open_to_write(path, Configuration())
    apply(model, read(events, Decoder(Configuration())), since=0)
    model.close()


@pytest.fixture(scope="module")
def projected(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    path = tmp_path_factory.mktemp("projected") / "audit.db"
    project(path, month())
    site = Site(path)
    yield site
    site.close()


@pytest.mark.parametrize("path", PAGES)
def test_every_page_opens_on_what_the_projector_makes(projected: Site, path: str) -> None:
    """Each page shows rows of a projected month; only stalled jobs and what persons do there are none of yet."""
    name = path.rpartition("/")[2]
    since = "since=2025-11-01" if "since" in QUERIES.get(name, {}).get("params", []) else ""
    rows = projected.get(f"{path}.json?_size=max&_shape=objects&{since}").json()
    assert projected.get(f"{path}?{since}").status_code == 200

    if path.count("/") == 2 and name not in {
        "jobs_stalled",
        "unfinished_jobs",
        "rebuild_differences",
        *SEARCHES,
        *BY_HAND,
    }:
        assert rows["rows"]


@pytest.mark.parametrize("position", [1, 2, 40, 333, 480, 700, 1100, 1500])
def test_the_past_is_what_was_shown_then(projected: Site, tmp_path: Path, position: int) -> None:
    """As of any moment the queries say what the views said when the projector had come as far as that."""
    events = month()
    project(tmp_path / "audit.db", events[:position])
    site = Site(tmp_path / "audit.db")
    moment = events[position - 1].delivery.received_at

    def told(rows: Rows, key: str, *columns: str) -> dict[str, list[Any]]:
        return {row[key]: [row[column] for column in columns] for row in rows}

    # By IMSI: a card first seen without its ICCID has another key since.
    status = ("imsi", "status", "status_basis", "effective_status", "effective_basis", "account_state")
    then = told(site.rows("sim_status", _size="max"), *status)
    assert then == told(projected.rows("sims_as_of", moment=moment), *status)

    bill = ("bill", "number", "issued_on", "amount_rubles", "stage", "stage_at", "period")
    assert told(site.rows("bills_open"), *bill) == told(projected.rows("open_bills_as_of", moment=moment), *bill)
    site.close()


def test_a_timeline_ends_where_the_card_stands(projected: Site) -> None:
    """The newest line of a card's timeline has the statuses that sim_status shows, for every card."""
    for card in projected.rows("sim_status", _size="max"):
        newest = projected.rows("timeline_of_sim", sim=card["imsi"])[0]
        assert (newest["sim"], newest["status"], newest["account_state"], newest["effective_status"]) == (
            card["sim"],
            card["status"],
            card["account_state"],
            card["effective_status"],
        )


# By hand.


def test_datasette_takes_it_by_hand(tmp_path: Path) -> None:
    """`datasette audit.db -m metadata.yml` works as it is, and `datasette inspect` reads the file."""
    with closing(make(tmp_path / "audit.db")) as connection:
        tell(connection)
    datasette = [sys.executable, "-m", "datasette"]

    def run(*words: str) -> str:
        return subprocess.run([*datasette, *words], cwd=tmp_path, check=True, capture_output=True, text=True).stdout

    described = ["audit.db", "-m", str(publish.metadata_path())]
    shown = json.loads(run("serve", *described, "--get", "/audit.json"))
    assert {query["name"] for query in shown["queries"]} == set(QUERIES)
    assert {table["name"]: table["count"] for table in shown["tables"]}["deliveries"] == len(TIMES)
    assert len(json.loads(run("serve", *described, "--get", "/audit/timeline_of_sim.json?sim=9000000001"))["rows"]) == 6
    assert json.loads(run("inspect", "audit.db"))["audit"]["tables"]["sims"]["count"] == 3
