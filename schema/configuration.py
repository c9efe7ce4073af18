"""The configuration: what a user may set of how webhooks are read and followed.

A file ``simtrail.toml`` in the data folder. Its tables add to the defaults:

    time_zone = "Europe/Moscow"      # of times that don't name their own
    redelivery_window_s = 86400      # how long a body of a source may come again as the same delivery
    [sim_aliases]                    # further names of a SIM card's fields
    iccid = ["card_no"]
    [bill_aliases]                   # further names of a bill's fields
    [statuses]                       # the platform's own words
    "на складе" = "inactive"
    [queues]                         # queue codes, to the operations that they stand for
    sim_suspend = "lock"
    [working_days]                   # days that are, or are not, working days after all
    2026-01-09 = true
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Mapping  # noqa: TC003 - msgspec reads it
from datetime import date
from typing import TYPE_CHECKING, Final, Literal, NoReturn, TypeAlias, TypeVar, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from schema import status
from schema.aliases import BILL_ALIASES, SIM_ALIASES, folded
from schema.errors import ConfigurationError
from schema.readings import Status
from schema.redaction import is_secret

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

Operation: TypeAlias = Literal["lock", "unlock", "reboot", "balance", "ping", "groups"]

QUEUES: Final[dict[str, Operation]] = {
    "lock": "lock",
    "sim_lock": "lock",
    "block": "lock",
    "sim_block": "lock",
    "unlock": "unlock",
    "sim_unlock": "unlock",
    "unblock": "unlock",
    "sim_unblock": "unlock",
    "reboot": "reboot",
    "sim_reboot": "reboot",
    "reset": "reboot",
    "sim_reset": "reboot",
    "restart": "reboot",
    "balance": "balance",
    "sim_balance": "balance",
    "get_balance": "balance",
    "ping": "ping",
    "sim_ping": "ping",
    "group": "groups",
    "groups": "groups",
    "sim_group": "groups",
    "sim_groups": "groups",
    "change_group": "groups",
    "change_groups": "groups",
    "set_group": "groups",
    "set_groups": "groups",
}
"""Queue codes to operations: the platform's page lists none, so these are guesses."""

TIME_ZONE: Final = "Europe/Moscow"

REDELIVERY_WINDOW_S: Final = 86_400
"""Seconds within which a source's identical body is taken for a retry: senders give up within a day."""

REDELIVERY_WINDOW_MAX_S: Final = 366 * 86_400
"""Seconds of the longest redelivery window: what repeats after a year is a new fact."""


Choice = TypeVar("Choice")

_STATUSES: Final[dict[str, Status]] = {code: code for code in get_args(Status)}
_OPERATIONS: Final[dict[str, Operation]] = {name: name for name in get_args(Operation)}
_DAY: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


class Configuration(msgspec.Struct, frozen=True):
    """The effective configuration. Its tables are whole (defaults and additions) and never changed.

    Keys of ``statuses`` and ``queues`` are folded (`status.word`, `folded`);
    those of ``working_days`` are ISO dates.
    """

    time_zone: str = TIME_ZONE
    redelivery_window_s: int = REDELIVERY_WINDOW_S
    sim_aliases: Mapping[str, tuple[str, ...]] = msgspec.field(default_factory=lambda: dict(SIM_ALIASES))
    bill_aliases: Mapping[str, tuple[str, ...]] = msgspec.field(default_factory=lambda: dict(BILL_ALIASES))
    statuses: Mapping[str, Status] = msgspec.field(
        default_factory=lambda: {status.word(text): code for text, code in status.STATUSES.items()}
    )
    queues: Mapping[str, Operation] = msgspec.field(
        default_factory=lambda: {folded(code): name for code, name in QUEUES.items()}
    )
    working_days: Mapping[str, bool] = msgspec.field(default_factory=dict)


def load(path: Path) -> Configuration:
    """The configuration of a file; the defaults where there is none.

    Raises `ConfigurationError`, which names the key and what is allowed.
    """
    try:
        settings: dict[str, object] = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Configuration()
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        msg = f"the configuration {path} can't be read: {error}"
        raise ConfigurationError(msg) from error
    return _File(path).configuration(settings)


def digest(configuration: Configuration) -> str:
    """The SHA-256, in hexadecimal, of the effective configuration's canonical JSON."""
    return hashlib.sha256(msgspec.json.encode(configuration, order="deterministic")).hexdigest()


