"""The event that is published everywhere: 200 bytes of JSON that say which it is, and since when."""

import re

BYTES = 200
_PAD = "x" * BYTES
EVENT = re.compile(rb'"n":(\d+),"t":(\d+)')  # what makes a block of a stream an event of ours


def payload(number: int, *, at: int) -> str:
    """Return the event of a number on its channel, late from then on: nanoseconds of the common clock."""
    head = f'{{"n":{number},"t":{at},"pad":"'
    return f'{head}{_PAD[len(head) + 2 :]}"}}'
