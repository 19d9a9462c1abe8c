"""How many events are taken together: as many as pay, and no more than are done soon."""

import time
from collections.abc import Callable, Sequence, Set
from typing import ClassVar

from events.log import Entry

TOGETHER_SECONDS = 0.1  # as many are taken together as are done in so long: a turn's end must not be far
FIRST_TOGETHER = 8  # events: so few at the begin of a turn, until it is known how soon they are done
MOST_TOGETHER = 64  # events: each of them may be for a crowd, though all before were for one
MOST_FOR_FEW = 512  # events of which it is known that none is: more of them make none cheaper


class Held:
    """Events that reactions take together in one turn, until there are enough of them.

    `few` are by reaction the subjects whose events are surely for few people.
    """

    _few: ClassVar[dict[str, int]] = {}  # with so many a turn begins where FIRST_TOGETHER took too long

    def __init__(self, react: Callable[[str, Sequence[Entry]], None]) -> None:
        self.few: dict[str, Set[str]] = {}
        self._react_to = react
        self._enough = dict(self._few)  # of each reaction: so many were done soon enough
        self._entries: dict[str, list[Entry]] = {}
        self._subjects: dict[str, str] = {}  # whose events are held, and for which reaction
        self._most: dict[str, int] = {}  # of each reaction, of what it holds now

    def add(self, name: str, subject: str, entry: Entry) -> None:
        """Hold an event for a reaction; when they are enough, react to them."""
        if self._subjects.get(subject, name) != name:
            self.release()  # what another reaction does about the subject comes before
        if subject not in self.few.get(name, ()):
            if len(self._entries.get(name, ())) >= MOST_TOGETHER:
                self._react(name)  # before a crowd's is among them
            self._most[name] = MOST_TOGETHER
        held = self._entries.setdefault(name, [])
        held.append(entry)
        self._subjects[subject] = name
        if len(held) >= min(self._enough.get(name, FIRST_TOGETHER), self._most.get(name, MOST_FOR_FEW)):
            self._react(name)

    def release(self, *, before: str | None = None) -> None:
        """React to all that are held; or only if one is of this subject, another of which comes after it."""
        if before is None or before in self._subjects:
            for name in list(self._entries):
                self._react(name)
            self._subjects.clear()

    def _react(self, name: str) -> None:
        held = self._entries.pop(name, [])
        most = self._most.pop(name, MOST_FOR_FEW)
        began = time.monotonic()
        self._react_to(name, held)
        took = time.monotonic() - began
        enough = self._enough.get(name, FIRST_TOGETHER)
        if took > TOGETHER_SECONDS:
            enough = max(1, int(len(held) * TOGETHER_SECONDS / took))
        elif len(held) >= min(enough, most):  # one's cost may be very different from the next: by and by
            enough = max(enough, min(2 * enough, most))
        self._enough[name] = enough
        self._few[name] = min(enough, FIRST_TOGETHER)
