"""What a token is for: channels by name, and `item:*` for all of a kind."""

from collections.abc import Container

from events.channels import kinds, parse

ALL = ":*"


def check_pattern(pattern: str) -> str:
    """Return a channel's name or `kind:*` as it is; raise ChannelMalformed for what is neither."""
    kind = kinds().get(pattern.removesuffix(ALL)) if is_open(pattern) else None
    if kind is None or kind.key is None:
        parse(pattern)
    return pattern


def is_open(pattern: str) -> bool:
    """Tell whether a pattern is for all channels of a kind."""
    return pattern.endswith(ALL)


def covers(patterns: Container[str], asked: str) -> bool:
    """Tell whether a channel, or all that a pattern is for, is within these patterns."""
    kind, colon, _ = asked.partition(":")
    return asked in patterns or f"{kind}{colon}*" in patterns
