"""The tables of seals.db, and the triggers by which they only grow.

Triggers stop accidents. What holds against intent are the signatures.
"""

from __future__ import annotations

from audit.tiles import BYTES

FORMAT = 1

_TABLES = {
    "seals": """(
        one INTEGER PRIMARY KEY CHECK (one = 1),
        format INTEGER NOT NULL,
        origin TEXT NOT NULL,
        made_at TEXT NOT NULL
    ) STRICT""",
    "keys": """(
        key INTEGER PRIMARY KEY,
        vkey TEXT NOT NULL UNIQUE,
        role TEXT NOT NULL CHECK (role IN ('log', 'also', 'witness')),
        since_size INTEGER NOT NULL,
        introduced TEXT,
        added_at TEXT NOT NULL
    ) STRICT""",
    "tiles": f"""(
        level INTEGER NOT NULL,
        tile INTEGER NOT NULL,
        hashes BLOB NOT NULL CHECK (length(hashes) BETWEEN 1 AND {BYTES}),
        PRIMARY KEY (level, tile)
    ) STRICT""",
    "runs": """(
        leaf INTEGER PRIMARY KEY,
        position INTEGER NOT NULL UNIQUE
    ) STRICT""",
    "anchors": """(
        size INTEGER PRIMARY KEY,
        root BLOB NOT NULL CHECK (length(root) = 32),
        position INTEGER NOT NULL,
        stored_at TEXT NOT NULL
    ) STRICT""",
    "signatures": """(
        size INTEGER NOT NULL REFERENCES anchors,
        key INTEGER NOT NULL REFERENCES keys,
        signature BLOB NOT NULL,
        stored_at TEXT NOT NULL,
        PRIMARY KEY (size, key)
    ) STRICT, WITHOUT ROWID""",
    "timestamps": """(
        size INTEGER PRIMARY KEY REFERENCES anchors,
        token BLOB NOT NULL,
        stamped_at TEXT NOT NULL
    ) STRICT""",
    "refusals": """(
        refusal INTEGER PRIMARY KEY,
        finder TEXT NOT NULL,
        size INTEGER NOT NULL,
        reason TEXT,
        found_at TEXT NOT NULL
    ) STRICT""",
}

_INDEXES = (
    # The largest size that a witness has cosigned is asked for with each receipt.
    "CREATE INDEX signatures_of_key ON signatures (key, size)",
)

_REPLACED = {
    "keys": "key = NEW.key OR vkey = NEW.vkey",
    "tiles": "level = NEW.level AND tile = NEW.tile",
    "runs": "leaf >= NEW.leaf OR position >= NEW.position",
    "anchors": "size >= NEW.size OR position >= NEW.position",
    "signatures": "size = NEW.size AND key = NEW.key",
    "timestamps": "size = NEW.size",
    "refusals": "refusal = NEW.refusal",
}
"""Rows that an insert would replace, or come before: INSERT OR REPLACE removes rows without a DELETE."""

_TRIGGERS = (
    *(
        f"""
        CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table}
        BEGIN SELECT RAISE(ABORT, 'the seals only grow: nothing in {table} is ever {past}'); END
        """
        for table in _TABLES
        for verb, past in (("UPDATE", "changed"), ("DELETE", "removed"))
        if (table, verb) != ("tiles", "UPDATE")
    ),
    """
    CREATE TRIGGER tiles_grow BEFORE UPDATE ON tiles
    WHEN NEW.level <> OLD.level OR NEW.tile <> OLD.tile
        OR substr(NEW.hashes, 1, length(OLD.hashes)) <> OLD.hashes
    BEGIN SELECT RAISE(ABORT, 'the seals only grow: the hashes of a tile are never changed'); END
    """,
    *(
        f"""
        CREATE TRIGGER {table}_no_replace BEFORE INSERT ON {table}
        WHEN EXISTS (SELECT 1 FROM {table} WHERE {condition})
        BEGIN SELECT RAISE(ABORT, 'the seals only grow: nothing in {table} is ever replaced'); END
        """
        for table, condition in _REPLACED.items()
    ),
)

STATEMENTS = (*(f"CREATE TABLE {name} {columns}" for name, columns in _TABLES.items()), *_INDEXES, *_TRIGGERS)
