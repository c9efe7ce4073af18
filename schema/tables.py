"""The read model's tables: names, columns, keys and indexes, in one place.

These names are the auditors' interface. Every table is ``STRICT``; times are
RFC 3339 in UTC, money is integer kopecks, ``position`` is that of the event
that made the row (for rows of a current state: that last changed it).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from schema import search
from schema.views import NOT_UNDERSTOOD, VIEWS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlite_utils import Database

MODEL_VERSION = 5
"""Raised whenever a table, a view or the meaning of a column changes: a read
model of another version is rebuilt, never migrated."""

PROJECTION = "audit"
"""The name in ``tracking`` of the one projection that makes all the tables."""


@dataclass(frozen=True)
class Table:
    """One table: ``columns`` in order, each ``name: type``, ``!`` for NOT NULL."""

    name: str
    columns: dict[str, str]
    key: tuple[str, ...]
    references: dict[str, tuple[str, str]] = field(default_factory=dict)
    indexes: tuple[tuple[str, ...], ...] = ()
    """What people filter, facet and sort by, and what leads back along a reference; no more, as
    each costs a rebuild and every event. One with ``?`` leaves out the rows where its column is
    NULL: most of them, and nobody looks a row up by what isn't there. An index on one column
    lists its rows in the order of the key, so a page of rows with one value needs no sorting."""
    partial: tuple[tuple[tuple[str, ...], str], ...] = ()
    """Indexes of the rows alone that a condition names, for queries that have it word for word."""
    lookups: tuple[tuple[str, ...], ...] = ()
    """Indexes that folding itself looks rows up by: there from the start."""
    without_rowid: bool = True
    """Rows clustered by key: pages of a text-keyed table need no second look-up. A table that is searched has rowids."""
    personal: bool = False
    """Holds personal data, or may. What few may see has a table of its own, so that who sees a table sees all of it."""


_POSITION = {"position": ("deliveries", "position")}
_SOURCE = {"source": ("accounts", "source")}
_CHANGE = {
    "n": "integer!",
    "table_name": "text!",
    "kind": "text!",
    "key": "text!",
    "position": "integer!",
    "columns": "text!",
}
_CHANGE_INDEXES = (("table_name", "kind"), ("key",))

TABLES = (
    Table(
        "accounts",
        {
            "source": "text!",
            "state": "text!",
            "state_since": "text!",
            "bill": "text",
            "open_bills": "integer!",
            "open_kopecks": "integer!",
            "unpaid_bills": "integer!",
            "first_seen_at": "text!",
            "last_seen_at": "text!",
            "position": "integer!",
        },
        ("source",),
        {"bill": ("bills", "bill"), **_POSITION},
        (("state",), ("bill",), ("position",)),
    ),
    Table(
        "account_events",
        {
            "position": "integer!",
            "source": "text!",
            "at": "text!",
            "state": "text!",
            "state_before": "text",
            "reason": "text!",
            "bill": "text",
            "sim": "text",
        },
        ("position",),
        {**_SOURCE, "bill": ("bills", "bill"), "sim": ("sims", "sim"), **_POSITION},
        (("source", "at"), ("bill",), ("sim",)),
        without_rowid=False,
    ),
    Table(
        "users",
        {
            "user": "text!",
            "source": "text!",
            "user_id": "text!",
            "first_name": "text",
            "last_name": "text",
            "company_id": "text",
            "first_seen_at": "text!",
            "last_seen_at": "text!",
            "position": "integer!",
        },
        ("user",),
        {**_SOURCE, **_POSITION},
        (("source",), ("last_name",), ("company_id",), ("position",)),
        without_rowid=False,
        personal=True,
    ),
    Table(
        "jobs",
        {
            "job": "text!",
            "source": "text!",
            "qid": "text!",
            "queue": "text",
            "operation": "text",
            "handler": "text",
            "added_at": "text",
            "user": "text",
            "company_id": "text",
            "count": "integer",
            "processed": "integer",
            "percentage": "integer",
            "state": "text!",
            "first_callback_at": "text!",
            "last_callback_at": "text!",
            "completed_at": "text",
            "callbacks": "integer!",
            "late_callbacks": "integer!",
            "awaiting": "text",
            "position": "integer!",
        },
        ("job",),
        {**_SOURCE, "user": ("users", "user"), **_POSITION},
        (
            ("source",),
            ("qid",),
            ("queue",),
            ("operation",),
            ("user",),
            ("company_id",),
            ("state", "last_callback_at"),
            ("added_at",),
            ("position",),
        ),
    ),
    Table(
        "deliveries",
        {
            "position": "integer!",
            "received_at": "text!",
            "source": "text!",
            "kind": "text!",
            "type": "text",
            "queue": "text",
            "summary": "text!",
            "outcome": "text!",
            "anomalies": "text!",
            "repeat_of": "integer",
            "voided_by": "integer",
            "job": "text",
            "item_count": "integer!",
            "file_count": "integer!",
            "body_bytes": "integer!",
            "sha256": "text!",
        },
        ("position",),
        {
            **_SOURCE,
            "repeat_of": ("deliveries", "position"),
            "voided_by": ("deliveries", "position"),
            "job": ("jobs", "job"),
        },
        (
            ("received_at",),
            ("source",),
            ("kind",),
            ("type",),
            ("queue",),
            ("outcome",),
            ("repeat_of?",),
            ("voided_by?",),
            ("job?",),
        ),
        # The quarantine in its order, and what it is sifted by: few rows, whose page, count and facets need no others.
        partial=((("position", "outcome", "type"), NOT_UNDERSTOOD),),
        lookups=(("sha256",),),
        without_rowid=False,
    ),
    # What came, as it came: a job callback names the person who ordered the job.
    Table(
        "delivery_contents",
        {"position": "integer!", "remote": "text!", "headers": "text!", "body": "text!"},
        ("position",),
        _POSITION,
        # Who asks which address sent; and without any index Datasette counts rows by reading all bodies: 0.07 s a million.
        (("remote",),),
        without_rowid=False,
        personal=True,
    ),
    Table(
        "job_progress",
        {
            "position": "integer!",
            "job": "text!",
            "source": "text!",
            "at": "text!",
            "count": "integer",
            "processed": "integer",
            "percentage": "integer",
            "complete": "integer!",
            "effect": "text!",
            "item_count": "integer!",
        },
        ("position",),
        {"job": ("jobs", "job"), **_SOURCE, **_POSITION},
        (("job", "position"), ("source",), ("effect",)),
        without_rowid=False,
    ),
    Table(
        "sims",
        {
            "sim": "text!",
            "source": "text!",
            "iccid": "text",
            "msisdn": "text",
            "imsi": "text",
            "imei": "text",
            "platform_id": "text",
            "status": "text!",
            "status_raw": "text",
            "status_basis": "text",
            "status_since": "text",
            "balance_kopecks": "integer",
            "balance_at": "text",
            "groups": "text",
            "tariff": "text",
            "operator": "text",
            "package_exhausted_at": "text",
            "msu_locked_at": "text",
            "last_job": "text",
            "first_seen_at": "text!",
            "last_seen_at": "text!",
            "position": "integer!",
        },
        ("sim",),
        {**_SOURCE, "last_job": ("jobs", "job"), **_POSITION},
        (
            ("source", "status"),  # The front page counts cards by it.
            ("imei?",),
            ("status",),
            ("status_since",),
            ("tariff?",),
            ("operator?",),
            ("package_exhausted_at?",),
            ("msu_locked_at?",),
            ("last_job",),
            ("last_seen_at",),
            ("position",),
        ),
        lookups=(("iccid",), ("imsi",), ("msisdn",), ("platform_id",)),
        without_rowid=False,
    ),
    # Fields of the platform's that nobody has looked at.
    Table(
        "sim_attributes",
        {"sim": "text!", "attributes": "text!", "position": "integer!"},
        ("sim",),
        {"sim": ("sims", "sim"), **_POSITION},
        (("position",),),
        personal=True,
    ),
    Table(
        "sim_events",
        {
            "position": "integer!",
            "item": "integer!",
            "sim": "text",
            "source": "text!",
            "at": "text!",
            "what": "text!",
            "operation": "text",
            "job": "text",
            "effect": "text!",
            "status_said": "text",
            "status_after": "text",
            "status_basis": "text",
            "balance_kopecks": "integer",
            "changes": "text!",
            "anomalies": "text!",
        },
        ("position", "item"),
        {"sim": ("sims", "sim"), **_SOURCE, "job": ("jobs", "job"), **_POSITION},
        (
            ("sim", "position", "item"),  # timeline_of_sim and sims_as_of read it alone.
            ("job?",),
            ("at",),
            ("what",),
        ),
    ),
    Table(
        "bills",
        {
            "bill": "text!",
            "source": "text!",
            "bill_id": "text",
            "number": "text",
            "issued_on": "text",
            "amount_kopecks": "integer",
            "amount_raw": "text",
            "currency": "text",
            "vat_kopecks": "integer",
            "due_on": "text",
            "period": "text",
            "stage": "text!",
            "stage_at": "text!",
            "next_notice": "text",
            "next_notice_expected_on": "text",
            "presumed_settled_on": "text",
            "paid_at": "text",
            "first_seen_at": "text!",
            "position": "integer!",
        },
        ("bill",),
        {**_SOURCE, **_POSITION},
        (
            ("source",),
            ("stage", "stage_at"),
            ("issued_on",),
            ("paid_at",),
            ("next_notice_expected_on",),
            ("presumed_settled_on",),
            ("position",),
        ),
        lookups=(("bill_id",), ("number",)),
        without_rowid=False,
    ),
    Table(
        "bill_attributes",
        {"bill": "text!", "attributes": "text!", "position": "integer!"},
        ("bill",),
        {"bill": ("bills", "bill"), **_POSITION},
        (("position",),),
        personal=True,
    ),
    Table(
        "bill_notices",
        {
            "position": "integer!",
            "item": "integer!",
            "bill": "text",
            "source": "text!",
            "at": "text!",
            "type": "text!",
            "stage_after": "text",
            "effect": "text!",
            "amount_kopecks": "integer",
            "expected_on": "text",
            "delay_workdays": "integer",
            "paid_at_after": "text",
            "next_expected_on_after": "text",
            "presumed_settled_on_after": "text",
            "changes": "text!",
            "anomalies": "text!",
        },
        ("position", "item"),
        {"bill": ("bills", "bill"), **_SOURCE, **_POSITION},
        (("bill", "position", "item"), ("source",), ("type",)),
    ),
    Table(
        "files",
        {
            "sha256": "text!",
            "name": "text",
            "media_type": "text",
            "content_bytes": "integer!",
            "content": "blob!",
            "position": "integer!",
        },
        ("sha256",),
        _POSITION,
        (("name",), ("media_type",), ("position",)),
        without_rowid=False,
    ),
    Table(
        "delivery_files",
        {
            "position": "integer!",
            "n": "integer!",
            "sha256": "text",
            "name": "text",
            "media_type": "text",
        },
        ("position", "n"),
        {"sha256": ("files", "sha256"), **_POSITION},
        (("sha256",),),
    ),
    Table(
        "corrections",
        {
            "position": "integer!",
            "at": "text!",
            "subject": "text!",
            "key": "text!",
            "value": "text",
            "author": "text!",
            "reason": "text!",
            "evidence": "text",
            "effect": "text!",
        },
        ("position",),
        {"evidence": ("files", "sha256"), **_POSITION},
        (("subject", "key"), ("author",), ("evidence",)),
        without_rowid=False,
    ),
    Table(
        "rebuilds",
        {
            "rebuild": "integer!",
            "started_at": "text!",
            "finished_at": "text!",
            "reason": "text!",
            "code_version": "text!",
            "model_version": "integer!",
            "configuration_before": "text",
            "configuration": "text!",
            "position_before": "integer",
            "position": "integer!",
            "rows_added": "integer!",
            "rows_removed": "integer!",
            "rows_changed": "integer!",
            "digests_before": "text!",
            "digests": "text!",
        },
        ("rebuild",),
        without_rowid=False,
    ),
    Table("rebuild_changes", _CHANGE, ("n",), indexes=_CHANGE_INDEXES, without_rowid=False),
    Table("rebuild_personal_changes", _CHANGE, ("n",), indexes=_CHANGE_INDEXES, without_rowid=False, personal=True),
    Table(
        "tracking",
        {
            "projection": "text!",
            "position": "integer!",
            "received_at": "text",
            "model_version": "integer!",
            "configuration": "text!",
        },
        ("projection",),
    ),
)

BY_NAME = {table.name: table for table in TABLES}

PERSONAL = frozenset(table.name for table in TABLES if table.personal)
"""The tables of personal data, by name."""

_OF_REBUILDS = {"rebuilds", "rebuild_changes", "rebuild_personal_changes"}

FOLDED = tuple(table for table in TABLES if table.name not in {"tracking", *_OF_REBUILDS})
"""The tables that are a function of the log and the configuration alone."""


def create(database: Database, *, lookups: bool = True) -> None:
    """Make every table, the look-up indexes (unless told otherwise) and the views in an empty database.

    Run inside the caller's transaction, so that a read model is there whole or not at all.
    """
    for table in TABLES:
        database.execute(_statement(table))
        _index(database, table, table.lookups if lookups else ())
    for name, sql in VIEWS.items():
        database.create_view(name, sql)


def create_indexes(database: Database) -> None:
    """Make the indexes, of look-ups and for search too, that are not there yet; a rebuild makes all of them last."""
    for table in TABLES:
        _index(database, table, (*table.lookups, *table.indexes))
        for columns, condition in table.partial:
            _create_index(database, table, columns, f" WHERE {condition}")
    search.create(database)


def _statement(table: Table) -> str:
    # Not by sqlite-utils: it knows no WITHOUT ROWID, and no table that refers to
    # one made later, as accounts and bills do to each other.
    lines = []
    for name, kind in table.columns.items():
        line = f'"{name}" {kind.rstrip("!").upper()}'
        if kind.endswith("!"):
            line += " NOT NULL"
        if name in table.references:
            other, other_column = table.references[name]
            line += f' REFERENCES "{other}"("{other_column}")'
        lines.append(line)
    lines.append(f"PRIMARY KEY ({', '.join(table.key)})")
    options = "STRICT, WITHOUT ROWID" if table.without_rowid else "STRICT"
    return f'CREATE TABLE "{table.name}" (\n    ' + ",\n    ".join(lines) + f"\n) {options}"


def _index(database: Database, table: Table, indexes: Iterable[tuple[str, ...]]) -> None:
    # Not by sqlite-utils either: it knows no index of some rows only.
    for columns in indexes:
        names = [column.rstrip("?") for column in columns]
        known = f' WHERE "{names[0]}" IS NOT NULL' if columns[0].endswith("?") else ""
        _create_index(database, table, names, known)


def _create_index(database: Database, table: Table, names: Iterable[str], condition: str) -> None:
    listed = ", ".join(f'"{name}"' for name in names)
    database.execute(
        f'CREATE INDEX IF NOT EXISTS "idx_{table.name}_{"_".join(names)}" ON "{table.name}" ({listed}){condition}',
    )
