"""The installation that this Datasette publishes: its folder, its users, and whether anyone may look."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias
from zoneinfo import ZoneInfo

from audit.folder import DataFolder
from audit.users import Users
from schema import configuration, log_place
from schema.configuration import Configuration

# Datasette carries no types.
Datasette: TypeAlias = Any
Request: TypeAlias = Any

PLUGIN = "simtrail"


@dataclass(frozen=True)
class Installation:
    """What is published. ``folder`` is None where Datasette was started by hand on a file alone."""

    folder: DataFolder | None
    users: Users | None
    public: bool
    configuration: Configuration

    @property
    def zone(self) -> ZoneInfo:
        """The zone that times are also shown in."""
        return ZoneInfo(self.configuration.time_zone)

    @property
    def has_users(self) -> bool:
        """Whether one must be a user to see what others may not."""
        return self.users is not None and self.users.are_any


def installation(datasette: Datasette) -> Installation | None:
    """The installation of a Datasette, or None where its metadata doesn't configure this plugin.

    Raises `ConfigurationError` where its users or its configuration can't be read.
    """
    try:
        found: Installation | None = datasette._simtrail  # noqa: SLF001 - ours
    except AttributeError:
        datasette._simtrail = found = _configured(datasette.plugin_config(PLUGIN))  # noqa: SLF001
    return found


def _configured(told: dict[str, str | None] | None) -> Installation | None:
    if told is None:
        return None
    data = told.get("data")
    log = told.get("log")
    folder = DataFolder(Path(data), log_place.place(log) if log else None) if data else None
    return Installation(
        folder,
        Users(folder.users) if folder else None,
        bool(told.get("public")),
        configuration.load(folder.configuration) if folder else Configuration(),
    )
