"""What a stream gives."""

from dataclasses import dataclass
from typing import Any, Literal

State = Literal["connecting", "catching-up", "live", "offline", "over"]


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened.

    `id` is where the stream stands with it: given as `last_event_id`, what follows comes. It is opaque, and
    the same as before for what is not in the log, such as a job's progress.
    """

    type: str
    data: Any
    id: str


@dataclass(frozen=True, slots=True)
class Reset:
    """What came before cannot be continued: load the state anew; the stream goes on from now.

    `reason` is `pruned`, `epoch`, `ahead` or `malformed`; `oldest` is the id from which on all is kept.
    It has no `type` and no `data`, so that nobody takes it for an event and goes on with a gap.
    """

    reason: str
    oldest: str
    id: str
