"""What the receiver takes, holds and waits for: every bound, with its unit and reason."""

from __future__ import annotations

from dataclasses import dataclass

from schema.errors import ConfigurationError

MIB = 1024 * 1024

BODY_BYTES = 32 * MIB
"""One body at most, unless configured: a bill of 20 MB of PDF is 27 MB in base64."""

BODY_BYTES_AT_MOST = 512 * MIB
"""What a body may be configured to at most: SQLite refuses a value of 1,000,000,000
bytes, and a body is held about four times over while it is being stored."""

HELD_DELIVERIES = 10_000
"""Deliveries in memory, from the first byte read to the answer: under a second's work
of the appender. A sender that is told to wait beyond that is better off than one that
waits unknowing."""

HELD_BYTES = 256 * MIB
"""Bytes of body in memory, read or waiting: eight of the largest at once."""

GROUP_DELIVERIES = 1_000
"""Deliveries that share one commit at most: beyond this the fsync's share of the cost
has vanished, and a larger group would only make its first delivery wait longer."""

GROUP_BYTES = 8 * MIB
"""A group takes no further delivery once it holds this much: some 40 ms of writing,
which everyone behind it waits for. One larger body is a group of its own."""

LARGE_BODY_BYTES = 128 * 1024
"""Above this a body is hashed and checked in a thread of its own: below, that takes
less than a millisecond of the event loop, and a hand-over costs about as much."""

HEADER_CHARS = 512
"""What is kept of a header's value at most, in characters: no allowed header needs
more, and headers are the one thing of an event that no other limit bounds."""

HEAD_BYTES = 64 * 1024
"""A request's line and headers at most, and whatever else a sender says between two parts of a body (chunk
extensions, trailers): eight times what senders are known to send, and little to hold for each connection."""

HEAD_S = 10
"""For how many seconds a request's line and headers may be on their way, the first one's from the connection on."""

BODY_WINDOW_S = 30
BODY_WINDOW_BYTES = 16 * 1024
"""So many bytes of a body must come in each window of so many seconds, until it is whole: half a kilobyte a
second, a tenth of the slowest mobile network. A sender slower than that holds memory that others need."""

ANSWER_S = 30
"""For how many seconds an answer may be on its way to a sender that does not read it."""

LINGER_BYTES = 2 * BODY_BYTES
"""How much of an unwanted body is read and dropped after its refusal. A socket closed on
unread bytes is reset, and a reset can overtake the answer: a sender somewhat over
the limit gets to read its 413, one that sends ten gigabytes is cut off."""

LINGER_S = 5
"""For how many seconds it is read at most."""

BUSY_RETRY_S = 1
"""Retry-After where too much waits: by then the appender has caught up, or is broken."""

UNAVAILABLE_RETRY_S = 30
"""Retry-After where the log can't be written: a person or a supervisor has to act."""

RECEIPT_RETRY_S = 1
"""Retry-After where an event is not sealed yet: anchors are signed every second."""

KEEP_ALIVE_S = 75
"""An idle connection is kept this long: longer than the 60 s after which common proxies
drop it, since a POST sent on a connection that we close that moment is lost."""

STOP_S = 10
"""For how many seconds a stopping receiver waits for the requests it has begun; and then for its appender's end."""

APPENDER_S = 6
"""For how many seconds a stopping receiver waits for a word of its appender while deliveries are with it: a second
longer than that one waits for a log that another process has locked. A dead disk never answers."""

SECRET_BYTES = 24
"""A secret's randomness: 192 bits, 32 characters in a URL. 128 would do."""

SECRETS = 8
"""Secrets that one source may have at a time. A rotation needs two; each further one is
a comparison in every request, for every source."""


@dataclass(frozen=True)
class Limits:
    """The limits that an installation may set; the others are constants of this module."""

    body_bytes: int = BODY_BYTES
    held_deliveries: int = HELD_DELIVERIES
    held_bytes: int = HELD_BYTES

    def __post_init__(self) -> None:
        if not 0 < self.body_bytes <= BODY_BYTES_AT_MOST:
            msg = f"the limit of a body must be from 1 to {BODY_BYTES_AT_MOST} bytes, not {self.body_bytes}"
            raise ConfigurationError(msg)
        if self.held_bytes < self.body_bytes:
            msg = (
                f"{self.held_bytes} bytes for all bodies in memory are fewer than the {self.body_bytes} "
                "that one body may have: raise the first or lower the second"
            )
            raise ConfigurationError(msg)
        if self.held_deliveries < 1:
            msg = f"at least 1 delivery must fit into memory, not {self.held_deliveries}"
            raise ConfigurationError(msg)
