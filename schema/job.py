"""The reader of job callbacks (section 1 of the platform's page)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from schema.counts import count, percentage
from schema.files import take_files
from schema.items import union
from schema.memo import Memo, scalar_fits
from schema.readings import BILL_TYPES, SIM_TYPES, JobCallback, User
from schema.redaction import cut, withhold
from schema.texts import identity, plain, rendered

if TYPE_CHECKING:
    from schema.instants import Calendar
    from schema.readings import Json
    from schema.seen import SeenItems
    from schema.texts import Text

_SIGNS: Final = frozenset({"queue", "items", "handler"})
"""Fields of which a job callback has at least one, unless its ``status`` is an object."""

_NOTIFICATIONS: Final = (*SIM_TYPES, *BILL_TYPES)


def is_job(body: dict[str, Json]) -> bool:
    """An object means to be a job callback, whatever its ``qid`` is worth."""
    return "qid" in body and (not _SIGNS.isdisjoint(body) or isinstance(body.get("status"), dict))


class JobReader:
    """Reads job callbacks. Owns its memos: one thread."""

    def __init__(self, calendar: Calendar, seen: SeenItems) -> None:
        self._instants: Memo[Json, Text] = Memo(calendar.instant, scalar_fits)
        self._ids: Memo[Json, Text] = Memo(identity, scalar_fits)
        self._texts: Memo[Json, Text] = Memo(plain, scalar_fits)
        self._seen = seen

    def read(self, value: dict[str, Json], body: bytes, anomalies: list[str]) -> JobCallback | None:
        """The callback in a body, given as value and bytes; None without a usable ``qid``.

        The value, unless it is None, loses its secrets and its files' contents.
        """
        qid = _read(self._ids, value["qid"], anomalies)
        if qid is None:
            anomalies.append("qid_invalid")
            return None
        if type(value["qid"]) is not str:
            anomalies.append("number_for_text")
        if "files" in value:
            take_files(value, [])
            anomalies.append("files_not_read")
        if value.get("type") in _NOTIFICATIONS:
            anomalies.append("job_and_notification")
        withhold(value, apart=value.get("items"))
        done = value.get("status")
        if type(done) is not dict:
            done = None
            anomalies.append("progress_not_understood")
        sims = self._seen.cards(value, body, anomalies)
        return JobCallback(
            qid,
            _read(self._instants, value.get("added"), anomalies),
            _read(self._texts, value.get("queue"), anomalies),
            _read(self._texts, value.get("handler"), anomalies),
            self._user(value.get("user"), anomalies),
            count(done.get("count"), anomalies) if done is not None else None,
            count(done.get("process"), anomalies) if done is not None else None,
            percentage(done.get("percentage"), anomalies) if done is not None else None,
            sims,
            union(anomalies, sims),
            cut(rendered(value)),
        )

    def _user(self, value: Json, anomalies: list[str]) -> User | None:
        if value is None:
            return None
        if type(value) is not dict:
            anomalies.append("user_unidentified")
            return None
        user_id = _read(self._ids, value.get("id"), anomalies)
        if user_id is None:
            anomalies.append("user_unidentified")
            return None
        return User(
            user_id,
            _read(self._texts, value.get("first_name"), anomalies),
            _read(self._texts, value.get("last_name"), anomalies),
            _read(self._ids, value.get("company_id"), anomalies),
        )


def _read(memo: Memo[Json, Text], value: Json, anomalies: list[str]) -> str | None:
    found, flaws = memo[value] if type(value) is str or type(value) is int else memo.read(value)
    if flaws:
        anomalies += flaws
    return found
