"""Making a log in a PostgreSQL database, and telling what was made."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import psycopg
from psycopg.sql import Identifier

from schema import log_definition
from schema.errors import ConfigurationError
from schema.log import one_line
from schema.log_link import connected, conninfo

if TYPE_CHECKING:
    from schema.log_place import Server

TOLD = """\
The log is in {server}, owned by {owner}: schema simtrail, table stored_events.

The role {role} may read events and append them, by the function simtrail.append_events,
and nothing else: it owns nothing, and can't change or remove an event, nor choose
its position. {made}

  --log {application}

Keep {owner} for `simtrail log init` alone: what owns the log could remove its triggers."""

NEW_ROLE = "It was made now and has no password: ALTER ROLE {role} PASSWORD '…', or what pg_hba.conf asks of it."
OLD_ROLE = "It was there already."


def script(role: str) -> str:
    """All statements, as psql takes them."""
    parts = [*log_definition.statements(), log_definition.role(role), log_definition.granted(role)]
    return "\n".join(part.as_string(None).strip() for part in parts)


def make(server: Server, role: str) -> str:
    """Make the log and the role's rights, in one transaction; what to tell about it. Raises `ConfigurationError`."""
    try:
        with closing(connected(conninfo(server.url))) as connection, connection.transaction():
            for statement in log_definition.statements():
                connection.execute(statement)
            there = connection.execute("SELECT rolsuper FROM pg_roles WHERE rolname = %s", (role,)).fetchone()
            if there is None:
                connection.execute(log_definition.role(role))
            connection.execute(log_definition.granted(role))
            owner = connection.info.user
            _require_narrow(connection, role)
    except psycopg.Error as error:
        msg = (
            f"the log can't be made in {server}: {one_line(error)}; it needs a role that may create a schema in the database, and "
            f"roles too, unless there is one called {role}: `simtrail log init --sql` prints what someone else can run"
        )
        raise ConfigurationError(msg) from error
    name = Identifier(role).as_string(None)
    made = NEW_ROLE.format(role=name) if there is None else OLD_ROLE
    return TOLD.format(server=server, owner=owner, role=role, made=made, application=_as_role(server, role))


def _require_narrow(connection: psycopg.Connection[tuple[object, ...]], role: str) -> None:
    """Raise where the role could do more than append and read: it is the owner, or above it."""
    row = connection.execute(
        "SELECT rolsuper OR pg_has_role(rolname, relowner, 'MEMBER') FROM pg_roles, pg_class "
        "WHERE rolname = %s AND pg_class.oid = 'simtrail.stored_events'::regclass",
        (role,),
    ).fetchone()
    if row is None or row[0]:
        msg = (
            f"the role {role} is the log's owner, or a superuser, and so could change events: name another with --role"
        )
        raise ConfigurationError(msg)


def _as_role(server: Server, role: str) -> str:
    """The server's URL for the role, without the owner's password and whatever else is said in it."""
    scheme, _, rest = str(server).partition("://")
    return f"{scheme}://{role}@{rest.rpartition('@')[2]}"
