"""The ledger: what publishers recorded, what clients got, and what is wrong between them.

It does not trust the log: that holds what it should only if it agrees with the publishers' own
record. Only then is it the measure for what each subscriber should have got.
"""

import re
import threading
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum

from tests.chaos.tape import Saw, Tape, word

SHOWN = 10  # of each kind of wrong: enough to begin looking
_REBUILT = re.compile(r"^Rebuilt (\S+) in .*: (\d+) rows, (\d+) removed, (\d+) added\.$", re.MULTILINE)


class Outcome(IntEnum):
    """What a publisher knows of an append."""

    UNKNOWN = 0  # in the log or not, but never twice
    ACKNOWLEDGED = 1  # in the log, once
    ROLLED_BACK = 2  # never in the log


class Record:
    """What the publishers did, by their own account; a token is a number that no other append has."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._outcomes = bytearray()
        self._publishers: list[str] = []
        self._channels: list[tuple[str, ...]] = []

    def intend(self, publisher: str, channels: Sequence[str]) -> int:
        """Note an append before it is tried; return its token."""
        with self._lock:
            self._outcomes.append(Outcome.UNKNOWN)
            self._publishers.append(publisher)
            self._channels.append(tuple(sorted(channels)))
            return len(self._outcomes) - 1

    def know(self, token: int, outcome: Outcome) -> None:
        """Note what became of an append."""
        self._outcomes[token] = outcome

    def __len__(self) -> int:
        return len(self._outcomes)

    def count(self, outcome: Outcome) -> int:
        """Return how many appends had this outcome."""
        return self._outcomes.count(outcome)

    def outcome(self, token: int) -> Outcome:
        """Return what is known of an append."""
        return Outcome(self._outcomes[token])

    def publisher(self, token: int) -> str:
        """Return who appended."""
        return self._publishers[token]

    def channels(self, token: int) -> tuple[str, ...]:
        """Return where it was to go."""
        return self._channels[token]


@dataclass(frozen=True, slots=True)
class Row:
    """An event as the log holds it; a token of -1 is an event that no publisher of ours appended."""

    position: int
    channels: tuple[str, ...]
    token: int


@dataclass(slots=True)
class Verdict:
    """The counts of what is wrong, and some of it in words."""

    counts: Counter[str] = field(default_factory=Counter)
    words: dict[str, list[str]] = field(default_factory=dict)

    LOST = "lost"
    DUPLICATED = "duplicated"
    OUT_OF_ORDER = "out of order"
    RESETS = "unexplained resets"
    STRANGE = "anything else wrong"

    def blame(self, what: str, words: str, *, times: int = 1) -> None:
        """Count something wrong."""
        self.counts[what] += times
        said = self.words.setdefault(what, [])
        if len(said) < SHOWN:
            said.append(words)

    @property
    def good(self) -> bool:
        """Tell whether nothing is wrong."""
        return not any(self.counts.values())


WRONGS = (Verdict.LOST, Verdict.DUPLICATED, Verdict.OUT_OF_ORDER, Verdict.RESETS, Verdict.STRANGE)


def judge(record: Record, rows: Sequence[Row], tapes: Iterable[Tape]) -> Verdict:
    """Hold the log against the record, and what every subscriber got against both."""
    verdict = Verdict()
    judge_log(record, rows, verdict)
    by_channel: dict[str, list[Row]] = {}
    for row in rows:
        for channel in row.channels:
            by_channel.setdefault(channel, []).append(row)
    head = rows[-1].position if rows else 0
    for tape in tapes:
        expected = {
            row.position: row.token for channel in tape.channels for row in by_channel.get(channel, ())
        }
        _Walk(tape, expected, head, verdict).judge()
    return verdict


def judge_log(record: Record, rows: Sequence[Row], verdict: Verdict) -> None:
    """Hold the log against the publishers' record."""
    _judge_times(record, Counter(row.token for row in rows if row.token >= 0), verdict)
    newest: dict[tuple[str, str], int] = {}
    for expected, row in enumerate(rows, start=1):
        if row.position != expected:
            verdict.blame(Verdict.STRANGE, f"position {row.position} stands where {expected} should")
            return
        if 0 <= row.token < len(record):
            _judge_place(record, row, newest, verdict)


def _judge_times(record: Record, times: Counter[int], verdict: Verdict) -> None:
    """Hold how often each append is in the log against what its publisher knows."""
    for token in range(len(record)):
        outcome, found = record.outcome(token), times.pop(token, 0)
        if outcome is Outcome.ACKNOWLEDGED and not found:
            verdict.blame(Verdict.LOST, f"{word(token)} was acknowledged and is not in the log")
        if outcome is Outcome.ROLLED_BACK and found:
            verdict.blame(Verdict.STRANGE, f"{word(token)} was rolled back and is in the log")
        if found > 1:
            verdict.blame(Verdict.DUPLICATED, f"{word(token)} is in the log {found} times", times=found - 1)
    for token in times:
        verdict.blame(Verdict.STRANGE, f"{word(token)} is in the log and nobody appended it")


def _judge_place(record: Record, row: Row, newest: dict[tuple[str, str], int], verdict: Verdict) -> None:
    """Hold where an event stands against what its publisher appended there before.

    A publisher's tokens rise, and it appends one after the other was acknowledged.
    """
    if record.channels(row.token) != tuple(sorted(row.channels)):
        verdict.blame(Verdict.STRANGE, f"{word(row.token)} went to {row.channels}")
    if record.outcome(row.token) is not Outcome.ACKNOWLEDGED:
        return
    for channel in row.channels:
        key = (record.publisher(row.token), channel)
        before = newest.get(key, -1)
        if row.token < before:
            verdict.blame(
                Verdict.OUT_OF_ORDER,
                f"{word(row.token)} of {key[0]} at {row.position} is after {word(before)}",
            )
        newest[key] = max(row.token, before)


