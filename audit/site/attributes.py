"""What was sent of a card or a bill and has no column, for who may see it: personal data may be among it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from audit import roles
from schema.tables import BY_NAME

if TYPE_CHECKING:
    import sqlite3

_decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def read(connection: sqlite3.Connection, table: str, key: str, role: roles.Role | None) -> dict[str, str]:
    """The fields by their names as sent; nothing for a role that may not see the table of them."""
    if not roles.may_see(role, table):
        return {}
    (column,) = BY_NAME[table].key
    found = connection.execute(f"SELECT attributes FROM {table} WHERE {column} = ?", (key,)).fetchone()
    return {name: _shown(bytes(value).decode()) for name, value in _decode_object(found[0]).items()} if found else {}


def _shown(json: str) -> str:
    # Not parsed: a number of a million digits is text to us as well.
    return json[1:-1] if json.startswith('"') and "\\" not in json else json
