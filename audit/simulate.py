"""The command `simtrail simulate`: plays the platform against a webhook URL."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

import click
import httpx

from audit import folder as folders
from audit import park, platform
from audit.options import data, option, receiver
from audit.services import receiver_url
from audit.stopping import CUT_SHORT
from ingest import sources
from ingest.limits import GROUP_BYTES, GROUP_DELIVERIES
from schema.errors import ConfigurationError
from schema.event import Delivery, WebhookReceived, instant, uuid7
from schema.log import open_to_append

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from schema.log import Log

ATTEMPTS = 5
"""Times that a delivery is tried: a sender gives up in the end."""

FIRST_PAUSE_S = 0.5
"""Before the second attempt; doubled before each further one: 7.5 s in all, in which
a receiver is started again."""

MAX_PAUSE_S = 30
"""How long a Retry-After is heeded at most."""

ANSWER_S = 30
"""How long an answer is awaited: the receiver answers after an fsync, which takes milliseconds."""

SOURCE = "simulated"
"""The source that simulated deliveries come from, where no URL says another: what is
made up stays apart from what happened."""


REMOTE = "simulate"
"""Stands where a received delivery has the sender's address, in what was recorded and never sent."""


@dataclass
class Outcome:
    """What became of the deliveries so far: answers by status, and attempts that had to be repeated."""

    answers: Counter[int] = field(default_factory=Counter)
    retries: int = 0

    def told(self, seconds: float) -> str:
        """The outcome in a line."""
        sent = self.answers.total()
        each = ", ".join(f"{number:,} answered {status}" for status, number in sorted(self.answers.items()))
        again = f"; {self.retries:,} tried again" if self.retries else ""
        rate = f"{sent / seconds:,.1f}/s" if seconds else "at once"
        return f"{sent:,} {'delivery' if sent == 1 else 'deliveries'} in {seconds:,.1f} s ({rate}){': ' if each else ''}{each}{again}"


def send(  # noqa: PLR0913 - what it works with, each replaced in tests
    client: httpx.Client,
    url: httpx.URL,
    bodies: Iterable[bytes],
    *,
    per_second: float,
    outcome: Outcome,
    clock: Callable[[], float] = time.monotonic,
    pause: Callable[[float], None] = time.sleep,
) -> None:
    """POST the bodies one after another, at most so many a second (0: as fast as they are answered).

    Counts in `outcome` as it goes. What gets no answer, or a 5xx, is tried again as
    it is. Raises `click.ClickException` where going on is of no use: the receiver
    can't be reached, or knows no such URL.
    """
    begun = clock()
    for number, body in enumerate(bodies):
        if per_second and (ahead := begun + number / per_second - clock()) > 0:
            pause(ahead)
        status = _delivered(client, url, body, outcome, pause)
        outcome.answers[status] += 1
        if status == httpx.codes.NOT_FOUND:
            msg = f"{_where(url)} answers 404: it knows no such source with this secret; check the webhook URL"
            raise click.ClickException(msg)


def _delivered(
    client: httpx.Client, url: httpx.URL, body: bytes, outcome: Outcome, pause: Callable[[float], None]
) -> int:
    attempt = 0
    while True:
        attempt += 1
        last = attempt == ATTEMPTS
        wait = FIRST_PAUSE_S * 2 ** (attempt - 1)
        try:
            answer = client.post(url, content=body, headers={"content-type": "application/json"})
        except httpx.RequestError as error:
            if last:
                raise _no_answer(url, error) from None
        else:
            if not answer.is_server_error or last:
                return answer.status_code
            wait = max(wait, _retry_after(answer))
        outcome.retries += 1
        pause(wait)


