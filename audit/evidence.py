"""Evidence: an export, with the events behind it and what proves them, as a bundle."""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from audit import bundle, destination
from audit.destination import ARCHIVE
from audit.extract import ExportError
from projections.digest import digests
from schema.tables import MODEL_VERSION

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from audit.export import Export
    from audit.seals import Seals
    from schema.log import Log


FOLDER = "evidence"
"""The folder in a zip file whose own name has nothing in it that any system and any zip program takes."""


def write(  # noqa: PLR0913 - what evidence is made of, each by name
    export: Export,
    target: Path,
    log: Log,
    seals: Seals,
    *,
    made_by: str,
    now: datetime,
    progress: Callable[[int], object],
) -> tuple[int, int]:
    """Write an export and the proof of its range to a folder, or to a ``.zip``; the first and the last position.

    All of it or nothing. Raises as `destination.write` and `bundle.write` do; `ExportError` where
    no event is in the range.
    """
    found = export.snapshot.extract("deliveries", export.selection)
    if found.first is None or found.last is None:
        msg = "no event was received in the range, so there is nothing to prove: choose another with --from and --to"
        raise ExportError(msg)
    target = target.absolute()
    destination.require_free(target)
    bundle.require_sealed(log, seals, found.first, found.last)
    published = {
        "position": export.snapshot.position,
        "made_by": made_by,
        "model_version": MODEL_VERSION,
        "configuration": export.snapshot.configuration,
        "tables": {
            name: {"rows": each.rows, "sha256": each.sha256}
            for name, each in digests(export.snapshot.connection).items()
        },
    }
    staging = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".partial", dir=target.parent))
    try:
        destination.write(export, staging / "tables", progress)
        whole = staging / "bundle" / _folder(target)
        whole.parent.mkdir()
        bundle.write(
            whole,
            log,
            seals,
            first=found.first,
            last=found.last,
            made_by=made_by,
            now=now,
            tables=staging / "tables",
            published=published,
        )
        if target.suffix.lower() == ARCHIVE:
            bundle.pack(whole, target)
        else:
            whole.rename(target)
    except OSError as error:
        msg = f"the evidence {target} can't be written: {error.strerror or error}; nothing of it was left"
        raise ExportError(msg) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return found.first, found.last


def _folder(target: Path) -> str:
    """The one folder in a zip file, named after it, so that two bundles can be unpacked side by side."""
    return re.sub("[^A-Za-z0-9._-]+", "-", target.stem).strip("-.") or FOLDER
