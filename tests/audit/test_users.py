"""Users: the file, and who it lets in."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from audit import users
from audit.roles import Role
from audit.users import UserError, Users
from schema.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

NOW = datetime(2026, 5, 1, tzinfo=UTC)
PASSWORD = "correct horse"  # noqa: S105 - of a user made here


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file with one person and one program."""
    path = tmp_path / "users.json"
    users.add(path, "petrova", Role.PRIVACY, PASSWORD, now=NOW, entropy=os.urandom)
    return path


def add_program(path: Path, name: str = "exporter") -> str:
    return users.add_program(path, name, Role.AUDITOR, now=NOW, entropy=os.urandom)


def test_the_file_is_its_owners_and_holds_hashes_alone(path: Path) -> None:
    """Nobody else may read the file, and neither a password nor a token stands in it."""
    token = add_program(path)

    assert path.stat().st_mode & 0o777 == 0o600
    assert PASSWORD not in path.read_text()
    assert token not in path.read_text()
    assert [(user.name, user.role) for user in users.listed(path)] == [
        ("petrova", Role.PRIVACY),
        ("exporter", Role.AUDITOR),
    ]


def test_a_person_gets_in_by_the_password_alone(path: Path) -> None:
    """The right password of the right name is let in; any other pair, an empty one and a token are not."""
    token = add_program(path)
    known = Users(path)

    user = known.with_password("petrova", PASSWORD)
    assert user is not None
    assert user.role is Role.PRIVACY
    for name, password in [("petrova", "correct hors"), ("petrova", ""), ("nobody", PASSWORD), ("exporter", token)]:
        assert known.with_password(name, password) is None
    assert known.with_token(PASSWORD) is None


def test_a_password_is_the_same_in_either_form_of_unicode(path: Path) -> None:
    """What one keyboard writes composed and another decomposed is one password."""
    users.change_password(path, "petrova", "пароль й длинный", now=NOW, entropy=os.urandom)

    assert Users(path).with_password("petrova", "пароль й длинный".replace("й", "и\N{COMBINING BREVE}"))


def test_a_program_gets_in_by_its_token_until_it_has_another(path: Path) -> None:
    """A token counts from when it is made until it is changed or its user removed, without a restart."""
    known = Users(path)
    token = add_program(path)
    assert known.with_token(token) is not None
    assert known.with_token(token + "x") is None
    assert known.with_token("") is None

    new = users.change_token(path, "exporter", now=NOW, entropy=os.urandom)
    assert known.with_token(token) is None
    assert known.with_token(new) is not None
    users.remove(path, "exporter")
    assert known.with_token(new) is None


def test_a_session_ends_with_what_it_stands_for(path: Path) -> None:
    """A session holds for one password and role: a change of the password, or removal, ends it."""
    known = Users(path)
    stamp = users.listed(path)[0].stamp
    assert known.named("petrova", stamp) is not None
    assert known.named("petrova", "") is None

    users.change_password(path, "petrova", "another password", now=NOW, entropy=os.urandom)
    assert known.named("petrova", stamp) is None


@pytest.mark.parametrize("harm", ["removed", "damaged", "emptied"])
def test_an_installation_that_had_users_never_becomes_one_without(path: Path, harm: str) -> None:
    """While Datasette runs, a file that goes or breaks lets nobody in, and opens nothing."""
    known = Users(path)
    stamp = users.listed(path)[0].stamp
    match harm:
        case "removed":
            path.unlink()
        case "damaged":
            path.write_text("{")
        case _:
            users.remove(path, "petrova")

    assert known.named("petrova", stamp) is None
    assert known.are_any


def test_without_a_file_there_are_none(tmp_path: Path) -> None:
    """No file means no users, and makes none; one added later counts at once."""
    path = tmp_path / "users.json"
    known = Users(path)

    assert not known.are_any
    assert users.listed(path) == ()
    assert not path.exists()
    add_program(path)
    assert known.are_any


@pytest.mark.parametrize("name", ["", "Petrova", "../x", "a b", "x" * 64, "root", "a\n"])
def test_a_name_that_is_none_is_refused(path: Path, name: str) -> None:
    """A name that needs quoting, or means something already, is refused, and the file left as it was."""
    before = path.read_bytes()
    with pytest.raises(UserError, match="can't name a user"):
        add_program(path, name)
    assert path.read_bytes() == before


@pytest.mark.parametrize("password", ["", "elevenchars", "x" * 1025])
def test_a_password_out_of_bounds_is_refused(path: Path, password: str) -> None:
    """A password that is too short to withstand guessing, or endless, is refused."""
    with pytest.raises(UserError, match="12 characters or more"):
        users.add(path, "other", Role.AUDITOR, password, now=NOW, entropy=os.urandom)


def test_a_name_is_given_once(path: Path) -> None:
    """A second user of a name is refused, and the error says how to change the first."""
    with pytest.raises(UserError, match="users change petrova"):
        add_program(path, "petrova")
    with pytest.raises(UserError, match="no user 'nobody': the users are petrova"):
        users.remove(path, "nobody")


def test_a_damaged_file_is_told_at_the_start(path: Path) -> None:
    """A file that can't be read as users is an error with its name, not an installation without users."""
    path.write_text('{"v": 1, "users": [{"name": "x"}]}')
    with pytest.raises(ConfigurationError, match=r"users file .*users\.json is damaged"):
        Users(path)


def test_the_cookie_secret_is_made_once(tmp_path: Path) -> None:
    """Cookies are signed with the same secret after a restart, of the owner's alone; one that others may read is refused."""
    path = tmp_path / "cookie.secret"
    secret = users.cookie_secret(path, entropy=os.urandom)

    assert len(secret) == 64
    assert users.cookie_secret(path, entropy=os.urandom) == secret
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o644)
    with pytest.raises(ConfigurationError, match="others may read it"):
        users.cookie_secret(path, entropy=os.urandom)
