"""The event that is published everywhere: 200 bytes of JSON that say which it is, and since when."""

import re
import time

BYTES = 200
_PAD = "x" * BYTES
EVENT = re.compile(rb'"n":(\d+),"t":(\d+)')  # what makes a block of a stream an event of ours


def payload(number: int, *, at: int | None = None) -> str:
    """Return the event of a number on its channel; it is late from `at` on (now), by the common clock."""
    head = f'{{"n":{number},"t":{time.monotonic_ns() if at is None else at},"pad":"'
    return f'{head}{_PAD[len(head) + 2 :]}"}}'
