"""The reader: the log page by page, each event read.

Where there is much to read, a process of its own reads ahead, while this one folds.

    python -m projections.reader <asked >pages
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Self

import msgspec
from msgspec.structs import replace

from projections import pipe
from projections.reading import Read, Said, read
from schema import log_place
from schema.configuration import Configuration  # noqa: TC001 - msgspec reads it
from schema.correction import Correction
from schema.decode import Decoder
from schema.errors import LogAway, LogError, SimtrailError
from schema.log import PAGE_BYTES, open_to_read
from schema.readings import JobCallback, Notification, SimCard, Unreadable, Unrecognised

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from schema.log import Log

AHEAD_EVENTS = 10_000
"""Events from which on a process of its own is worth the third of a second that it takes to start."""


AWAY_STATUS = os.EX_TEMPFAIL
"""How the process ends where the server that keeps the log is away, and may come back."""


class Asked(msgspec.Struct, frozen=True):
    """What a process reads: a log's events after a position up to another, so many a page, by a configuration."""

    log: str
    position: int
    last: int
    events: int
    page_bytes: int
    configuration: Configuration


class Page(msgspec.Struct, array_like=True, frozen=True):
    """Events on their way: what each says lies among its like, since no decoder could tell them apart.

    The cards of jobs, most of which come with several callbacks, lie apart, each once:
    of each job there is the list of their places.
    """

    heads: list[tuple[int, str, str, str, str, int, str]]
    kinds: list[int]
    jobs: list[JobCallback] = []
    named: list[list[int]] = []
    cards: list[SimCard] = []
    notifications: list[Notification] = []
    unrecognised: list[Unrecognised] = []
    unreadable: list[Unreadable] = []
    corrections: list[Correction] = []


_KINDS: dict[type, int] = {
    kind: n for n, kind in enumerate((JobCallback, Notification, Unrecognised, Unreadable, Correction))
}
_encoder = msgspec.msgpack.Encoder()
_asked = msgspec.msgpack.Decoder(Asked)
_pages = msgspec.msgpack.Decoder(Page | str)


class Reader:
    """A log's events as they read by a configuration, in pages of so many at most. Use it as a context manager."""

    def __init__(self, log: Log, configuration: Configuration, *, events: int, page_bytes: int = PAGE_BYTES) -> None:
        self._log = log
        self._configuration = configuration
        self._events = events
        self._bytes = page_bytes
        self._decoder = Decoder(configuration)
        self._ahead: _Ahead | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def after(self, position: int, last: int | None = None) -> list[Read]:
        """The page that follows a position, up to ``last`` if that is given; empty at the end. Raises `LogError`."""
        if self._ahead is not None and self._ahead.position == position and (page := self._ahead.page()):
            return page
        if self._ahead is not None:
            self._end()
        end = self._log.head() if last is None else last
        if end - position >= AHEAD_EVENTS:
            place = log_place.url(self._log.place)
            self._ahead = _Ahead(Asked(place, position, end, self._events, self._bytes, self._configuration))
            return self._ahead.page()
        events = self._log.after(position, max_events=self._events, max_bytes=self._bytes)
        return read((event for event in events if last is None or event.position <= last), self._decoder)

    def _end(self) -> None:
        if self._ahead is not None:
            self._ahead.end()
            self._ahead = None


class _Ahead:
    """A process that reads ahead; ``position`` is how far its pages were taken. It ends when nobody takes them."""

    def __init__(self, asked: Asked) -> None:
        self.position = asked.position
        # A session of its own: what Ctrl-C interrupts is this process, and it decides.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "projections.reader"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        if self._process.stdin is None or self._process.stdout is None:
            raise TypeError(self._process)
        with suppress(BrokenPipeError), self._process.stdin as stdin:
            stdin.write(_encoder.encode(asked))
        pipe.widen(self._process.stdout)
        self._pages = pipe.read(self._process.stdout)

    def page(self) -> list[Read]:
        """The next page; empty at the end of what was asked for."""
        content = next(self._pages, None)
        if content is None:
            msg = "the log can't be read: the process that reads it ended by itself"
            raise LogError(msg)
        page = _pages.decode(content)
        if isinstance(page, str):
            kind = LogAway if self._process.wait() == AWAY_STATUS else LogError
            raise kind(page)
        if page.heads:
            self.position = page.heads[-1][0]
        return _unpacked(page)

    def end(self) -> None:
        """Be sure that it has ended."""
        self._process.kill()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._process.wait()


def _packed(events: list[Read]) -> Page:
    page = Page([], [])
    places: dict[int, int] = {}
    for event in events:
        page.heads.append(
            (
                event.position,
                event.received_at,
                event.source,
                event.remote,
                event.headers,
                event.body_bytes,
                event.sha256,
            )
        )
        page.kinds.append(_KINDS[type(event.said)])
        match event.said:
            case JobCallback() as said:
                page.named.append([_place(card, page.cards, places) for card in said.sims])
                page.jobs.append(replace(said, sims=()))
            case Notification() as said:
                page.notifications.append(said)
            case Unrecognised() as said:
                page.unrecognised.append(said)
            case Unreadable() as said:
                page.unreadable.append(said)
            case Correction() as said:
                page.corrections.append(said)
    return page


def _place(card: SimCard, cards: list[SimCard], places: dict[int, int]) -> int:
    """Where a card lies among those of its page, put there if it is the first."""
    # By identity: what was read once is one object, which the events of the page keep.
    place = places.get(id(card))
    if place is None:
        place = places[id(card)] = len(cards)
        cards.append(card)
    return place


def _unpacked(page: Page) -> list[Read]:
    cards = page.cards
    jobs = (
        replace(job, sims=tuple([cards[n] for n in named])) for job, named in zip(page.jobs, page.named, strict=True)
    )
    said: tuple[Iterator[Said], ...] = (
        jobs,
        iter(page.notifications),
        iter(page.unrecognised),
        iter(page.unreadable),
        iter(page.corrections),
    )
    return [Read(*head, next(said[kind])) for head, kind in zip(page.heads, page.kinds, strict=True)]


def _pages_of(asked: Asked) -> Iterator[Page]:
    """The pages that are asked for, and an empty one."""
    decoder = Decoder(asked.configuration)
    position = asked.position
    with open_to_read(log_place.place(asked.log)) as log:
        while position < asked.last:
            events = log.after(position, max_events=asked.events, max_bytes=asked.page_bytes)
            page = read((event for event in events if event.position <= asked.last), decoder)
            if not page:
                break
            position = page[-1].position
            yield _packed(page)
    yield Page([], [])


def main() -> int:
    """Read what standard input asks for."""
    gc.disable()  # What is read refers to nothing: there is nothing to be found.
    out = sys.stdout.buffer
    try:
        for page in _pages_of(_asked.decode(sys.stdin.buffer.read())):
            pipe.write(out, _encoder.encode(page))
    except BrokenPipeError:
        # Nobody wants the rest; and nothing is left to be told at exit.
        sys.stdout = None
        return 1
    except SimtrailError as error:
        pipe.write(out, _encoder.encode(str(error)))
        return AWAY_STATUS if isinstance(error, LogAway) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
