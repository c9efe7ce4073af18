"""What the tests of readings share: a decoder, and readers of one SIM card or bill."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from schema.configuration import Configuration
from schema.decode import Decoder
from schema.readings import Notification

if TYPE_CHECKING:
    from collections.abc import Callable

    from schema.readings import Bill, SimCard


@pytest.fixture(scope="session")
def decoder() -> Decoder:
    """The decoder of the default configuration. Its memos live on: no test may be able to tell."""
    return Decoder(Configuration())


@pytest.fixture(scope="session")
def read_sim(decoder: Decoder) -> Callable[..., SimCard]:
    """Reads one item of these fields."""

    def read(**fields: object) -> SimCard:
        reading = decoder.decode(json.dumps({"type": "msu_lock", "items": [fields]}).encode())
        assert isinstance(reading, Notification)
        (sim,) = reading.sims
        return sim

    return read


@pytest.fixture(scope="session")
def read_bill(decoder: Decoder) -> Callable[..., Bill]:
    """Reads one item of these fields."""

    def read(**fields: object) -> Bill:
        reading = decoder.decode(json.dumps({"type": "generate_bill", "items": [fields]}).encode())
        assert isinstance(reading, Notification)
        (bill,) = reading.bills
        return bill

    return read


@pytest.fixture(scope="session")
def job() -> Callable[..., bytes]:
    """A job callback's body, with some of its fields replaced; `...` leaves a field out."""

    def body(**fields: object) -> bytes:
        callback: dict[str, object] = {
            "qid": "q-1",
            "added": 1764579600,
            "queue": "sim_lock",
            "handler": "https://audit.example/webhooks/main/S3CRET",
            "items": [],
            "user": {"id": 17, "first_name": "Анна", "last_name": "Петрова", "company_id": 42},
            "status": {"count": 5, "process": 2, "percentage": 40},
        }
        callback.update(fields)
        return json.dumps({key: value for key, value in callback.items() if value is not ...}).encode()

    return body
