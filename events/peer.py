"""Who is at the other end: the address that limits count by."""

import re
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from django.conf import settings
from django.http import HttpRequest

# Some proxies write the port too, and an IPv6 address then, or always, in brackets.
_WITH_PORT = re.compile(r"\[([^\]]+)\](?::\d+)?|([\d.]+):\d+", re.ASCII)
HOST_BITS = 64  # of an IPv6 address: a host has all of them to choose from


def address(request: HttpRequest) -> str:
    """Return the client's address, "" where there is none; IPv6 as its network of 64 bits.

    `X-Forwarded-For` counts only as far as SERVE_TRUSTED_PROXIES wrote it: from the right, up to
    the first that is not one of them. Anything left of that, a client may have made up.
    """
    found: IPv4Address | IPv6Address | None = None
    for hop in _hops(request):
        try:
            found = _read(hop)
        except ValueError:
            break
        if not any(found in network for network in settings.SERVE_TRUSTED_PROXIES):
            break
    if isinstance(found, IPv6Address):
        return str(ip_network((int(found), 128 - HOST_BITS), strict=False).network_address)
    return "" if found is None else str(found)


def _hops(request: HttpRequest) -> Iterator[str]:
    """Yield the peer, then who it says is behind it, and so on."""
    yield request.META.get("REMOTE_ADDR", "")
    yield from reversed(request.headers.get("X-Forwarded-For", "").split(","))


def _read(hop: str) -> IPv4Address | IPv6Address:
    hop = hop.strip()
    if match := _WITH_PORT.fullmatch(hop):
        hop = match[1] or match[2]
    read = ip_address(hop)
    return (read.ipv4_mapped or read) if isinstance(read, IPv6Address) else read
