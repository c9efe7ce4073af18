"""The users who ordered jobs: personal data, in a table of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from projections.rows import Row

if TYPE_CHECKING:
    from projections.context import Context
    from schema.readings import User


class UserRow(Row):
    """A row of ``users``."""

    user: str
    source: str
    user_id: str
    first_name: str | None = None
    last_name: str | None = None
    company_id: str | None = None
    first_seen_at: str = ""
    last_seen_at: str = ""
    position: int = 0


def seen(context: Context, user: User) -> str:
    """Note who ordered a job; the user's key. Names follow the newest callback."""
    key = f"{context.source}:{user.user_id}"
    row = context.model.users.get(key)
    if row is None:
        row = UserRow(key, context.source, user.user_id, first_seen_at=context.at)
    elif context.repeat:
        return key
    overwrite = context.effect == "applied"
    for column in ("first_name", "last_name", "company_id"):
        said = getattr(user, column)
        if said is not None and (overwrite or getattr(row, column) is None):
            setattr(row, column, said)
    row.last_seen_at = context.at
    row.position = context.position
    context.model.users.put(row)
    return key
