"""The reader of «SIM card» objects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from schema import identifiers, money, status
from schema.aliases import folded
from schema.fields import Alias, Fields
from schema.readings import SimCard
from schema.status import Said
from schema.texts import identity, json_object, json_text, label

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from schema.configuration import Configuration
    from schema.fields import Found, Reader
    from schema.readings import Json

SLOTS: Final = SimCard.__struct_fields__[:-2]
ICCID, IMSI, MSISDN, ID, IMEI, STATUS, STATUS_RAW, BALANCE, GROUPS, TARIFF, OPERATOR = range(len(SLOTS))

_SIM: Final = "sim"
"""The alias that is whatever it looks like: an ICCID or an MSISDN."""

_ITEM: Final = "item"
"""The attribute that holds an element of the items which is no object."""

_LIKE_MSISDN: Final = len("+7") + identifiers.NATIONAL_DIGITS - 1
"""Characters from which on a number under `_SIM` looks like an MSISDN: shorter ones may be ids."""

_UNSAFE: Final = frozenset({"blocked", "terminated"})

_sim_card: Callable[..., SimCard] = SimCard
"""`SimCard` by position: its slots are filled by readers whose types a table can't tell."""


class SimCardReader:
    """Reads «SIM card» objects by a configuration's aliases and status words. One thread."""

    def __init__(self, configuration: Configuration) -> None:
        self._fields = Fields(len(SLOTS), _aliases(configuration), compared=STATUS)

    def read(self, item: Json) -> SimCard:
        """The SIM card in an element of the items, whatever that is. Its secrets are withheld in place."""
        if type(item) is dict:
            slots, left, besides, anomalies = self._fields.read(item)
        else:
            slots, left, besides, anomalies = self._fields.read({_SIM: item})
            left = {} if slots[ICCID] or slots[MSISDN] else {_ITEM: item}
            anomalies += ("item_not_object",)
        said = slots[STATUS]
        if type(said) is Said:
            slots[STATUS], slots[STATUS_RAW] = said
            if (
                besides
                and said.status == "active"
                and any(isinstance(s, Said) and s.status in _UNSAFE for s in besides)
            ):
                anomalies += ("status_contradicted",)
        if slots[ICCID] is None and slots[IMSI] is None and slots[MSISDN] is None and slots[ID] is None:
            anomalies += ("sim_unidentified",)
        attributes: str | None = None
        if left:
            attributes, flaws = json_object(left)
            anomalies += flaws
        return _sim_card(*slots, attributes, tuple(sorted(set(anomalies))) if anomalies else ())


def _aliases(configuration: Configuration) -> Iterator[Alias]:
    table = configuration.sim_aliases
    identities: tuple[tuple[str, int, Reader], ...] = (
        ("iccid", ICCID, identifiers.iccid),
        ("imsi", IMSI, identifiers.imsi),
        ("msisdn", MSISDN, identifiers.msisdn),
        ("imei", IMEI, identifiers.imei),
    )
    for field, slot, read in identities:
        reader = _within(read, table[field])
        for name in table[field]:
            yield Alias(name, slot, reader if folded(name) != _SIM else _if_alike(read))
    for name in table["id"]:
        yield Alias(name, ID, identity)
    yield from _status_aliases(table["status"], status.reader(configuration.statuses))
    yield from money.aliases(table["balance"], BALANCE, money.alone)
    for name in table["groups"]:
        yield Alias(name, GROUPS, _groups, whole=True)
    for field, slot in (("tariff", TARIFF), ("operator", OPERATOR)):
        for name in table[field]:
            yield Alias(name, slot, label)


def _status_aliases(names: Sequence[str], read: Reader) -> Iterator[Alias]:
    """Words first; then yes-or-no fields, those before that can say "blocked"."""
    flags = [folded(name) for name in names if folded(name) in status.FLAGS]
    for name in names:
        if folded(name) not in flags:
            yield Alias(name, STATUS, read)
    for name in sorted(flags, key=lambda flag: status.FLAGS[flag] != ("blocked", "active")):
        yield Alias(name, STATUS, status.flag_reader(name))


def _within(read: Reader, names: Sequence[str]) -> Reader:
    """The same reader, which of an object reads the field of that name: ``{imsi: {imsi}}``."""
    wanted = {folded(name) for name in names}

    def reader(value: Json) -> Found:
        if isinstance(value, dict):
            return next((read(entry) for key, entry in value.items() if folded(key) in wanted), (None, ()))
        return read(value)

    return reader


def _if_alike(read: Reader) -> Reader:
    """The same reader, which passes over what doesn't look like its identifier."""

    def reader(value: Json) -> Found:
        found, flaws = read(value)
        alike = isinstance(found, str) and len(found) >= _LIKE_MSISDN
        return (found, flaws) if alike else (None, ())

    return reader


def _groups(value: Json) -> Found:
    return (None, ()) if value is None or value == "" else json_text(value)
