"""The paths of our pages. Keys in them are tilde-encoded, as Datasette has them in its own."""

from __future__ import annotations

from audit.site.front import front

ROUTES = ((r"^/$", front),)
