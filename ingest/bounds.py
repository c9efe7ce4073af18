"""Bounds that an operator may set for a source: the addresses that it delivers from, and how often."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import TypeAlias

from schema.errors import SourceError

Network: TypeAlias = IPv4Network | IPv6Network


def network(text: str) -> Network:
    """A network, or a single address, as it is written. Raises `SourceError` for anything else."""
    try:
        return ip_network(text)
    except ValueError as error:
        msg = f"{text!r} is not an address or a network, such as 192.0.2.7, 192.0.2.0/24 or 2001:db8::/32: {error}"
        raise SourceError(msg) from error


@dataclass
class Bound:
    """What a source is held to; no networks stand for any address, 0 a second for any number."""

    networks: tuple[Network, ...]
    per_second: int
    _left: float = field(init=False)
    _at_s: float | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._left = float(self.per_second)

    def admits(self, remote: str) -> bool:
        """Whether the source may deliver from an address. One that can't be read is none of the networks'."""
        if not self.networks:
            return True
        try:
            address = ip_address(remote)
        except ValueError:
            return False
        # As IPv4 looks to a socket of both.
        plain = getattr(address, "ipv4_mapped", None) or address
        return any(plain in each for each in self.networks)

    def takes(self, now_s: float) -> bool:
        """Whether one more delivery is within the rate, which it then counts against: a second's worth may come at once."""
        if not self.per_second:
            return True
        # A clock that was put back gives nothing, and takes nothing.
        passed_s = 0.0 if self._at_s is None else max(0.0, now_s - self._at_s)
        self._at_s = now_s
        self._left = min(float(self.per_second), self._left + passed_s * self.per_second)
        if self._left < 1:
            return False
        self._left -= 1
        return True