def await_answer(client: httpx.Client, url: httpx.URL, pause: Callable[[float], None] = time.sleep) -> None:
    """Return when something answers there. Raises `click.ClickException` where nothing has, as `send` would."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            client.get(url)
        except httpx.RequestError as error:
            if attempt == ATTEMPTS:
                raise _no_answer(url, error, " --host and --port, or --url, say where it is.") from None
            pause(FIRST_PAUSE_S * 2 ** (attempt - 1))
        else:
            return


def _no_answer(url: httpx.URL, error: httpx.RequestError, remedy: str = "") -> click.ClickException:
    # Not the error itself, which may hold the URL.
    msg = (
        f"{_where(url)} does not answer ({type(error).__name__}, {ATTEMPTS} attempts): is the receiver running?{remedy}"
    )
    return click.ClickException(msg)


def _retry_after(answer: httpx.Response) -> float:
    said = answer.headers.get("retry-after", "")
    return min(int(said), MAX_PAUSE_S) if said.isascii() and said.isdigit() else 0


def _where(url: httpx.URL) -> str:
    """Where the URL leads, without what is secret in it."""
    return f"{url.scheme}://{url.netloc.decode()}"


def _webhook_url(_context: click.Context, _parameter: click.Parameter, value: str | None) -> httpx.URL | None:
    if value is None:
        return None
    try:
        url = httpx.URL(value)
    except httpx.InvalidURL:
        url = httpx.URL()
    if url.scheme not in {"http", "https"} or not url.host:
        # Not shown: it may hold a secret all the same.
        msg = "this is no http or https URL; `simtrail serve` prints the one to use"
        raise click.BadParameter(msg)
    return url


def _own_webhook_url(client: httpx.Client, data: Path, host: str, port: int) -> httpx.URL:
    """The webhook URL of the source kept for simulations, with a new secret in place of its last.

    The source is left as it is, or not there, where no receiver answers.
    """
    folder = folders.existing(data)
    front = receiver_url(folder, host, port)
    await_answer(client, httpx.URL(f"{front}/livez"))
    known = SOURCE in {source.name for source in sources.listed(folder.sources)}
    give = partial(sources.rotate, drop_old=True) if known else sources.add
    secret = give(folder.sources, SOURCE, now=datetime.now(UTC), entropy=os.urandom)
    return httpx.URL(front + sources.webhook_path(SOURCE, secret))


def record(log: Log, timed: Iterable[tuple[datetime, bytes]], *, entropy: Callable[[int], bytes]) -> int:
    """Append bodies to a log, each as received when it was sent; how many."""
    count = size = 0
    batch: list[WebhookReceived] = []
    for at, body in timed:
        delivery = Delivery(instant(at), SOURCE, REMOTE, {"content-type": "application/json"}, body)
        batch.append(WebhookReceived(uuid7(at, entropy), 1, delivery))
        count, size = count + 1, size + len(body)
        if len(batch) >= GROUP_DELIVERIES or size >= GROUP_BYTES:
            log.append(batch)
            batch, size = [], 0
    if batch:
        log.append(batch)
    return count


def _into_log(data: Path, timed: Iterable[tuple[datetime, bytes]]) -> None:
    """Record the deliveries in the log of a data folder that has received nothing yet."""
    folder = folders.create(data)
    with folders.hold_to_append(folder), open_to_append(folder.log) as log:
        if log.head():
            msg = f"the log of {data} has events already, and a made-up past is never put among them: name a new folder with --data"
            raise ConfigurationError(msg)
        count = record(log, timed, entropy=os.urandom)
    click.echo(f"{count:,} {'delivery' if count == 1 else 'deliveries'} recorded in {data}")


@click.command()
@option(
    "--url",
    envvar="SIMTRAIL_URL",
    metavar="URL",
    callback=_webhook_url,
    show_default=f"a source {SOURCE!r} of the data folder, where its receiver is at work, else at --host and --port",
    help="The webhook URL, as `simtrail serve` or `simtrail sources add` prints it.",
)
@data
@receiver
@option("--rate", default=20.0, type=click.FloatRange(min=0), help="Deliveries a second at most; 0 for no limit.")
@option("--count", default=500, type=click.IntRange(min=1), help="Deliveries to send.")
@option("--cards", default=200, type=click.IntRange(1, park.MAX_CARDS), help="SIM cards of the platform.")
@option("--seed", default=1, type=click.IntRange(min=0), help="What happens; another seed has other cards.")
@option(
    "--start",
    type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"]),
    metavar="DATE",
    show_default="some weeks ago, so that it ends today",
    help="When it begins to happen (UTC).",
)
@option(
    "--into-log",
    is_flag=True,
    envvar="SIMTRAIL_SIMULATE_INTO_LOG",
    help="Send nothing: record what happened up to now in the data folder's log, which must be empty, as received then.",
)
def simulate(  # noqa: PLR0913 - one for each option
    *,
    url: httpx.URL | None,
    data: Path,
    host: str,
    port: int,
    rate: float,
    count: int,
    cards: int,
    seed: int,
    start: datetime | None,
    into_log: bool,
) -> None:
    """Play the platform: send made-up webhooks to a receiver.

    Some weeks of a company's SIM cards: jobs with their progress, bills as PDF,
    notices, retries, late and repeated deliveries, and some bodies that nobody
    announced. The same seed, cards, count and start give the same bodies: sent
    again within a day, they are told to be repeats. What is sent is received now, whenever
    it happened: a receiver takes nobody's word for the time.
    """
    now = datetime.now(UTC)
    if into_log:
        if url is not None or start is not None:
            msg = "--into-log sends nothing to a --url, and ends now, so it has no --start"
            raise click.UsageError(msg)
        _into_log(data, platform.until(seed, count, cards, now))
        return
    begin = platform.begun(seed, count, cards, now) if start is None else start.replace(tzinfo=UTC)
    bodies = platform.deliveries(seed, count, cards, begin)
    outcome = Outcome()
    begun = time.monotonic()
    try:
        # By TLS without --url, it is the receiver at work in the folder: its certificate is for others, and names another host.
        with httpx.Client(timeout=ANSWER_S, verify=url is not None) as client:
            target = url or _own_webhook_url(client, data, host, port)
            with click.progressbar(bodies, length=count, label="Sending", file=sys.stderr) as shown:
                send(client, target, shown, per_second=rate, outcome=outcome)
    except KeyboardInterrupt:
        click.echo(err=True)
        click.get_current_context().exit(CUT_SHORT + signal.SIGINT)
    finally:
        click.echo(outcome.told(time.monotonic() - begun))
