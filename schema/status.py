"""A SIM card's status: the platform's own words, and what they come to."""

# ruff: noqa: RUF001 - Russian words are meant.

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from schema.aliases import folded
from schema.fields import Weak
from schema.texts import label

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from schema.readings import Json, Status

STATUSES: Final[dict[str, Status]] = {
    # English
    "active": "active",
    "activated": "active",
    "enabled": "active",
    "in service": "active",
    "on": "active",
    "unblocked": "active",
    "unlocked": "active",
    "working": "active",
    "barred": "blocked",
    "blocked": "blocked",
    "lock": "blocked",
    "locked": "blocked",
    "suspended": "blocked",
    "deactivated": "inactive",
    "disabled": "inactive",
    "inactive": "inactive",
    "not activated": "inactive",
    "not active": "inactive",
    "off": "inactive",
    "cancelled": "terminated",
    "canceled": "terminated",
    "closed": "terminated",
    "deleted": "terminated",
    "retired": "terminated",
    "terminated": "terminated",
    "activating": "pending",
    "blocking": "pending",
    "in progress": "pending",
    "pending": "pending",
    "processing": "pending",
    "unblocking": "pending",
    "waiting": "pending",
    "unknown": "unknown",
    # Russian, in the genders of «карта», «номер», «состояние»
    "актив": "active",
    "активен": "active",
    "активна": "active",
    "активная": "active",
    "активно": "active",
    "активный": "active",
    "активирован": "active",
    "активирована": "active",
    "включен": "active",
    "включена": "active",
    "в работе": "active",
    "работает": "active",
    "разблокирован": "active",
    "разблокирована": "active",
    "блок": "blocked",
    "блокирован": "blocked",
    "блокирована": "blocked",
    "блокировка": "blocked",
    "заблокирован": "blocked",
    "заблокирована": "blocked",
    "заблокировано": "blocked",
    "приостановлен": "blocked",
    "приостановлена": "blocked",
    "выключен": "inactive",
    "выключена": "inactive",
    "деактивирован": "inactive",
    "деактивирована": "inactive",
    "не активен": "inactive",
    "не активна": "inactive",
    "не активирован": "inactive",
    "не активирована": "inactive",
    "неактивная": "inactive",
    "неактивный": "inactive",
    "отключен": "inactive",
    "отключена": "inactive",
    "аннулирован": "terminated",
    "аннулирована": "terminated",
    "закрыт": "terminated",
    "закрыта": "terminated",
    "расторгнут": "terminated",
    "расторгнута": "terminated",
    "списан": "terminated",
    "списана": "terminated",
    "удален": "terminated",
    "удалена": "terminated",
    "блокируется": "pending",
    "в обработке": "pending",
    "в процессе": "pending",
    "активируется": "pending",
    "ожидает": "pending",
    "ожидание": "pending",
    "разблокируется": "pending",
    "неизвестно": "unknown",
}
"""The words a platform says, to what they come to; compared folded, ``ё`` as ``е``."""

FLAGS: Final[dict[str, tuple[Status, Status]]] = {
    "activated": ("active", "inactive"),
    "enabled": ("active", "inactive"),
    "blocked": ("blocked", "active"),
    "locked": ("blocked", "active"),
}
"""Yes-or-no aliases of the status: what yes and what no come to."""

_YES: Final = frozenset({"true", "1", "yes", "да"})
_NO: Final = frozenset({"false", "0", "no", "нет"})
_SAYS: Final = ("description", "value", "name")
"""Where an object says its status, the fullest wording first."""


class Said(NamedTuple):
    """A status as read, and the platform's own value for it."""

    status: Status
    raw: str


StatusFound: TypeAlias = tuple[Said | Weak | None, tuple[str, ...]]

_NOT_UNDERSTOOD: Final = ("status_not_understood",)


def word(text: str) -> str:
    """A status word as words are compared."""
    return folded(text).replace("ё", "е")


def reader(statuses: Mapping[str, Status]) -> Callable[[Json], StatusFound]:
    """A reader of statuses, text or object, by a table of folded words.

    What is no word of the table, such as a bare number, is ``unknown``, for
    want of an alias that says more.
    """

    def read(value: Json) -> StatusFound:
        said = [entry for entry in _sayings(value) if entry is not None and entry != ""]
        readings = [_of_word(entry, statuses) for entry in said]
        for found, flaws in readings:
            if isinstance(found, Said):
                return found, flaws
        return readings[0] if readings else (None, ())

    return read


def _sayings(value: Json) -> list[Json]:
    if not isinstance(value, dict):
        return [value]
    fields = {folded(key): entry for key, entry in value.items()}
    return [fields.get(name) for name in _SAYS if not isinstance(fields.get(name), dict | list)] + [value]


def _of_word(value: Json, statuses: Mapping[str, Status]) -> StatusFound:
    raw, flaws = label(value)
    if raw is None:
        return None, flaws
    known = None if isinstance(value, dict | list) else statuses.get(word(raw))
    if known is None:
        return Weak(Said("unknown", raw)), (*flaws, *_NOT_UNDERSTOOD)
    return Said(known, raw), flaws


def yes_or_no(value: Json) -> tuple[bool | None, tuple[str, ...]]:
    """A yes-or-no value: a boolean, or a number or text that plainly says one."""
    if value is None or value == "":
        return None, ()
    if isinstance(value, bool):
        return value, ()
    text = value.strip().casefold() if isinstance(value, str) else str(value) if isinstance(value, int) else ""
    if text in _YES or text in _NO:
        return text in _YES, ("flag_not_boolean",)
    return None, ("flag_not_understood",)


def flag_reader(alias: str) -> Callable[[Json], StatusFound]:
    """A reader of one yes-or-no alias of `FLAGS`. That a card is *not* blocked says little: a weak finding."""
    yes, no = FLAGS[alias]

    def read(value: Json) -> StatusFound:
        flag, flaws = yes_or_no(value)
        if flag is None:
            return None, flaws
        said = Said(yes if flag else no, f"{alias}={'true' if flag else 'false'}")
        return (said if flag or no != "active" else Weak(said)), flaws

    return read
