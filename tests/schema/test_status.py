from __future__ import annotations

from typing import TYPE_CHECKING, get_args

import pytest

from schema.configuration import Configuration
from schema.fields import Weak
from schema.readings import Status
from schema.status import FLAGS, STATUSES, Said, flag_reader, reader, word, yes_or_no

if TYPE_CHECKING:
    from schema.readings import Json

read = reader(Configuration().statuses)


@pytest.mark.parametrize(
    ("value", "status", "raw"),
    [
        ("active", "active", "active"),
        ("  ACTIVE ", "active", "ACTIVE"),
        ("Not_Active", "inactive", "Not_Active"),
        ("Заблокирована", "blocked", "Заблокирована"),
        ("Не активна", "inactive", "Не активна"),
        ("Включён", "active", "Включён"),
        ("unknown", "unknown", "unknown"),
        ({"description": "Активна", "value": 3}, "active", "Активна"),
        ({"description": "№ 3", "value": "blocked"}, "blocked", "blocked"),
        ({"Name": "terminated"}, "terminated", "terminated"),
    ],
)
def test_a_known_word_is_a_status(value, status, raw):
    """Words are known in Russian and English, of an object the first that is known; the platform's own is kept."""
    assert read(value) == (Said(status, raw), ())


@pytest.mark.parametrize(
    ("value", "raw"),
    [
        (3, "3"),
        ("3", "3"),
        ("foo", "foo"),
        (True, "true"),
        ({"value": 3}, "3"),
        ({"value": 3, "name": "foo"}, "3"),
        ({"a": 1}, '{"a":1}'),
        (["active"], '["active"]'),
    ],
)
def test_an_unknown_word_is_unknown(value, raw):
    """A bare number, or a word of no table, is unknown, with the platform's own value, for want of better."""
    assert read(value) == (Weak(Said("unknown", raw)), ("status_not_understood",))


def test_nothing_is_no_status():
    """Null, blank and empty say nothing."""
    nothing: tuple[Json, ...] = (None, "", " ", {}, [])
    for value in nothing:
        assert read(value) == (None, ())


def test_words_are_configurable():
    """A configuration's word counts, and may say what a number means."""
    own = reader({word("На складе"): "inactive", word("3"): "pending"})
    assert own("на складе") == (Said("inactive", "на складе"), ())
    assert own(3) == (Said("pending", "3"), ())


def test_the_words_are_consistent():
    """Every word comes to a status, and no two spellings of one word to different ones."""
    assert set(STATUSES.values()) == set(get_args(Status))
    folded: dict[str, str] = {}
    for text, status in STATUSES.items():
        assert folded.setdefault(word(text), status) == status


@pytest.mark.parametrize(
    ("value", "flag", "flaws"),
    [
        (True, True, ()),
        (False, False, ()),
        (1, True, ("flag_not_boolean",)),
        ("0", False, ("flag_not_boolean",)),
        ("Да", True, ("flag_not_boolean",)),
        (2, None, ("flag_not_understood",)),
        ("maybe", None, ("flag_not_understood",)),
        ([], None, ("flag_not_understood",)),
        (None, None, ()),
        ("", None, ()),
    ],
)
def test_yes_or_no(value, flag, flaws):
    """A boolean is one; 0 and 1 and plain words are read as one and named."""
    assert yes_or_no(value) == (flag, flaws)


def test_flags_tell_a_status():
    """What yes and no of each flag come to; that a card is not blocked is a weak finding."""
    for alias in FLAGS:
        lock = alias in {"blocked", "locked"}
        assert flag_reader(alias)(True) == (Said("blocked" if lock else "active", f"{alias}=true"), ())
        said = Said("active" if lock else "inactive", f"{alias}=false")
        assert flag_reader(alias)(False) == (Weak(said) if lock else said, ())
        assert flag_reader(alias)("maybe") == (None, ("flag_not_understood",))
