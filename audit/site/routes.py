"""The paths of our pages. Keys in them are tilde-encoded, as Datasette has them in its own."""

from __future__ import annotations

from audit.site.bill import bill
from audit.site.delivery import body, delivery
from audit.site.file import file
from audit.site.front import front
from audit.site.job import job
from audit.site.proof import receipt, verifier
from audit.site.sim import sim

_KEY = r"(?P<key>[^/]+)"
_POSITION = r"(?P<key>[0-9]{1,18})"

ROUTES = (
    (r"^/$", front),
    (rf"^/sim/{_KEY}$", sim),
    (rf"^/job/{_KEY}$", job),
    (rf"^/bill/{_KEY}$", bill),
    (rf"^/delivery/{_KEY}$", delivery),
    (rf"^/delivery/{_POSITION}/body$", body),
    (rf"^/delivery/{_POSITION}/receipt$", receipt),
    (r"^/verify\.py$", verifier),
    (rf"^/file/{_KEY}$", file),
)
