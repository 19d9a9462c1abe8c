"""What the tests of streams know by themselves: what was recorded, and what a client may be told.

The `Ledger` is written beside the log, never read from it. A `Witness` reads one connection's
bytes and holds every frame against the ledger, in the terms of the promises.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from events.cursor import Cursor
from tests.streams.conftest import Frame, parse


@dataclass(slots=True)
class Fact:
    """An event as the test recorded it; `revoked` names whose reading of what it took away."""

    n: int
    channels: frozenset[str]
    revoked: tuple[str | None, str | None] | None = None
    placed: int = 0  # the how-manieth placing of all, over all epochs

    def concerns(self, user_id: str, channels: frozenset[str]) -> bool:
        """Return whether it took something away from a reader."""
        if self.revoked is None:
            return False
        user, channel = self.revoked
        return user in (None, user_id) and (channel is None or channel in channels)


@dataclass(slots=True)
class Ledger:
    """The facts in the order of their recording, and every epoch's tape."""

    epoch: str
    happened: Counter[str] = field(default_factory=Counter)  # what clients were told
    oldest: int = 1
    unplaced: list[Fact] = field(default_factory=list)
    tape: list[Fact] = field(default_factory=list)
    tapes: dict[str, list[Fact]] = field(default_factory=dict)
    placings: int = 0
    recorded: int = 0
    undone: bool = False  # the log may begin a new epoch: its history is another one

    def __post_init__(self) -> None:
        self.tapes[self.epoch] = self.tape

    @property
    def head(self) -> int:
        return len(self.tape)

    def record(self, channels: Iterable[str], revoked: tuple[str | None, str | None] | None = None) -> Fact:
        self.recorded += 1
        fact = Fact(self.recorded, frozenset(channels), revoked)
        self.unplaced.append(fact)
        return fact

    def place(self, batch: int) -> int:
        placed, self.unplaced = self.unplaced[:batch], self.unplaced[batch:]
        for fact in placed:
            self.placings += 1
            fact.placed = self.placings
            self.tape.append(fact)
        return len(placed)

    def undo(self, position: int) -> None:
        """Go back to a position: what was above it was never kept."""
        self.tape = self.tape[:position]
        self.undone = True

    def begin(self, epoch: str) -> None:
        """Note the epoch that the log is in; a new one has to have a reason."""
        if epoch != self.epoch:
            assert self.undone, "an epoch began for no reason"
            self.epoch, self.undone = epoch, False
            self.tape = list(self.tape)  # late messages of the old epoch are of the old tape
            self.tapes[epoch] = self.tape

    def of(self, epoch: str, channels: frozenset[str], above: int, upto: int) -> list[int]:
        """Return the positions of the channels' events in (above, upto]."""
        tape = self.tapes[epoch]
        return [p for p in range(above + 1, upto + 1) if not channels.isdisjoint(tape[p - 1].channels)]


