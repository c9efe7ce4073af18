"""Access: who gets in, how long, and what is said to those who don't."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from importlib import metadata
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import httpx
import pytest
from datasette.app import Datasette  # type: ignore[import-untyped]

from audit import folder as folders
from audit import users
from audit.roles import Role
from audit.site import permissions
from schema import search, tables, views

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from audit.folder import DataFolder

    AsRole = Callable[[Role | None], httpx.Client]

NOW = datetime(2026, 5, 1, tzinfo=UTC)


@pytest.fixture
def copy(month: DataFolder, tmp_path: Path) -> DataFolder:
    """The month, to be changed."""
    shutil.copytree(month.path, tmp_path / "data")
    return folders.existing(tmp_path / "data")


def test_datasette_finds_the_plugin_by_its_entry_point() -> None:
    """The installed distribution names the plugin to Datasette."""
    assert [entry.value for entry in metadata.entry_points(group="datasette", name="simtrail")] == ["audit.site"]


def test_who_is_not_logged_in_is_sent_to_log_in(as_role: AsRole) -> None:
    """A page sends to the login and back; JSON and a wrong token are told 401; nothing of the content is shown."""
    nobody = as_role(None)
    page = nobody.get("/audit/deliveries?_size=5")
    assert (page.status_code, page.headers["location"]) == (302, "/-/login?next=%2Faudit%2Fdeliveries%3F_size%3D5")

    for path, headers in [
        ("/audit/deliveries.json", {}),
        ("/audit.json?sql=select+1", {}),
        ("/", {"authorization": "Bearer st_wrong", "accept": "*/*"}),
        ("/.json", {"cookie": "ds_actor=forged"}),
    ]:
        answer = nobody.get(path, headers=headers)
        assert (answer.status_code, answer.json()["status"]) == (401, 401)
        assert answer.headers["www-authenticate"] == 'Bearer realm="simtrail"'


def test_logging_in_leads_back(published: str, browser, log_in) -> None:
    """The right password leads to the page that was asked for; a wrong one to the form again, with the name kept."""
    with browser(published) as client:
        wrong = log_in(client, "auditor", "not the password")
        assert wrong.status_code == 401
        assert "No user has this name and password" in wrong.text
        assert "ds_actor" not in client.cookies
        right = log_in(client, "auditor", after="/audit/jobs")
        assert (right.status_code, right.headers["location"]) == (302, "/audit/jobs")
        assert client.get("/audit/jobs").status_code == 200


@pytest.mark.parametrize(
    "after", ["//evil.example/", "/\\evil.example", "https://evil.example", "javascript:alert(1)", ""]
)
def test_logging_in_never_leads_elsewhere(published: str, after: str, browser, log_in) -> None:
    """A link to the login can't send who follows it to another's site."""
    with browser(published) as client:
        assert log_in(client, "auditor", after=after).headers["location"] == "/"


def test_a_login_without_its_form_is_refused(published: str, browser) -> None:
    """Another site can't log a reader in: the form carries a token."""
    with browser(published) as client:
        client.get("/-/login")
        answer = client.post("/-/login", data={"username": "auditor", "password": "x"})
        assert answer.status_code == 403


def test_cookies_stay_where_they_belong(published: str, browser, log_in) -> None:
    """No script reads a cookie and no other site sends it; once TLS ends before us, no open wire carries it."""
    for headers, secure in [({}, False), ({"x-forwarded-proto": "https"}, True)]:
        with browser(published) as client:
            client.headers.update(headers)
            form = client.get("/-/login")
            if secure:  # The client speaks plain HTTP, so it keeps no such cookie.
                cookies = form.headers.get_list("set-cookie")
            else:
                cookies = form.headers.get_list("set-cookie") + log_in(client, "auditor").headers.get_list("set-cookie")
        assert cookies
        for cookie in cookies:
            assert "; HttpOnly" in cookie
            assert "samesite=lax" in cookie.lower()
            assert ("; Secure" in cookie) is secure


def test_no_password_is_taken_over_an_open_wire(published: str, browser) -> None:
    """Asked by another name than this machine's and without TLS, the login has no form, and says what to do."""
    with browser(published) as client:
        answer = client.get("/-/login", headers={"host": "audit.example"})
        assert answer.status_code == 403
        assert "X-Forwarded-Proto" in answer.text
        assert "password" not in answer.text.replace("a password typed here", "")


def test_logging_out_ends_it(as_role: AsRole) -> None:
    """After logging out a page sends to the login."""
    client = as_role(Role.AUDITOR)
    page = client.get("/")
    token = page.text.split('name="csrftoken" value="')[1].split('"')[0]
    client.post("/-/logout", data={"csrftoken": token})
    assert client.get("/").status_code == 302


