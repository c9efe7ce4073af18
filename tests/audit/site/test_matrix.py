"""Who may see what: every page, table, query and file, for every role. What is not listed here fails a test."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import pytest
import yaml
from datasette.utils import tilde_encode  # type: ignore[import-untyped]

from audit import publish
from audit.roles import Role
from audit.site.closed import ROUTES as CLOSED
from audit.site.export import ROUTES as EXPORT
from audit.site.login import ROUTES as LOGIN
from audit.site.routes import ROUTES
from schema import search, tables, views
from schema.search import SEARCHES
from schema.tables import BY_NAME
from schema.views import VIEWS

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx

    from audit.folder import DataFolder

    AsRole = Callable[[Role | None], httpx.Client]

(DATABASE,) = yaml.safe_load(publish.metadata_path().read_text(encoding="utf-8"))["databases"].values()

EVERYBODY = {Role.AUDITOR, Role.PRIVACY, Role.ADMIN}
PERSONAL = {Role.PRIVACY, Role.ADMIN}
NOBODY: set[Role] = set()

PAGES = {
    "/": EVERYBODY,
    "/.json": EVERYBODY,
    "/audit": EVERYBODY,
    "/sim/{sim}": EVERYBODY,
    "/job/{job}": EVERYBODY,
    "/bill/{bill}": EVERYBODY,
    "/delivery/{position}": EVERYBODY,
    "/delivery/{position}/body": PERSONAL,
    "/delivery/{position}/receipt": EVERYBODY,
    "/file/{file}": EVERYBODY,
    "/verify.py": EVERYBODY,
    "/-/export": EVERYBODY,
    "/-/export.zip?tables=events": PERSONAL,
    "/-/versions.json": EVERYBODY,
    "/-/databases.json": NOBODY,
    "/-/threads.json": NOBODY,
    "/-/plugins.json": NOBODY,
    "/-/metadata.json": NOBODY,
    "/-/settings.json": NOBODY,
    "/-/permissions": NOBODY,
    "/_internal": NOBODY,
    "/audit.db": NOBODY,
}

TABLES = dict.fromkeys(
    [
        "accounts",
        "account_events",
        "jobs",
        "deliveries",
        "job_progress",
        "sims",
        "sim_events",
        "bills",
        "bill_notices",
        "files",
        "delivery_files",
        "corrections",
        "rebuilds",
        "rebuild_changes",
        "tracking",
        "sim_status",
        "jobs_stalled",
        "bills_open",
        "quarantine",
    ],
    EVERYBODY,
) | dict.fromkeys(
    [
        "users",
        "delivery_contents",
        "sim_attributes",
        "bill_attributes",
        "rebuild_personal_changes",
        "quarantine_contents",
    ],
    PERSONAL,
)

ROWS = {
    "/audit/deliveries/{position}": EVERYBODY,
    "/audit/delivery_contents/{position}": PERSONAL,
    "/audit/sims/{sim}": EVERYBODY,
    "/audit/sim_attributes/{sim}": PERSONAL,
    "/audit/bills/{bill}": EVERYBODY,
    "/audit/bill_attributes/{bill}": PERSONAL,
    "/audit/users/{user}": PERSONAL,
}

INDEXES = [search.name + part for search in SEARCHES for part in ("", "_config", "_data", "_docsize", "_idx")]
"""What full-text search keeps in tables of its own: read by what finds in them, and by themselves with those who see all."""

QUERIES = dict.fromkeys(DATABASE["queries"], EVERYBODY) | dict.fromkeys(
    ("orders_of_user", "quarantined_contents", "search_users", "search_bodies"), PERSONAL
)


@pytest.fixture
def keys(month: DataFolder) -> dict[str, str]:
    """A key of each kind of page."""
    with closing(sqlite3.connect(month.read_model)) as connection:
        (sim,) = connection.execute("SELECT sim FROM sim_attributes LIMIT 1").fetchone()
        job, position = connection.execute("SELECT job, position FROM job_progress WHERE effect = 'applied'").fetchone()
        (bill,) = connection.execute("SELECT bill FROM bill_attributes LIMIT 1").fetchone()
        (user,) = connection.execute("SELECT user FROM users LIMIT 1").fetchone()
        (file,) = connection.execute("SELECT sha256 FROM files LIMIT 1").fetchone()
    found = {"sim": sim, "job": job, "bill": bill, "position": position, "file": file, "user": user}
    return {name: tilde_encode(str(key)) for name, key in found.items()}


@pytest.mark.parametrize("role", [None, *Role])
def test_every_role_sees_what_the_matrix_says(as_role: AsRole, keys: dict[str, str], role: Role | None) -> None:
    """Each page, table (as page, JSON, CSV, row and export) and query answers those roles that the matrix names, and refuses all others."""
    client = as_role(role)
    expected: dict[str, set[Role]] = {path.format(**keys): roles for path, roles in (PAGES | ROWS).items()}
    for table, roles in TABLES.items():
        expected |= {f"/audit/{table}{form}": roles for form in ("", ".json?_size=1", ".csv?_size=1")}
    expected |= {f"/audit/{query}{form}": roles for query, roles in QUERIES.items() for form in ("", ".json")}
    expected |= {f"/audit/{index}": PERSONAL for index in INDEXES}
    expected |= {f"/-/export.zip?tables={table}": TABLES[table] for table in BY_NAME}

    answered = {path: client.get(path).status_code for path in expected}

    # An export of what a role does not see is told to be one of nothing that there is: 400.
    refusals = {302, 401, 404} if role is None else {400, 403, 404}
    wrong = {
        path: status
        for path, status in answered.items()
        if (status in refusals) is (role in expected[path]) or status not in refusals | {200}
    }
    assert wrong == {}


def test_every_route_of_ours_is_in_the_matrix(keys: dict[str, str]) -> None:
    """A page that is added is asked of every role, or this fails."""
    paths = [path.format(**keys) for path in PAGES]
    unasked = [
        pattern
        for pattern, _ in (*ROUTES, *EXPORT, *CLOSED)
        if not any(re.match(pattern, path.partition("?")[0]) for path in paths)
    ]

    assert unasked == []
    assert [pattern for pattern, _ in LOGIN] == ["^/-/login$"]


def test_every_table_and_query_is_in_the_matrix() -> None:
    """A table or view that is added is classed here, or this fails; a query is for everybody unless it is refused."""
    assert set(TABLES) == {*BY_NAME, *VIEWS}
    assert set(QUERIES) == set(DATABASE["queries"])


def test_what_is_said_to_be_personal_is_the_same_everywhere() -> None:
    """The schema, the matrix and the description name the same tables, views and queries as personal."""
    personal = {name for name, roles in TABLES.items() if roles is PERSONAL}
    assert personal == tables.PERSONAL | views.PERSONAL
    described = {name for name, told in DATABASE["tables"].items() if "allow" in told}
    assert described == personal | {name for name in INDEXES if name.startswith(tuple(search.PERSONAL))}
    assert {name for name, told in DATABASE["queries"].items() if "allow" in told} == {
        name for name, roles in QUERIES.items() if roles is PERSONAL
    }


@pytest.mark.parametrize("table", [name for name, roles in TABLES.items() if roles is EVERYBODY])
def test_who_sees_a_table_sees_all_of_it(as_role: AsRole, table: str) -> None:
    """No column is empty for an auditor that is not for the others, and no row is missing."""
    of_auditor, of_privacy = (
        as_role(role).get(f"/audit/{table}.json?_shape=array&_size=50") for role in (Role.AUDITOR, Role.PRIVACY)
    )
    assert of_auditor.status_code == 200
    assert of_auditor.json() == of_privacy.json()


@pytest.mark.parametrize(
    "sql",
    [
        "select * from users",
        "select count(*) from users",
        "with u as (select last_name from users) select * from u",
        "select (select last_name from users limit 1)",
        "select * from jobs join users using (user)",
        *(f"select * from {name}" for name, roles in TABLES.items() if roles is PERSONAL),
        *(f"select count(*) from {name}" for name, roles in TABLES.items() if roles is PERSONAL),
        "select body from deliveries join delivery_contents using (position)",
        "select sim from sims where sim in (select sim from sim_attributes where attributes like '%a%')",
        "select rowid from bodies_fts where bodies_fts match 'abc'",
        "select block from users_fts_data",
    ],
)
def test_no_sql_of_an_auditors_reaches_a_table_that_is_not_shown(as_role: AsRole, sql: str) -> None:
    """Arbitrary SQL, a filter and a facet over personal data are refused to an auditor, and answered to a privacy officer."""
    paths = [
        f"/audit.json?{urlencode({'sql': sql})}",
        f"/audit/jobs.json?{urlencode({'_where': f'exists({sql})'})}",
        f"/audit/jobs.json?{urlencode({'_where': f'1 in (select 1 from ({sql}))', '_facet': 'user'})}",
    ]
    for path in paths:
        refused = as_role(Role.AUDITOR).get(path)
        assert refused.status_code in {400, 403}, path
        assert not any(name in refused.text for name in ("Петрова", "Иванов"))
        assert as_role(Role.PRIVACY).get(path).status_code == 200, path


def test_an_auditor_runs_sql_over_the_rest(as_role: AsRole) -> None:
    """SQL of one's own is what Datasette is for: over what is shown an auditor has it, with labels and facets too."""
    client = as_role(Role.AUDITOR)
    answer = client.get(
        "/audit.json", params={"sql": "select state, count(*) from jobs group by state", "_shape": "array"}
    )
    assert answer.status_code == 200
    assert answer.json()
    for path in ("/audit/jobs?_facet=user&_labels=on", "/audit/jobs.csv?_labels=on", "/audit/accounts/main"):
        assert client.get(path).status_code == 200