class Witness:
    """One connection, as its client sees it: every frame is right, or the test fails."""

    def __init__(
        self, ledger: Ledger, channels: frozenset[str], user_id: str, asked: str | None, since: Cursor
    ) -> None:
        self.ledger = ledger
        self.channels = channels
        self.user_id = user_id
        self.asked = asked
        self.since = since
        self.heeded = range(0)  # positions
        self.checked = ledger.recorded  # what was recorded after this, its permission did not see
        self.came = Cursor(ledger.epoch, ledger.head)  # where the log stood when it asked
        self.opened = False
        self.resetting = False
        self.replaying = False
        self.ended: str | None = None
        self.epoch = ""
        self.position = 0
        self.ids: list[str] = []  # every cursor it was given, the newest last

    def hear(self, chunk: bytes, upto: Cursor, above: int) -> None:
        """Take what was written when its process had heard of everything in (above, upto]."""
        self.heeded = range(above + 1, upto.position + 1 if upto.epoch == self.epoch else 0)
        for block in chunk.split(b"\n\n"):
            if block:
                self._frame(parse(block))

    def complete(self) -> bool:
        """Return whether nothing placed is missing."""
        return self.epoch == self.ledger.epoch and not self.ledger.of(
            self.epoch, self.channels, self.position, self.ledger.head
        )

    def _frame(self, frame: Frame) -> None:
        assert self.ended is None, "a frame after the end"
        if frame.event == "stream.end":
            self.ended = frame.data["reason"]
            self.ledger.happened[f"end: {self.ended}"] += 1
            assert frame.id is None
        elif not self.opened:
            assert frame.event == "stream.open"
            self._open(frame)
        elif frame.event == "stream.reset":
            self._reset(frame)
        else:
            assert not self.resetting, "a reset that does not say why"
            self._go_on(frame)
        if frame.id:
            self.ids.append(frame.id)

    def _go_on(self, frame: Frame) -> None:
        if frame.event == "stream.live":
            assert self.replaying
            self.replaying = False
            self._prove(frame.id)
        elif frame.event is not None:
            self._event(frame)
        else:
            assert frame.comment
            assert frame.data is None
            if frame.id:
                assert not self.replaying, "a heartbeat during the replay"
                self._prove(frame.id)
                self.ledger.happened["heartbeat"] += 1

    def _open(self, frame: Frame) -> None:
        cursor = self._begin(frame)
        assert frame.data["cursor"] == frame.id
        mode, missed = frame.data["mode"], frame.data["missed"]
        self.ledger.happened[f"open: {mode}"] += 1
        self.opened = True
        if mode == "live":
            assert self.asked is None
            assert missed == 0
        elif mode == "resumed":
            self.replaying = True
            if self.asked == "earliest":
                assert cursor.position < self.ledger.oldest, "not all that is kept"
            else:
                assert frame.id == self.asked
        else:
            assert mode == "reset"
            assert self.asked is not None
            self.resetting = True

    def _reset(self, frame: Frame) -> None:
        reason = frame.data["reason"]
        assert self._lost_for(reason), f"a reset without a reason: {reason}"
        self.ledger.happened[f"{'open' if self.resetting else 'go on'}: {reason}"] += 1
        self.replaying = False
        if self.resetting:
            self.resetting = False
            assert frame.id == self.ids[-1]
        cursor = self._begin(frame)
        oldest = Cursor.parse(frame.data["oldest"])
        assert oldest.epoch == cursor.epoch
        assert oldest.position < self.ledger.oldest, "not all that is kept"
        self.ids.append(str(oldest))

    def _begin(self, frame: Frame) -> Cursor:
        """Count from a cursor: it is of a tape, and not beyond it."""
        cursor = Cursor.parse(frame.id)
        assert cursor.position <= len(self.ledger.tapes[cursor.epoch]), "a cursor beyond the log"
        self.epoch, self.position = cursor.epoch, cursor.position
        return cursor

    def _lost_for(self, reason: str) -> bool:
        """Return whether continuity is lost for this reason."""
        epoch, position = self.epoch, self.position
        if self.resetting:
            try:
                asked = Cursor.parse(self.asked)
            except ValueError:
                return reason == "malformed"
            epoch, position = asked.epoch, asked.position
            if reason == "ahead":
                return epoch == self.came.epoch and position > self.came.position
        if reason == "epoch":
            return epoch != self.ledger.epoch
        return reason == "pruned" and position + 1 < self.ledger.oldest

    def _event(self, frame: Frame) -> None:
        cursor = Cursor.parse(frame.id)
        assert cursor.epoch == self.epoch
        assert cursor.position > self.position, "twice, or out of order"
        fact = self.ledger.tapes[cursor.epoch][cursor.position - 1]
        assert not self.channels.isdisjoint(fact.channels), "another channel's event"
        assert frame.data["n"] == fact.n
        assert not self._revoked(range(1, cursor.position)), "an event placed after a revocation"
        assert not self._revoked(self.heeded), "an event written after a revocation"
        self._prove(frame.id, but=cursor.position)
        self.ledger.happened["event"] += 1

    def _prove(self, id_: str, but: int = 0) -> None:
        """Hold that nothing at or below a cursor is missing, but the event that carries it."""
        cursor = Cursor.parse(id_)
        assert cursor.epoch == self.epoch
        assert self.position <= cursor.position <= len(self.ledger.tapes[cursor.epoch])
        missing = self.ledger.of(self.epoch, self.channels, self.position, cursor.position)
        assert missing == ([but] if but else []), "a cursor that is not proven"
        self.position = cursor.position

    def _revoked(self, positions: range) -> bool:
        """Return whether an event of these took anything away since the permission was checked."""
        tape = self.ledger.tapes[self.epoch]
        return any(
            tape[p - 1].n > self.checked and tape[p - 1].concerns(self.user_id, self.channels)
            for p in positions
        )

    def may_be_revoked(self) -> bool:
        """Return whether anything was taken away since the permission was checked."""
        return (
            self.ledger.undone
            or self.since.epoch != self.ledger.epoch
            or any(
                fact.concerns(self.user_id, self.channels)
                for fact in self.ledger.tape[self.since.position :] + self.ledger.unplaced
            )
        )