def operation(configuration: Configuration, queue: str | None) -> Operation | None:
    """The operation for which a queue code stands, if it is known."""
    return None if queue is None else configuration.queues.get(folded(queue))


class _File:
    """A configuration file, for messages that name it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def configuration(self, settings: Mapping[str, object]) -> Configuration:
        for key in settings:
            if key not in Configuration.__struct_fields__:
                self._refuse(key, "is not known", Configuration.__struct_fields__)
        defaults = Configuration()
        return Configuration(
            time_zone=self._time_zone(settings.get("time_zone", defaults.time_zone)),
            redelivery_window_s=self._window(settings.get("redelivery_window_s", defaults.redelivery_window_s)),
            sim_aliases=self._aliases("sim_aliases", settings, SIM_ALIASES),
            bill_aliases=self._aliases("bill_aliases", settings, BILL_ALIASES),
            statuses={**defaults.statuses, **self._statuses(settings)},
            queues={**defaults.queues, **self._queues(settings)},
            working_days=self._working_days(settings),
        )

    def _time_zone(self, name: object) -> str:
        if isinstance(name, str):
            try:
                return ZoneInfo(name).key
            except (ZoneInfoNotFoundError, ValueError, OSError):
                pass
        return self._refuse(
            "time_zone", f"is {name!r}", ("a name of the IANA time zone database, such as Europe/Moscow",)
        )

    def _window(self, seconds: object) -> int:
        if type(seconds) is int and 0 <= seconds <= REDELIVERY_WINDOW_MAX_S:
            return seconds
        return self._refuse(
            "redelivery_window_s", f"is {seconds!r}", (f"whole seconds from 0 to {REDELIVERY_WINDOW_MAX_S}",)
        )

    def _aliases(
        self, key: str, settings: Mapping[str, object], defaults: Mapping[str, tuple[str, ...]]
    ) -> dict[str, tuple[str, ...]]:
        aliases = dict(defaults)
        for field, names in self._table(key, settings).items():
            where = f"{key}.{field}"
            if field not in defaults:
                self._refuse(where, "is not known", defaults)
            if not isinstance(names, list) or not all(isinstance(name, str) and folded(name) for name in names):
                self._refuse(where, f"is {names!r}", ("a list of names",))
            for name in names:
                if is_secret(folded(name)):
                    self._refuse(where, f"names {name!r}, which is never published", ("any other name",))
            aliases[field] = tuple(dict.fromkeys((*defaults[field], *names)))
        return aliases

    def _statuses(self, settings: Mapping[str, object]) -> dict[str, Status]:
        return {
            status.word(text): self._choice(f"statuses.{text}", code, _STATUSES)
            for text, code in self._table("statuses", settings).items()
        }

    def _queues(self, settings: Mapping[str, object]) -> dict[str, Operation]:
        return {
            folded(code): self._choice(f"queues.{code}", name, _OPERATIONS)
            for code, name in self._table("queues", settings).items()
        }

    def _working_days(self, settings: Mapping[str, object]) -> dict[str, bool]:
        days: dict[str, bool] = {}
        for day, works in self._table("working_days", settings).items():
            where = f"working_days.{day}"
            if not _DAY.fullmatch(day) or not _is_date(day):
                self._refuse(where, "is no date", ("dates such as 2026-01-09",))
            if not isinstance(works, bool):
                self._refuse(where, f"is {works!r}", ("true", "false"))
            days[day] = works
        return days

    def _table(self, key: str, settings: Mapping[str, object]) -> dict[str, object]:
        table = settings.get(key, {})
        if not isinstance(table, dict):
            self._refuse(key, f"is {table!r}", (f"a table [{key}]",))
        return table

    def _choice(self, key: str, value: object, choices: Mapping[str, Choice]) -> Choice:
        if isinstance(value, str) and value in choices:
            return choices[value]
        return self._refuse(key, f"is {value!r}", choices)

    def _refuse(self, key: str, fault: str, allowed: Iterable[str]) -> NoReturn:
        msg = f"{self._path}: {key} {fault}; allowed: {', '.join(allowed)}"
        raise ConfigurationError(msg)


def _is_date(day: str) -> bool:
    try:
        date.fromisoformat(day)
    except ValueError:
        return False
    return True
