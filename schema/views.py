"""The read model's views: questions that need more than one table, or today's date."""

from __future__ import annotations

STALLED_AFTER_HOURS = 24
"""A running job silent for longer is shown as stalled: the platform's queue works
in minutes to hours, and its own retries are over by then."""


NOT_UNDERSTOOD = "outcome <> 'read'"
"""Of deliveries. Word for word the condition of the index that the views of the quarantine are answered by."""

# SQLite would take an index of all deliveries, which promises it few rows, for what filters and facets ask of these: by a plus
# it can't, and the index of those that were not understood is what is left.
_SIFTED = "+source AS source, +outcome AS outcome, kind, +type AS type"


def _rubles(kopecks: str) -> str:
    # By integers: a binary float would show some sums a kopeck off. NULL stays NULL.
    return f"CASE WHEN {kopecks} IS NOT NULL THEN printf('%s%d.%02d', CASE WHEN {kopecks} < 0 THEN '-' ELSE '' END, abs({kopecks}) / 100, abs({kopecks}) % 100) END"


def _came(column: str) -> str:
    return f"(SELECT {column} FROM delivery_contents AS came WHERE came.position = deliveries.position) AS {column}"


VIEWS = {
    # A restricted account blocks its cards whatever they say of themselves (section 2,
    # unpaid_bill_6); a terminated card stays what it is.
    "sim_status": f"""
        SELECT sims.sim, sims.source, sims.iccid, sims.msisdn, sims.imsi,
               CASE WHEN accounts.state = 'restricted' AND sims.status <> 'terminated'
                    THEN 'blocked' ELSE sims.status END AS effective_status,
               CASE WHEN accounts.state = 'restricted' AND sims.status <> 'terminated'
                    THEN 'account restricted' ELSE sims.status_basis END AS effective_basis,
               sims.status, sims.status_raw, sims.status_basis, sims.status_since,
               accounts.state AS account_state, accounts.state_since AS account_state_since,
               accounts.bill AS account_bill,
               sims.package_exhausted_at, sims.msu_locked_at, sims.balance_kopecks,
               {_rubles("sims.balance_kopecks")} AS balance_rubles,
               sims.tariff, sims.operator, sims.last_job, sims.last_seen_at, sims.position
        FROM sims JOIN accounts ON accounts.source = sims.source
    """,
    "jobs_stalled": f"""
        SELECT job, source, qid, queue, operation, user, count, processed, percentage,
               added_at, first_callback_at, last_callback_at,
               CAST((julianday('now') - julianday(last_callback_at)) * 24 AS INTEGER) AS silent_hours,
               position
        FROM jobs
        WHERE state = 'running'
          AND last_callback_at < strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '-{STALLED_AFTER_HOURS} hours')
    """,
    # Silence past the next expected notice is shown with its date, never as paid.
    "bills_open": f"""
        SELECT bill, source, number, issued_on, amount_kopecks,
               {_rubles("amount_kopecks")} AS amount_rubles,
               stage, stage_at, next_notice, next_notice_expected_on, presumed_settled_on,
               presumed_settled_on IS NOT NULL AND presumed_settled_on <= date('now') AS presumed_settled,
               due_on, period, position
        FROM bills
        WHERE paid_at IS NULL
    """,
    "quarantine": f"""
        SELECT position, received_at, {_SIFTED}, summary, anomalies, repeat_of, body_bytes, sha256
        FROM deliveries
        WHERE {NOT_UNDERSTOOD}
    """,
    # No join: what came would be looked up to count rows, and for each facet.
    "quarantine_contents": f"""
        SELECT position, received_at, {_SIFTED}, body_bytes, {_came("remote")}, {_came("headers")}, {_came("body")}
        FROM deliveries
        WHERE {NOT_UNDERSTOOD}
    """,
}

PERSONAL = frozenset({"quarantine_contents"})
"""Those that show what a table of personal data holds."""