def test_no_page_of_an_auditors_names_anybody(as_role: AsRole, keys: dict[str, str], month: DataFolder) -> None:
    """Over every page and every delivery of the month, what an auditor is shown holds no name and no address."""
    client = as_role(Role.AUDITOR)
    with closing(sqlite3.connect(month.read_model)) as connection:
        names = {name for row in connection.execute("SELECT first_name, last_name FROM users") for name in row}
        positions = [
            position for (position,) in connection.execute("SELECT position FROM deliveries WHERE position % 9 = 0")
        ]
    assert names
    paths = [path.format(**keys) for path, roles in PAGES.items() if Role.AUDITOR in roles and "file" not in path]
    paths += [f"/delivery/{position}" for position in positions]
    paths += [f"/audit/{name}" for name, roles in {**TABLES, **QUERIES}.items() if Role.AUDITOR in roles]
    for path in paths:
        text = client.get(path).text
        assert not [name for name in {*names, "203.0.113.7"} if name in text], path


def test_a_query_that_a_role_may_not_run_is_not_offered(as_role: AsRole) -> None:
    """The list of queries is that of those that answer."""
    for role in Role:
        page = as_role(role).get("/audit").text
        offered = {query for query in QUERIES if f'href="/audit/{query}"' in page}
        assert offered == {query for query, roles in QUERIES.items() if role in roles}
