"""The reader of job callbacks (section 1 of the platform's page)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from schema.counts import count, percentage
from schema.files import take_files
from schema.items import items, union
from schema.memo import Memo, scalar_fits
from schema.readings import BILL_TYPES, SIM_TYPES, JobCallback, User
from schema.redaction import cut, withhold
from schema.texts import identity, plain, rendered

if TYPE_CHECKING:
    from schema.instants import Calendar
    from schema.readings import Json
    from schema.simcard import SimCardReader
    from schema.texts import Text

_SIGNS: Final = frozenset({"queue", "items", "handler"})
"""Fields of which a job callback has at least one, unless its ``status`` is an object."""

_NOTIFICATIONS: Final = (*SIM_TYPES, *BILL_TYPES)


def is_job(body: dict[str, Json]) -> bool:
    """An object means to be a job callback, whatever its ``qid`` is worth."""
    return "qid" in body and (not _SIGNS.isdisjoint(body) or isinstance(body.get("status"), dict))


class JobReader:
    """Reads job callbacks. Owns its memos: one thread."""

    def __init__(self, calendar: Calendar, sims: SimCardReader) -> None:
        self._instants: Memo[Json, Text] = Memo(calendar.instant, scalar_fits)
        self._ids: Memo[Json, Text] = Memo(identity, scalar_fits)
        self._texts: Memo[Json, Text] = Memo(plain, scalar_fits)
        self._read_sim = sims.read

    def read(self, body: dict[str, Json], anomalies: list[str]) -> JobCallback | None:
        """The callback in a body, which loses its secrets and files' contents; None, and untouched, without a ``qid``."""
        qid = _read(self._ids, body["qid"], anomalies)
        if qid is None:
            anomalies.append("qid_invalid")
            return None
        if type(body["qid"]) is not str:
            anomalies.append("number_for_text")
        if "files" in body:
            take_files(body, [])
            anomalies.append("files_not_read")
        if body.get("type") in _NOTIFICATIONS:
            anomalies.append("job_and_notification")
        withhold(body, apart=body.get("items"))
        done = body.get("status")
        if type(done) is not dict:
            done = None
            anomalies.append("progress_not_understood")
        read_sim = self._read_sim
        sims = tuple([read_sim(item) for item in items(body, anomalies)])
        return JobCallback(
            qid,
            _read(self._instants, body.get("added"), anomalies),
            _read(self._texts, body.get("queue"), anomalies),
            _read(self._texts, body.get("handler"), anomalies),
            self._user(body.get("user"), anomalies),
            count(done.get("count"), anomalies) if done is not None else None,
            count(done.get("process"), anomalies) if done is not None else None,
            percentage(done.get("percentage"), anomalies) if done is not None else None,
            sims,
            union(anomalies, sims),
            cut(rendered(body)),
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