@dataclass(frozen=True, slots=True)
class Comment:
    """A comment as the log holds it."""

    position: int
    item: str
    author: str


def judge_reactions(
    owners: Mapping[str, str],
    comments: Sequence[Comment],
    told: Mapping[tuple[int, str], int],
    verdict: Verdict,
) -> None:
    """Hold who was told of each comment, and how often, against who owns its item or commented before.

    `told` counts notifications by the comment's position and the user. Who commented later may
    have been told as well, but nobody twice.
    """
    concerned = {item: {owner} for item, owner in owners.items()}
    for comment in comments:
        there = concerned[comment.item]
        for user in sorted(there - {comment.author}):
            if (comment.position, user) not in told:
                verdict.blame(Verdict.LOST, f"user {user} was not told of comment {comment.position}")
        there.add(comment.author)
    for (position, user), times in told.items():
        if times > 1:
            words = f"user {user} was told of comment {position} {times} times"
            verdict.blame(Verdict.DUPLICATED, words, times=times - 1)


def judge_rebuilds(names: Sequence[str], printed: str, verdict: Verdict) -> int:
    """Hold the read models against the log, by what `manage.py rebuild` printed; return their rows."""
    found = {
        name: (int(rows), int(removed), int(added))
        for name, rows, removed, added in _REBUILT.findall(printed)
    }
    for name in names:
        if name not in found:
            verdict.blame(Verdict.STRANGE, f"the read model {name} was not rebuilt")
        elif found[name][1:] != (0, 0):
            _, removed, added = found[name]
            words = f"a rebuild of {name} from the log changed it: {removed} removed, {added} added"
            verdict.blame(Verdict.STRANGE, words)
    return sum(rows for rows, *_ in found.values())


def judge_faults(
    done: Counter[str], missed: Counter[str], late: Mapping[str, set[str]], verdict: Verdict
) -> None:
    """Hold what was broken against what was to be, and each recovery against its having an end.

    `late` holds by the kind of fault who never got an event that was appended after its end.
    """
    for kind in sorted(missed):
        if not done[kind]:
            verdict.blame(Verdict.STRANGE, f"never done in {missed[kind]} tries, so nothing is shown: {kind}")
    for kind, who in sorted(late.items()):
        verdict.blame(Verdict.STRANGE, f"no recovery from: {kind}; {len(who)} wait: {sorted(who)[:5]} …")


class _Walk:
    """One subscriber's tape, held against what the log has for it, from its first opening on."""

    def __init__(self, tape: Tape, expected: Mapping[int, int], head: int, verdict: Verdict) -> None:
        self._tape = tape
        self._expected = expected
        self._head = head
        self._verdict = verdict
        self._began = -1
        self._cursor = -1
        self._seen: set[int] = set()
        self._came_with_id = False

    def judge(self) -> None:
        """Walk along the tape; blame what is wrong, and what is missing at its end."""
        for kind, position, token in self._tape:
            if kind == Saw.EVENT:
                self._event(position, token)
            elif kind == Saw.CONNECT:
                # One that does not say its id has one from its first opening on.
                self._came_with_id = position >= 0 or (position == -2 and self._began >= 0)
            else:
                self._control(Saw(kind), position)
            if kind != Saw.CONNECT:
                self._cursor = max(self._cursor, position)
        if self._began < 0:
            self._blame(Verdict.LOST, "never had a stream opened")
            return
        lost = sorted(p for p in self._expected if p > self._began and p not in self._seen)
        if lost:
            words = f"did not get {len(lost)} events after {self._began}: {lost[:5]} …"
            self._blame(Verdict.LOST, words, times=len(lost))

    def _control(self, saw: Saw, position: int) -> None:
        match saw:
            case Saw.RESET:
                self._blame(Verdict.RESETS, f"was reset at {self._cursor}: {self._tape.why}")
            case Saw.LIVE if self._came_with_id:
                self._blame(Verdict.STRANGE, f"came with an id and went live at {position} without a reset")
            case Saw.RESUMED | Saw.MARK if position < self._cursor:
                self._blame(Verdict.STRANGE, f"stood at {self._cursor} and was told {position}")
            case Saw.GAVE_UP:
                self._blame(Verdict.LOST, f"gave up: {self._tape.why}")
            case Saw.ENDED_WRONG:
                self._blame(Verdict.STRANGE, f"was ended at {self._cursor}: {self._tape.ended_wrong}")
            case Saw.STRANGE:
                self._blame(Verdict.STRANGE, f"was given what is of no place in this log: {position}")
        if saw in (Saw.LIVE, Saw.RESET) and self._began < 0:
            self._began = position

    def _event(self, position: int, token: int) -> None:
        if self._began < 0:
            self._blame(Verdict.STRANGE, f"got {position} before its stream was opened")
        elif position in self._seen:
            self._blame(Verdict.DUPLICATED, f"got {position} again")
        elif position <= self._cursor:
            self._blame(Verdict.OUT_OF_ORDER, f"got {position} when it stood at {self._cursor}")
        if position <= self._head and position not in self._expected:
            self._blame(Verdict.STRANGE, f"got {position}, which is not for it")
        elif token >= 0 and token != self._expected.get(position, token):
            self._blame(Verdict.STRANGE, f"got {word(token)} as {position}")
        self._seen.add(position)

    def _blame(self, what: str, words: str, *, times: int = 1) -> None:
        self._verdict.blame(what, f"{self._tape.name} {words}", times=times)