def test_sessions_and_tokens_end_with_their_users_and_outlive_a_restart(
    copy: DataFolder, publish, browser, log_in
) -> None:
    """A session goes on through a restart; it ends, as a token does, when its user is changed or removed."""
    token = users.add_program(copy.users, "exporter", Role.AUDITOR, now=NOW, entropy=os.urandom)
    bearer = {"authorization": f"Bearer {token}"}
    with publish(copy) as url, browser(url) as client:
        assert log_in(client, "privacy").status_code == 302
        assert client.get("/").status_code == 200
        cookie = client.cookies["ds_actor"]
    with publish(copy) as url, browser(url, cookies={"ds_actor": cookie}) as client:
        assert client.get("/audit/users.json").status_code == 200
        assert httpx.get(f"{url}/audit/jobs.json", headers=bearer, trust_env=False).status_code == 200
        assert httpx.get(f"{url}/audit/users.json", headers=bearer, trust_env=False).status_code == 403
        users.change_password(copy.users, "privacy", "another password", now=NOW, entropy=os.urandom)
        users.remove(copy.users, "exporter")
        assert client.get("/audit/users.json").status_code == 401
        assert httpx.get(f"{url}/audit/jobs.json", headers=bearer, trust_env=False).status_code == 401


@pytest.mark.parametrize(
    "path",
    [
        "databases",
        "threads",
        "plugins",
        "settings",
        "metadata",
        "permissions",
        "messages",
        "allow-debug",
        "auth-token",
        "patterns",
        "config",
        "anything-new",
    ],
)
def test_pages_that_tell_of_the_machine_are_closed(as_role: AsRole, path: str) -> None:
    """What Datasette shows of paths, threads, plugins, settings and permissions is closed to every role, in both forms."""
    client = as_role(Role.ADMIN)
    for form in ("", ".json", "/"):
        assert client.get(f"/-/{path}{form}", params={"token": "x"}).status_code in {404, 302 if form == "/" else 404}


def test_no_answer_tells_a_path(as_role: AsRole, month: DataFolder) -> None:
    """Neither a page nor an error shows where the data lie."""
    client = as_role(Role.ADMIN)
    for path in (
        "/",
        "/audit",
        "/.json",
        "/audit.json",
        "/-/versions.json",
        "/-/actor.json",
        "/nothing",
        "/audit.db",
        "/audit.json?sql=x",
    ):
        assert str(month.path) not in client.get(path).text


def test_without_users_it_answers_to_this_machine_alone(copy: DataFolder, publish, browser) -> None:
    """Without users everything is open under this machine's own names; under another's, nothing is."""
    copy.users.unlink()
    with publish(copy) as url, browser(url) as client:
        assert client.get("/audit/users.json").status_code == 200
        for host in ("localhost:8001", "127.0.0.1", "[::1]:80"):
            assert client.get("/", headers={"host": host}).status_code == 200
        for host in ("rebound.example", "127.0.0.1.evil.example", "10.0.0.1", "["):
            assert client.get("/audit/jobs.json", headers={"host": host}).status_code in {400, 403}


def test_what_is_public_is_an_auditors(copy: DataFolder, publish, browser, log_in) -> None:
    """With --public anyone sees what an auditor sees, under any name; who logs in sees more."""
    with publish(copy, "--public") as url, browser(url) as client:
        for host in ("audit.example", "localhost"):
            assert client.get("/audit/jobs.json", headers={"host": host}).status_code == 200
            assert client.get("/audit/users.json", headers={"host": host}).status_code == 403
        assert log_in(client, "privacy").status_code == 302
        assert client.get("/audit/users.json").status_code == 200


def test_plain_datasette_serves_the_tables_but_for_personal_data(month: DataFolder) -> None:
    """Without our plugin the same file and description are served; who is nobody sees no personal data, and runs no SQL."""
    shown = (
        "/",
        "/audit",
        "/audit/jobs",
        "/audit/deliveries/1",
        "/audit/quarantine",
        "/audit/timeline_of_sim",
        "/-/databases",
    )
    indexes = [
        f"/audit/{name}{part}" for name in search.PERSONAL for part in ("", "_config", "_data", "_docsize", "_idx")
    ]
    queries = ("orders_of_user", "search_users", "search_bodies?text=html", "quarantined_contents.json")
    refused = [f"/audit/{name}" for name in (*tables.PERSONAL, *views.PERSONAL, *queries)] + indexes
    refused += [f"/audit/{name}.csv" for name in tables.PERSONAL] + ["/audit/delivery_contents/1"]
    refused += [f"/audit.json?{urlencode({'sql': sql})}" for sql in ("select * from users", "select 1")]
    refused += [f"/audit/jobs.json?{urlencode({'_where': 'exists(select 1 from users)'})}"]
    refused += [
        f"/audit/deliveries.json?_through={json.dumps({'table': 'users', 'column': 'last_name', 'value': 'x'})}"
    ]

    anybody = plain(month, shown, None)
    assert {path: status for path, (status, _) in anybody.items()} == dict.fromkeys(shown, 200)
    assert {path: status for path, (status, _) in plain(month, refused, None).items()} == dict.fromkeys(refused, 403)
    with closing(sqlite3.connect(month.read_model)) as connection:
        people = {name for row in connection.execute("SELECT first_name, last_name FROM users") for name in row}
    for path, (_, text) in anybody.items():
        assert not [each for each in {*people, "203.0.113.7"} if each in text], path
    for actor in ({"id": "a", "role": "privacy"}, {"id": "root"}):
        assert {status for status, _ in plain(month, refused, actor).values()} == {200}
    auditor = plain(month, refused, {"id": "b", "role": "auditor"})
    assert {status for status, _ in auditor.values()} == {403}


