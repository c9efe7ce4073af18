"""The commands `simtrail users`, and what refuses to start without them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from click.testing import CliRunner, Result

from audit import publish, users
from audit.command import main
from audit.folder import DataFolder
from audit.roles import Role
from schema.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

PASSWORD = "correct horse"  # noqa: S105 - of a user made here


def run(data: Path, *arguments: str, typed: str = "") -> Result:
    return CliRunner().invoke(main, ["users", *arguments, f"--data={data}"], input=typed)


def test_users_are_added_listed_changed_and_removed(tmp_path: Path) -> None:
    """A person by a password from standard input, a program by a token printed alone; both are listed without either."""
    data = tmp_path / "data"
    added = run(data, "add", "petrova", "--role", "privacy", typed=f"{PASSWORD}\n")
    assert (added.exit_code, added.stdout) == (0, "")
    program = run(data, "add", "exporter", "--token")
    token = program.stdout.strip()
    folder = DataFolder(data)
    known = users.Users(folder.users)
    assert known.with_password("petrova", PASSWORD)
    assert known.with_token(token)

    listed = run(data, "list")
    assert [line.split("\t")[:3] for line in listed.stdout.splitlines()] == [
        ["petrova", "privacy", "person"],
        ["exporter", "auditor", "program"],
    ]
    told = json.loads(run(data, "list", "--json").stdout)
    assert [user["name"] for user in told] == ["petrova", "exporter"]
    assert {key for user in told for key in user} == {"name", "role", "kind", "added_at", "changed_at"}

    assert run(data, "change", "petrova", typed="another password\n").exit_code == 0
    changed = run(data, "change", "exporter", "--token").stdout.strip()
    assert known.with_password("petrova", "another password")
    assert known.with_token(changed)
    assert known.with_token(token) is None

    assert run(data, "remove", "exporter").stderr == "Removed exporter.\n"
    assert "open to anyone on this machine" in run(data, "remove", "petrova").stderr
    nobody = run(data, "list")
    assert (nobody.stdout, "There are no users" in nobody.stderr) == ("", True)
    assert json.loads(run(data, "list", "--json").stdout) == []


@pytest.mark.parametrize(
    ("arguments", "typed", "said"),
    [
        (["add", "petrova"], "short\n", "12 characters or more"),
        (["add", "../x", "--token"], "", "can't name a user"),
        (["change", "nobody", "--token"], "", "there is no user 'nobody': the users are none"),
        (["remove", "nobody"], "", "there is no user 'nobody'"),
    ],
)
def test_what_can_not_be_done_is_said_in_a_line(tmp_path: Path, arguments: list[str], typed: str, said: str) -> None:
    """A wrong name or password ends with 1, one line that says why, and no user added."""
    result = run(tmp_path, *arguments, typed=typed)

    assert result.exit_code == 1
    assert said in result.stderr
    assert not (tmp_path / "users.json").exists() or users.listed(tmp_path / "users.json") == ()


def test_a_role_that_is_none_is_wrong_usage(tmp_path: Path) -> None:
    """There are three roles."""
    result = run(tmp_path, "add", "petrova", "--role", "root")

    assert result.exit_code == 2
    assert "'auditor', 'privacy', 'admin'" in result.stderr


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "audit.example"])  # noqa: S104
def test_nothing_is_published_to_other_machines_by_accident(tmp_path: Path, host: str) -> None:
    """Beyond this machine Datasette starts with users or with --public, and else says which of them to choose."""
    folder = DataFolder(tmp_path)
    with pytest.raises(ConfigurationError, match=r"users add NAME.*--public"):
        publish.require_users(folder, host, public=False)
    for command in (["serve", "--publish-host", host], ["publish", "--host", host]):
        result = CliRunner().invoke(main, [*command, "--port=0", f"--data={tmp_path}"])
        assert result.exit_code == 1
        assert "--public" in result.stderr

    publish.require_users(folder, host, public=True)
    users.add_program(folder.users, "exporter", Role.AUDITOR, now=datetime(2026, 5, 1, tzinfo=UTC), entropy=bytes)
    publish.require_users(folder, host, public=False)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.0.1", "::1", "localhost"])
def test_on_this_machine_it_starts_without(tmp_path: Path, host: str) -> None:
    """On loopback nobody has to be a user."""
    publish.require_users(DataFolder(tmp_path), host, public=False)


def test_the_environment_carries_what_no_list_of_processes_shows(tmp_path: Path) -> None:
    """The cookies' secret reaches Datasette by the environment of its own process, never by an argument."""
    folder = DataFolder(tmp_path)
    environment = publish.environment(folder, public=False, entropy=bytes)

    assert environment == {
        "SIMTRAIL_DATA": str(tmp_path),
        "SIMTRAIL_LOG": f"sqlite:///{quote(str(tmp_path))}/log.db",
        "SIMTRAIL_PUBLIC": "",
        "DATASETTE_SECRET": "00" * 32,
    }
    assert publish.environment(folder, public=True, entropy=bytes)["SIMTRAIL_PUBLIC"] == "1"
