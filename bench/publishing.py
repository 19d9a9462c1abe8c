"""Who publishes: a process of its own on the second core, told by a pipe what to send and how fast.

Each event is 200 bytes of JSON with its number on its channel, dense from 1 on, and the moment at which it was
handed over, by the clock that all processes of a machine share.
"""

from typing import Protocol, Self


class Publisher(Protocol):
    """Publishes to one server."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...

    def one(self, channel: str) -> int:
        """Publish one event; return its number on the channel."""

    def steady(self, channels: list[str], *, rate: float, seconds: float) -> "Sent":
        """Publish at a rate to channels by turns, as far as one can; return what was sent."""