def plain(month: DataFolder, paths: Iterable[str], actor: dict[str, str] | None) -> dict[str, tuple[int, str]]:
    """What a Datasette without our plugin answers to somebody who is known to it, or to nobody."""
    import asyncio  # noqa: PLC0415

    from datasette.plugins import pm  # type: ignore[import-untyped] # noqa: PLC0415
    from datasette.utils import parse_metadata  # type: ignore[import-untyped] # noqa: PLC0415

    from audit.publish import metadata_path  # noqa: PLC0415

    (plugin,) = [each for each in pm.get_plugins() if each.__name__ == "audit.site"]
    pm.unregister(plugin)
    try:
        datasette = Datasette([str(month.read_model)], metadata=parse_metadata(metadata_path().read_text()))
        cookies = {} if actor is None else {"ds_actor": datasette.sign({"a": actor}, "actor")}

        async def answered() -> dict[str, tuple[int, str]]:
            answers = {path: await datasette.client.get(path, cookies=cookies) for path in paths}
            return {path: (answer.status_code, answer.text) for path, answer in answers.items()}

        return asyncio.run(answered())
    finally:
        pm.register(plugin, "simtrail")


def test_another_datasette_in_this_environment_stays_as_it_is(tmp_path: Path) -> None:
    """Where the description doesn't configure the plugin, it changes nothing: no page, no header, no permission."""
    import asyncio  # noqa: PLC0415

    from datasette.app import Datasette  # noqa: PLC0415

    with closing(sqlite3.connect(tmp_path / "other.db")) as other:
        other.execute("CREATE TABLE users (a)")
    datasette = Datasette([str(tmp_path / "other.db")])

    async def seen() -> tuple[int, int, bool, str]:
        threads = await datasette.client.get("/-/threads.json")
        users_ = await datasette.client.get("/other/users")
        return threads.status_code, users_.status_code, "content-security-policy" in users_.headers, users_.text

    threads, page, has_policy, text = asyncio.run(seen())
    assert (threads, page, has_policy) == (200, 200, False)
    assert "simtrail" not in text


def test_what_a_description_allows_is_looked_up_once_a_table(month: DataFolder) -> None:
    """Datasette's own look-up copies the whole description; with it remembered, each table still has its own answer."""
    described = {"databases": {"audit": {"tables": {"users": {"allow": False}, "sims": {"allow": True}}}}}
    datasette = Datasette([str(month.read_model)], metadata=described)
    looked_up: list[str] = []
    look_up = datasette._table_permission_allows

    def counted(database: str, table: str) -> object:
        looked_up.append(table)
        return look_up(database, table)

    datasette._table_permission_allows = counted
    permissions.remember(datasette)

    for _ in range(3):
        answers = [datasette._table_permission_allows("audit", table) for table in ("users", "sims", "jobs")]
        assert answers == [[False], [True], []]
    assert looked_up == ["users", "sims", "jobs"]


def test_a_fault_tells_no_token(copy: DataFolder, publish: Callable[..., AbstractContextManager[str]]) -> None:
    """Whatever goes wrong with a request, nothing of its headers stands in what Datasette prints."""
    token = users.add_program(copy.users, "program", Role.AUDITOR, now=NOW, entropy=os.urandom)
    with publish(copy) as url:
        for path in (
            "/nothing",
            "/audit/nothing",
            "/delivery/99999",
            "/audit/deliveries?_col=nothing",
            "/audit.json?sql=select+x",
        ):
            httpx.get(url + path, headers={"authorization": f"Bearer {token}"}, trust_env=False)
    told = (copy.path / "publish.out").read_text()
    assert "/nothing" in told
    assert token[:12] not in told
    assert "authorization" not in told
