"""The descriptor of an export: ``datapackage.json``, by Data Package v2, with a Table Schema for each table.

What tables and columns mean is said once, in ``metadata.yml``, and is taken from there.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Final

import msgspec

from audit import events
from audit.publish import metadata_path
from audit.selection import EVENTS, PARTS, is_ranged
from audit.snapshot import CONTENTS, PATH
from schema.tables import BY_NAME, MODEL_VERSION

if TYPE_CHECKING:
    from audit.export import Export
    from audit.extract import Extract, Field
    from audit.formats import Format
    from audit.selection import Selection

PROFILE: Final = "https://datapackage.org/profiles/2.0/datapackage.json"

RANGE: Final = (
    "from (inclusive) and to (exclusive) bound the histories, by time of receipt: a resource that holds the range has the rows "
    "of that time. One that holds the state has all rows as they are at the snapshot, whenever they last changed. A source "
    "bounds both. Nothing after the snapshot's position is in the export."
)

SHA256: Final = "^[0-9a-f]{64}$"

SMALLEST_POSITION: Final = {"tracking": 0}
"""Of tables that may have no event yet."""


PATH_DESCRIPTION: Final = "Where in this export the file itself lies."


class _Described(msgspec.Struct):
    title: str = ""
    description: str = ""
    columns: dict[str, str] = {}


class _Database(msgspec.Struct):
    tables: dict[str, _Described]


class _Metadata(msgspec.Struct):
    databases: dict[str, _Database]


@dataclass(frozen=True)
class Digest:
    """What was written: files, their bytes and rows, and the SHA-256 of the bytes in hexadecimal."""

    files: int
    size: int
    rows: int
    sha256: str


@dataclass(frozen=True)
class Resource:
    """A table of an export, before it is written.

    ``path`` is the file's in the export; the rest is as for an extract.
    """

    name: str
    path: str
    form: Format
    fields: tuple[Field, ...]
    key: tuple[str, ...]
    rows: int
    first: int | None
    last: int | None


def resource_of(extract: Extract, form: Format) -> Resource:
    """A table, as it will be written in a format."""
    path = f"{extract.name}.{form.name}"
    fields = tuple(sorted(extract.fields)) if form.sorted_fields else extract.fields
    return Resource(extract.name, path, form, fields, extract.key, extract.rows, extract.first, extract.last)


def descriptor(export: Export, written: list[tuple[Resource, Digest]], contents: Digest) -> bytes:
    """The descriptor of an export, as a file's bytes.

    Beyond the standard's properties, each resource says its ``rows``, its
    ``positions`` (the first and last in the log that its rows name) and what it
    ``holds`` (``range`` or ``state``); ``simtrail`` says what the whole stands for.
    """
    snapshot, selection = export.snapshot, export.selection
    package: dict[str, object] = {
        "$schema": PROFILE,
        "name": "simtrail-export",
        "title": "SIM-card audit trail",
        "description": f"What the SIM-card platform told, up to position {snapshot.position} of the log. {RANGE}",
        "created": export.created,
        "simtrail": {
            "snapshot": {
                "position": snapshot.position,
                "received_at": snapshot.received_at,
                "model_version": MODEL_VERSION,
                "configuration": snapshot.configuration,
            },
            "log_head": export.head,
            "range": {"from": selection.since, "to": selection.until, "source": selection.source},
            "left_out": [part for part in PARTS if part not in selection.parts],
            "contents": {"folder": CONTENTS, "files": contents.files, "bytes": contents.size},
        },
        "resources": [_resource(resource, digest, selection) for resource, digest in written],
    }
    return msgspec.json.format(msgspec.json.encode(package), indent=2) + b"\n"


def _resource(resource: Resource, digest: Digest, selection: Selection) -> dict[str, object]:
    described = _described(resource.name)
    form = resource.form
    optional = {"dialect": form.dialect, "encoding": form.encoding}
    return {
        "name": resource.name,
        "type": "table",
        "title": described.title,
        "description": f"{described.description} {form.note}".strip(),
        "path": resource.path,
        "format": form.name,
        "mediatype": form.media_type,
        **{name: value for name, value in optional.items() if value is not None},
        "bytes": digest.size,
        "hash": f"sha256:{digest.sha256}",
        "rows": digest.rows,
        "positions": None if resource.first is None else {"first": resource.first, "last": resource.last},
        "holds": "range" if is_ranged(resource.name) else "state",
        "schema": _schema(resource, described, selection),
    }


def _schema(resource: Resource, described: _Described, selection: Selection) -> dict[str, object]:
    schema: dict[str, object] = {
        "fields": [_field(resource, field, described) for field in resource.fields],
        "missingValues": list(resource.form.missing_values),
        "primaryKey": list(resource.key),
    }
    keys = _foreign_keys(resource.name, selection)
    return schema | {"foreignKeys": keys} if keys else schema


def _field(resource: Resource, field: Field, described: _Described) -> dict[str, object]:
    constraints: dict[str, object] = {}
    # Where empty text can't be told from no value, a text is not said to be always there.
    if field.required and (resource.form.tells_empty_text or field.type != "string"):
        constraints["required"] = True
    if field.name == "sha256":
        constraints["pattern"] = SHA256
    if field.name == "position":
        constraints["minimum"] = SMALLEST_POSITION.get(resource.name, 1)
    shown: dict[str, object] = {
        "name": field.name,
        "type": field.type,
        "description": described.columns.get(field.name, ""),
    }
    return shown | {"constraints": constraints} if constraints else shown


def _foreign_keys(name: str, selection: Selection) -> list[dict[str, object]]:
    """The references that hold within the export: what a row refers to may have come before the range."""
    keys: list[dict[str, object]] = []
    references = BY_NAME[name].references if name in BY_NAME else {"position": ("deliveries", "position")}
    for column, (other, other_column) in references.items():
        if other not in selection.parts or not _holds(name, column, other, selection):
            continue
        reference: dict[str, object] = {"fields": [other_column]}
        if other != name:
            reference["resource"] = other
        keys.append({"fields": [column], "reference": reference})
    return keys


def _holds(name: str, column: str, other: str, selection: Selection) -> bool:
    if not selection.bounded or not is_ranged(other):
        return True
    # A history's row, its delivery and the files that came with it are of one moment and one source.
    return name != "files" and is_ranged(name) and (column == "position" or other == "files")


def _described(name: str) -> _Described:
    """What a resource and its fields mean."""
    if name == EVENTS:
        return _Described(events.TITLE, events.DESCRIPTION, events.DESCRIPTIONS)
    described = _metadata().databases["audit"].tables.get(name) or _Described(name, "", {})
    return msgspec.structs.replace(described, columns=described.columns | {PATH.name: PATH_DESCRIPTION})


@cache
def _metadata() -> _Metadata:
    return msgspec.yaml.decode(metadata_path().read_bytes(), type=_Metadata)
