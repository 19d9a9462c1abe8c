"""What one subscriber observed. A run makes millions of observations: they are kept as numbers in arrays."""

from array import array
from collections import Counter
from collections.abc import Iterable, Mapping
from enum import IntEnum
from typing import Any

from events.cursor import Cursor

# Why a stream may end; no limit is there to be reached, so `capacity` is not one of them.
ENDS = frozenset({"database", "drain", "idle", "max_age"})


def word(token: int) -> str:
    """Return a token as an event's text."""
    return f"t{token}"


def token_of(text: object) -> int:
    """Return the token that a text is, -1 for any other."""
    if isinstance(text, str) and text[:1] == "t" and text[1:].isdecimal():
        return int(text[1:])
    return -1


class Saw(IntEnum):
    """What a client observed."""

    CONNECT = 0  # with the position of the last id that it sent; -1 for none, -2 for one it does not say
    LIVE = 1  # stream.open, from now
    RESUMED = 2  # stream.open, from the client's last id
    RESET = 3  # stream.reset
    MARK = 4  # a cursor without an event: a heartbeat, stream.live
    EVENT = 5
    GAVE_UP = 6
    STRANGE = 7  # nothing that this deployment can say
    ENDED_WRONG = 8  # for no reason that there can be


class Tape:
    """What one subscriber observed, in order."""

    def __init__(self, name: str, channels: Iterable[str], epoch: str) -> None:
        self.name = name
        self.channels = frozenset(channels)
        self.deliveries = 0
        self.reached = -1  # the highest position that it was told of
        self.connections = 0
        self.why = ""
        self.ends: Counter[str] = Counter()  # by the reason that `stream.end` gave
        self.ended_wrong = ""  # the last of the reasons that there cannot be
        self._open = False  # the connection that is under way was opened
        self._epoch = epoch
        self._kinds = array("B")
        self._positions = array("q")
        self._tokens = array("q")

    def observe(self, said: Mapping[str, Any]) -> int:
        """Keep one observation; return the token of the event that it is of, -1 for any other."""
        token = -1
        match said["k"]:
            case "connect":
                last = said.get("last")
                position = -2 if said.get("unknown") else self._position(last) if last else -1
                self._keep(Saw.CONNECT, position, -1)
                self.connections += 1
                self._open = False
            case "cut" if str(said.get("why", "")).startswith("status "):
                # EventSource would not come back: whatever will pass is said in a stream that ends.
                self._end_wrong(str(said["why"]))
            case "frame":
                token = self._frame(said)
            case "gaveup":
                self.why = str(said.get("why", ""))
                self._keep(Saw.GAVE_UP, -1, -1)
        return token

    def _frame(self, said: Mapping[str, Any]) -> int:
        event, id_ = said.get("event"), said.get("id")
        position = self._position(id_) if id_ else -1
        if event == "stream.open":
            self._open = True
            mode = (said.get("data") or {}).get("mode")
            if mode != "reset":  # what follows says why, and is kept
                self._keep(Saw.LIVE if mode == "live" else Saw.RESUMED, position, -1)
        elif event == "stream.reset":
            self.why = str((said.get("data") or {}).get("reason", ""))
            self._keep(Saw.RESET, position, -1)
        elif event == "stream.end":
            self._end(str((said.get("data") or {}).get("reason", "")))
        elif event is None or event == "stream.live":
            if position >= 0:
                self._keep(Saw.MARK, position, -1)
        elif event == "PresenceChanged":
            # Not in the log: it has no place there, and is of an item that is listened to.
            item = f"item:{(said.get('data') or {}).get('item_id')}"
            if id_ or item not in self.channels or not self._open:
                self._keep(Saw.STRANGE, position, -1)
        else:
            self.deliveries += 1
            token = token_of(said.get("token"))
            self._keep(Saw.EVENT if position > 0 else Saw.STRANGE, position, token)
            return token
        return -1

    def _end(self, reason: str) -> None:
        self.ends[reason] += 1
        # Nobody's access changes in a run. So `revoked` is right only in place of an opening: the check
        # of the permission took so long that the hub's ring no longer reaches back to its beginning, or
        # a gap in the ring lies between; whether access changed meanwhile nobody knows, so ask again.
        if reason not in ENDS and (reason != "revoked" or self._open):
            self._end_wrong(reason)

    def _end_wrong(self, why: str) -> None:
        self.ended_wrong = why
        self._keep(Saw.ENDED_WRONG, -1, -1)

    def _position(self, cursor: str) -> int:
        try:
            parsed = Cursor.parse(cursor)
        except ValueError:
            parsed = Cursor("", -1)
        if parsed.epoch != self._epoch:
            self._keep(Saw.STRANGE, parsed.position, -1)
            return -1
        return parsed.position

    def _keep(self, saw: Saw, position: int, token: int) -> None:
        self._kinds.append(saw)
        self._positions.append(position)
        self._tokens.append(token)
        self.reached = max(self.reached, position)

    def __iter__(self) -> Iterable[tuple[int, int, int]]:
        return zip(self._kinds, self._positions, self._tokens, strict=True)

    def tail(self, number: int) -> str:
        """Return the last observations in words."""
        last = zip(self._kinds[-number:], self._positions[-number:], strict=True)
        return " ".join(f"{Saw(kind).name.lower()}:{position}" for kind, position in last)

    @property
    def opened(self) -> bool:
        """Tell whether it was ever told where its stream begins."""
        return Saw.LIVE in self._kinds
