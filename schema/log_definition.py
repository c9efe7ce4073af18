"""What a log on PostgreSQL is made of: the statements that `simtrail log init` runs, in order, and may run again.

Two roles: the *owner*, who runs them, and the *application's* role, which receives and projects. The latter owns
nothing: it may read events, and append them by the one function. It can't change or
remove an event, drop a trigger that would object, or choose a position. The owner can, as whoever
has the machine can: against those stands the tree of `audit`, not a trigger.
"""

from __future__ import annotations

from psycopg.sql import SQL, Composed, Identifier

from schema.event import CORRECTION

VERSION = 1
"""Of what is made here; in the table's comment."""

TRIGGERS = {"update": "changed", "delete": "removed", "truncate": "removed"}
"""What the table refuses, each by the trigger ``stored_events_no_…``, and what would become of an event."""

_MAKE = f"""
CREATE SCHEMA IF NOT EXISTS simtrail;
REVOKE ALL ON SCHEMA simtrail FROM PUBLIC;

-- As the eventsourcing library makes it, but a position is given by append_events alone.
CREATE TABLE IF NOT EXISTS simtrail.stored_events (
    originator_id uuid NOT NULL,
    originator_version bigint NOT NULL,
    topic text NOT NULL,
    state bytea NOT NULL,
    notification_id bigint NOT NULL CHECK (notification_id > 0),
    PRIMARY KEY (originator_id, originator_version)
);
CREATE UNIQUE INDEX IF NOT EXISTS stored_events_notification_id_idx ON simtrail.stored_events (notification_id);
CREATE INDEX IF NOT EXISTS stored_events_corrections_idx ON simtrail.stored_events (notification_id)
    WHERE topic = '{CORRECTION}';
-- A third of pglz's cost for a large body, where the server was built with it.
DO $body$
BEGIN
    ALTER TABLE simtrail.stored_events ALTER COLUMN state SET COMPRESSION lz4;
EXCEPTION WHEN feature_not_supported THEN NULL;
END
$body$;
COMMENT ON TABLE simtrail.stored_events IS 'simtrail log, version {VERSION}: append-only';

CREATE OR REPLACE FUNCTION simtrail.refuse() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp AS $body$
BEGIN
    RAISE EXCEPTION 'the log is append-only: an event is never %', TG_ARGV[0] USING ERRCODE = 'insufficient_privilege';
END
$body$;
"""

_TRIGGER = """
CREATE OR REPLACE TRIGGER {name} BEFORE {verb} ON simtrail.stored_events
    FOR EACH STATEMENT EXECUTE FUNCTION simtrail.refuse({past});
-- ALWAYS: also in a session that plays a replica's part.
ALTER TABLE simtrail.stored_events ENABLE ALWAYS TRIGGER {name};
"""

_FUNCTION = """
CREATE OR REPLACE FUNCTION simtrail.append_events(
    ids uuid[], versions bigint[], topics text[], states bytea[], since bigint DEFAULT NULL
) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
-- Appends events in the order of the arrays; the position before the first of them.
DECLARE
    head bigint;
BEGIN
    -- What is acknowledged is on disk, and on the synchronous standby's, whatever the session says.
    IF current_setting('synchronous_commit') IN ('off', 'local') THEN
        PERFORM set_config('synchronous_commit', 'on', true);
    END IF;
    -- Held until the commit is visible: no position is seen after a higher one. Not LOCK TABLE, which waits for vacuum.
    PERFORM pg_advisory_xact_lock('simtrail.stored_events'::regclass::oid::integer, 0);
    -- A statement of its own, so that it sees what the one before committed.
    SELECT coalesce(max(notification_id), 0) INTO head FROM simtrail.stored_events;
    IF since <> head THEN
        RAISE EXCEPTION 'the log ends at position %, not at %', head, since USING ERRCODE = 'serialization_failure';
    END IF;
    -- Also of nothing: where no event can be stored, that fails as well.
    INSERT INTO simtrail.stored_events (originator_id, originator_version, topic, state, notification_id)
        SELECT e.id, e.version, e.topic, e.state, head + e.n
        FROM unnest(ids, versions, topics, states) WITH ORDINALITY AS e (id, version, topic, state, n);
    IF cardinality(ids) = 0 THEN
        -- A commit that must reach the disk, and leaves no trace among the events.
        PERFORM pg_logical_emit_message(true, 'simtrail', '');
    ELSE
        PERFORM pg_notify('simtrail_log', '');
    END IF;
    RETURN head;
END
$body$;
REVOKE ALL ON FUNCTION simtrail.append_events FROM PUBLIC;
"""

_ROLE = """
GRANT USAGE ON SCHEMA simtrail TO {role};
GRANT SELECT ON simtrail.stored_events TO {role};
GRANT EXECUTE ON FUNCTION simtrail.append_events TO {role};
"""


def statements() -> list[Composed]:
    """What makes the log, for its owner; each may be run again."""
    return [
        Composed([SQL(_MAKE)]),
        *(
            SQL(_TRIGGER).format(name=Identifier(f"stored_events_no_{verb}"), verb=SQL(verb), past=past)
            for verb, past in TRIGGERS.items()
        ),
        Composed([SQL(_FUNCTION)]),
    ]


def granted(role: str) -> Composed:
    """What lets a role receive and project."""
    return SQL(_ROLE).format(role=Identifier(role))


def role(name: str) -> Composed:
    """What makes the application's role: it may log in, and nothing else."""
    return SQL("CREATE ROLE {} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS;").format(
        Identifier(name),
    )
