"""Options that several commands share. Each may also be set by the variable that its help names."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

import click

from schema import log_place
from schema.errors import ConfigurationError
from schema.log_place import Place, Server

if TYPE_CHECKING:
    from collections.abc import Callable


LOOPBACK = "127.0.0.1"

_Command = TypeVar("_Command", bound="Callable[..., None]")

option = partial(click.option, show_default=True, show_envvar=True)
"""An option as every command here has them."""

port_option = partial(option, type=click.IntRange(0, 65535), metavar="PORT")


def data(command: _Command) -> _Command:
    """``--data``, which every command takes."""
    add = option(
        "--data",
        type=click.Path(path_type=Path),
        envvar="SIMTRAIL_DATA",
        default=Path("simtrail-data"),
        help="The data folder.",
    )
    return add(command)


class _PlaceType(click.ParamType[Place]):
    """Where a log is, by its URL."""

    name = "url"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Place:
        """Called by click."""
        if isinstance(value, Path | Server):
            return value
        try:
            return log_place.place(str(value))
        except ConfigurationError as error:
            self.fail(str(error), param, ctx)


PLACE = _PlaceType()
"""The type of an argument or option that says where a log is."""

LOG_VARIABLE = "SIMTRAIL_LOG"


def log(command: _Command) -> _Command:
    """``--log``, which every command takes that opens the log."""
    add = option(
        "--log",
        "place",
        type=PLACE,
        metavar="URL",
        envvar=LOG_VARIABLE,
        help="Where the log is, if not in the data folder: sqlite:///PATH or postgresql://USER@HOST/DATABASE.",
    )
    return add(command)


def receiver(command: _Command) -> _Command:
    """``--host`` and ``--port``: where webhooks come to.

    One name of a variable for each, whichever command reads it: it is one receiver.
    """
    host = option("--host", envvar="SIMTRAIL_HOST", default=LOOPBACK, help="The address that webhooks come to.")
    port = port_option("--port", envvar="SIMTRAIL_PORT", default=8080, help="The port that webhooks come to.")
    return host(port(command))


@dataclass(frozen=True)
class Front:
    """What stands between the receiver and its senders, TLS of its own or proxies, and whether each delivery has a line."""

    certificate: Path | None
    key: Path | None
    forwarded_allow_ips: str | None
    delivery_lines: bool = True

    @property
    def tls(self) -> bool:
        """Whether the receiver speaks TLS."""
        return self.certificate is not None

    @property
    def variables(self) -> dict[str, str]:
        """The options that are set, by their variables: for a process that is to have them too."""
        values = (self.certificate, self.key, self.forwarded_allow_ips, None if self.delivery_lines else 1)
        return {name: str(value) for name, value in zip(FRONT_VARIABLES, values, strict=True) if value is not None}


FRONT_VARIABLES = (
    "SIMTRAIL_TLS_CERT",
    "SIMTRAIL_TLS_KEY",
    "SIMTRAIL_FORWARDED_ALLOW_IPS",
    "SIMTRAIL_NO_DELIVERY_LINES",
)


def front(command: _Command) -> _Command:
    """``--tls-cert``, ``--tls-key``, ``--forwarded-allow-ips`` and ``--no-delivery-lines``, handed on together as ``front``."""

    @wraps(command)
    def with_front(
        *,
        tls_cert: Path | None,
        tls_key: Path | None,
        forwarded_allow_ips: str | None,
        no_delivery_lines: bool,
        **others: object,
    ) -> None:
        if tls_key is not None and tls_cert is None:
            msg = "--tls-key needs the certificate that it belongs to: add --tls-cert"
            raise click.UsageError(msg)
        command(**others, front=Front(tls_cert, tls_key, forwarded_allow_ips, not no_delivery_lines))

    _, _, proxies, lines = FRONT_VARIABLES
    for add in (
        option(
            "--no-delivery-lines",
            is_flag=True,
            envvar=lines,
            help="Write no line for each delivery into the receiver's log, only what needs attention.",
        ),
        option(
            "--forwarded-allow-ips",
            metavar="IPS",
            envvar=proxies,
            help="Proxies whose X-Forwarded-For names the sender: addresses or networks, with commas between.",
        ),
    ):
        with_front = add(with_front)
    return cast("_Command", certificate("Speak TLS, with this certificate (PEM) and its chain.")(with_front))


def certificate(what: str) -> Callable[[_Command], _Command]:
    """``--tls-cert``, with its help, and ``--tls-key``: one name of a variable for each, whichever command reads it."""

    def add(command: _Command) -> _Command:
        file = click.Path(path_type=Path)
        certificate_variable, key_variable, *_ = FRONT_VARIABLES
        key = option(
            "--tls-key",
            type=file,
            envvar=key_variable,
            help="The certificate's private key (PEM), if in a file of its own.",
        )
        return option("--tls-cert", type=file, envvar=certificate_variable, help=what)(key(command))

    return add


def publisher(prefix: str) -> Callable[[_Command], _Command]:
    """``--host`` and ``--port`` of Datasette, with the prefix that the command sets them apart by.

    Apart from the receiver's: whoever opens that to the world doesn't mean to publish the audit.
    """

    def add(command: _Command) -> _Command:
        host = option(
            f"--{prefix}host",
            "publish_host",
            envvar="SIMTRAIL_PUBLISH_HOST",
            default=LOOPBACK,
            help="The address of Datasette.",
        )
        port = port_option(
            f"--{prefix}port",
            "publish_port",
            envvar="SIMTRAIL_PUBLISH_PORT",
            default=8001,
            help="The port of Datasette.",
        )
        return host(port(command))

    return add


def public(command: _Command) -> _Command:
    """``--public``: whether anyone may look."""
    add = option(
        "--public",
        is_flag=True,
        envvar="SIMTRAIL_PUBLIC",
        help="Let anyone who reaches Datasette see what an auditor sees, without logging in.",
    )
    return add(command)


def base_url(command: _Command) -> _Command:
    """``--base-url``: the front of a webhook URL as the platform has to write it."""
    add = option(
        "--base-url",
        envvar="SIMTRAIL_BASE_URL",
        metavar="URL",
        help="The front of the webhook URL, if a proxy gives it another than http://HOST:PORT.",
    )
    return add(command)


def supervised(command: _Command) -> _Command:
    """``--supervised``, which `simtrail serve` starts its processes with."""
    add = click.option("--supervised", is_flag=True, hidden=True, allow_from_autoenv=False, help="End with serve.")
    return add(command)
