"""The SIM cards and people of the simulated platform: made up, and valid in form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from schema.identifiers import check_digit

if TYPE_CHECKING:
    from random import Random

PARKS = 100
"""Parks that have no card in common: the seed, modulo this, is the park's number."""

MAX_CARDS = 100_000
"""Cards of a park at most: its share of the seven digits of an MSISDN."""

COMPANY_ID = 42

TARIFFS = ("M2M-5", "M2M-20", "Телематика-100")

GROUPS = ((7, "Склад"), (8, "Такси"), (9, "Терминалы"), (10, "Счётчики воды"))

USERS = (
    (17, "Вымысла", "Придуманова"),
    (18, "Пример", "Образцов"),
    (19, "Небыль", "Сказкина"),
    (20, "Тест", "Проверкин"),
)
"""Id, first and last name. Nobody is called so."""

MANAGER = "Никто Ничейный"
"""Who looks after the account, as a bill says: a field that no page describes, and that names a person."""

WITHOUT_ICCID = 0.04
"""Share of the cards that are first named without their ICCID."""


@dataclass
class Card:
    """A SIM card of the park, as the platform knows it at the moment of the simulation."""

    platform_id: int
    iccid: str
    msisdn: str
    imsi: str
    tariff: str
    balance_kopecks: int
    group: tuple[int, str]
    status: str = "active"
    namings_without_iccid: int = 0
    """How often it is still to be named without its ICCID."""

    def named(self) -> dict[str, Any]:
        """What names the card in a webhook."""
        names = {"id": self.platform_id, "iccid": self.iccid, "msisdn": self.msisdn, "imsi": self.imsi}
        if self.namings_without_iccid:
            self.namings_without_iccid -= 1
            del names["iccid"]
        return names

    @property
    def balance(self) -> str:
        """The balance in rubles, with two decimals."""
        sign = "-" if self.balance_kopecks < 0 else ""
        return f"{sign}{abs(self.balance_kopecks) // 100}.{abs(self.balance_kopecks) % 100:02}"


def of_seed(seed: int, cards: int, random: Random) -> list[Card]:
    """The cards of a seed's park: `cards` of them, numbered on without gaps."""
    first = seed % PARKS * MAX_CARDS
    return [_card(serial, random) for serial in range(first + 1, first + cards + 1)]


def _card(serial: int, random: Random) -> Card:
    # 89 telecommunications, 7 Russia, then an issuer and the card (ITU-T E.118 §4.1).
    iccid = f"8970100{serial:011}"
    return Card(
        platform_id=1000 + serial,
        iccid=iccid + check_digit(iccid),
        msisdn=f"7900{serial:07}",
        imsi=f"25001{serial:010}",
        tariff=random.choice(TARIFFS),
        balance_kopecks=random.randrange(-50_00, 900_00),
        group=random.choice(GROUPS),
        namings_without_iccid=random.randrange(1, 3) if random.random() < WITHOUT_ICCID else 0,
    )
