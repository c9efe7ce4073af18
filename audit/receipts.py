"""Receipts as the receiver gives them out: of one event, to its source."""

from __future__ import annotations

from typing import TYPE_CHECKING

from audit import seals as sealed
from audit.proof import receipt
from schema.errors import LogNotThere, NotSealed
from schema.log import open_to_read

if TYPE_CHECKING:
    from collections.abc import Callable

    from audit.folder import DataFolder


def of_folder(folder: DataFolder) -> Callable[[int, Callable[[str], bool]], str | None]:
    """What finds receipts in a data folder, as `ingest.receipts` calls it, from any thread."""

    def find(position: int, asks: Callable[[str], bool]) -> str | None:
        try:
            with open_to_read(folder.log) as log:
                event = log.at(position)
                if event is None or not asks(event.delivery.source):
                    return None
                if not folder.seals.exists():
                    msg = "nothing was sealed yet"
                    raise NotSealed(msg)
                with sealed.open_to_read(folder.seals) as seals:
                    return str(receipt(log, seals, position))
        except LogNotThere:
            return None

    return find
