"""Reactions: what follows from an event, once, in order, and without holding up the rest.

A reaction is a function that takes an event and appends others. It runs in the transaction
that moves the checkpoint past its cause, so its effect and the record of it are one. What it
appends is unique by (cause, kind, target), so even a run that was thought lost adds nothing.
One that fails waits with its subject's later events, is tried again with backoff, and after
the last try is parked, where an admin retries or drops it; its subject goes on.

A reaction may take many events together, and so ask the database once for all of them. Where that
fails it is given ever fewer, so that in the end just the event that it fails with is one that failed.
"""

import logging
import random
import time
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, TypeVar, overload

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Exists, OuterRef
from django.utils import timezone

from events import log, registry
from events.channels import Channel
from events.registry import EventType
from workers.models import Checkpoint, Delivery
from workers.together import MOST_TOGETHER, Held

logger = logging.getLogger(__name__)

CHECKPOINT = "reactions"
BATCH = 1_000  # events of one transaction: what a failure in the middle does again
TURN_SECONDS = 0.5  # then it commits: somebody's click may wait for an inbox that it has locked
FROZEN_SECONDS = 15  # a reactor that stops in its transaction gives its turn up after so long
FIRST_WAIT_SECONDS = 1.0
LONGEST_WAIT_SECONDS = 300.0

E = TypeVar("E", bound=EventType)
Crowds = Callable[[Set[str]], Set[str]]


@dataclass(frozen=True, slots=True)
class Cause:
    """The event that is reacted to."""

    entry: log.Entry
    event: EventType

    def append(
        self, event: EventType, *, target: str, channels: Sequence[Channel], actor_id: int | None = None
    ) -> log.EventId:
        """Append what follows, once for each (cause, kind, target)."""
        return log.append(
            event,
            channels=channels,
            actor_id=actor_id,
            caused_by=self.entry.id,
            unique_key=f"{self.entry.id}:{event.name()}:{target}",
        )


@dataclass(frozen=True, slots=True)
class Reaction:
    """A function and the events that it answers: one at a time, or many `together`, in their order."""

    name: str
    type: type[EventType]
    run: Callable[[Sequence[Cause]], None]
    together: bool = False
    crowds: Crowds | None = None


_reactions: dict[str, Reaction] = {}

One = Callable[[Cause], None]
Many = Callable[[Sequence[Cause]], None]


@overload
def reaction(to: type[EventType]) -> Callable[[One], One]: ...
@overload
def reaction(
    to: type[EventType], *, together: Literal[True], crowds: Crowds | None = None
) -> Callable[[Many], Many]: ...
def reaction(
    to: type[EventType], *, together: bool = False, crowds: Crowds | None = None
) -> Callable[[Any], Any]:
    """Register a function as a reaction to a type of event; its name identifies it for good.

    With `together` it is given many events at once. What it does about one must be the same as if it
    were given that one alone, after those before; and it may not count on other reactions' order.
    With `crowds`, which returns those of some subjects whose events may be for many people, it is given
    many more of the others.
    """

    def register(function: Any) -> Any:
        name = f"{function.__module__}.{function.__qualname__}"
        run = function if together else lambda causes: function(causes[0])
        _reactions[name] = Reaction(name, to, run, together, crowds)
        return function

    return register


def registered() -> Sequence[Reaction]:
    """Return every reaction, in the order of registration."""
    return tuple(_reactions.values())


def types() -> Set[str]:
    """Return the names of the types of event that anything reacts to."""
    return {each.type.name() for each in _reactions.values()}


def run() -> int:
    """React to everything that is placed and to what is due again; return how far that was, in positions."""
    total = 0
    while True:
        behind, due = _look()
        if behind and (passed := _react_to_new()):
            total += passed
        elif not (due and _retry_one()):
            return total


def _look() -> tuple[bool, bool]:
    """Tell, at little cost, whether anything is new and whether anything is due: most often nothing is."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT NOT EXISTS (SELECT FROM workers_checkpoint c"
            " WHERE c.name = %s AND c.position = l.head AND c.epoch = l.epoch),"
            " EXISTS (SELECT FROM workers_delivery d"
            " WHERE d.parked_at IS NULL AND d.due_at <= %s AND d.reaction = ANY (%s))"
            " FROM (SELECT * FROM events_logstate ORDER BY id DESC LIMIT 1) l",
            [CHECKPOINT, timezone.now(), list(_reactions)],
        )
        behind, due = cursor.fetchone()
    return behind, due


def take_turn() -> None:
    """Have the locks that this transaction takes not outlive a process that is frozen in it."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT set_config('idle_in_transaction_session_timeout', %s, true)", [f"{FROZEN_SECONDS}s"]
        )


def _react_to_new() -> int:
    """React to the next events, in one transaction; return how many positions that covers."""
    with transaction.atomic():
        take_turn()
        ours = Checkpoint.objects.select_for_update(skip_locked=True).filter(name=CHECKPOINT)
        checkpoint = ours.first()
        if checkpoint is None:
            _, new = Checkpoint.objects.get_or_create(name=CHECKPOINT)
            checkpoint = ours.first() if new else None
        if checkpoint is None:
            return 0  # another worker is at it
        page = log.read(checkpoint.position, types=types(), limit=BATCH)
        if checkpoint.epoch != page.epoch and checkpoint.position > page.began:
            # Another history: what it holds above the position at which it began was never reacted to.
            checkpoint.position = page.began
            page = log.read(checkpoint.position, types=types(), limit=BATCH)
        done = _take(page.entries)
        covered_to = page.covered_to if len(done) == len(page.entries) else done[-1].position
        if covered_to != checkpoint.position or page.epoch != checkpoint.epoch:
            checkpoint.position = covered_to
            checkpoint.epoch = page.epoch
            checkpoint.save(update_fields=["position", "epoch"])
    for place in [(name, entry.position) for name in _reactions for entry in done if _ended]:
        _ended.pop(place, None)
    return covered_to - page.after


def _take(entries: Sequence[log.Entry]) -> Sequence[log.Entry]:
    """React to events until a turn's time is over; return those that were come to, the first at least."""
    if not entries:
        return entries
    deadline = time.monotonic() + TURN_SECONDS
    answers: dict[str, list[Reaction]] = {}
    for each in registered():
        answers.setdefault(each.type.name(), []).append(each)
    waiting = _waiting()
    held = Held(lambda name, some: _react_together(_reactions[name], some, waiting, deadline))
    for each in registered():
        if each.crowds is not None:
            held.few[each.name] = _for_few(each, entries)
    for number, entry in enumerate(entries, start=1):
        for each in answers.get(entry.type, ()):
            if each.together:
                held.add(each.name, _subject(entry), entry)
            else:
                held.release(before=_subject(entry))
                _react(each, entry, waiting)
        if time.monotonic() > deadline:
            held.release()
            return entries[:number]
    held.release()
    return entries


def _for_few(each: Reaction, entries: Sequence[log.Entry]) -> Set[str]:
    """Return the subjects whose events are surely not for many people."""
    if each.crowds is None or len(entries) <= MOST_TOGETHER:
        return frozenset()  # whoever so few are for, they are taken together: it need not be asked
    subjects = {_subject(entry) for entry in entries if entry.type == each.type.name()}
    try:
        with transaction.atomic():
            return subjects - each.crowds(subjects)
    except Exception as failure:
        if connection.connection is None or connection.connection.closed:
            raise
        facts = {"reaction": each.name, "error": type(failure).__name__}
        logger.warning("Whom events are for could not be asked; fewer are taken together.", extra=facts)
        return frozenset()


def _react_together(
    each: Reaction, entries: Sequence[log.Entry], waiting: set[tuple[str, str]], deadline: float
) -> None:
    """Run a reaction for events at once; where that fails, for each half of them, down to single ones.

    Where all fail that takes long: at the end of the turn what is left waits, and is tried one by one.
    """
    free = []
    for entry in entries:
        if (each.name, _subject(entry)) in waiting:
            _react(each, entry, waiting)
        else:
            free.append(entry)
    if len(free) == 1:
        _react(each, free[0], waiting)
    elif free and not _attempt_together(each, free):
        if time.monotonic() > deadline:
            waiting.update((each.name, _subject(entry)) for entry in free)
        half = len(free) // 2
        _react_together(each, free[:half], waiting, deadline)
        _react_together(each, free[half:], waiting, deadline)


# Up to where a reaction takes events one by one: among them is one under which the session ended.
_doubted: dict[str, int] = {}


def _attempt_together(each: Reaction, entries: Sequence[log.Entry]) -> bool:
    """Run a reaction for events at once; return whether that went well. Raises as `_attempt`."""
    if entries[0].position <= _doubted.get(each.name, 0):
        return False
    try:
        with transaction.atomic():
            each.run([_cause(entry) for entry in entries])
    except Exception as failure:
        if connection.connection is None or connection.connection.closed:
            _doubted[each.name] = entries[-1].position
            raise
        logger.info(
            "Events that were taken together failed; fewer are tried.",
            extra={"reaction": each.name, "events": len(entries), "error": type(failure).__name__},
        )
        return False
    return True


def _cause(entry: log.Entry) -> Cause:
    return Cause(entry, registry.decode(entry.type, entry.version, entry.data))


def _waiting() -> set[tuple[str, str]]:
    rows = Delivery.objects.filter(parked_at=None).values_list("reaction", "subject").distinct()
    return set(rows)


def _subject(entry: log.Entry) -> str:
    return entry.channels[0] if entry.channels else ""


def _react(each: Reaction, entry: log.Entry, waiting: set[tuple[str, str]]) -> None:
    """Run a reaction, or have it wait: behind an earlier one of its subject, or for another try."""
    place = (each.name, _subject(entry))
    error = ""
    if place not in waiting:
        error = _attempt(each, entry)
        if not error:
            return
        waiting.add(place)
    Delivery.objects.get_or_create(
        reaction=each.name,
        position=entry.position,
        defaults={
            "subject": place[1],
            "tries": 1 if error else 0,
            "due_at": _due(1) if error else timezone.now(),
            "error": error,
        },
    )


# Reactions under which the database's session ended: of itself, or because they took longer than a turn
# may, or by a query that it does not survive. They are not run in everybody's transaction again.
_ended: dict[tuple[str, int], str] = {}


def _attempt(each: Reaction, entry: log.Entry) -> str:
    """Run a reaction; return what went wrong, or nothing.

    Raises where the connection is gone, and with it all that this transaction did.
    """
    if error := _ended.get((each.name, entry.position)):
        return error
    try:
        with transaction.atomic():
            each.run([_cause(entry)])
    except Exception as failure:
        if connection.connection is None or connection.connection.closed:
            _ended[each.name, entry.position] = "The database's session ended under it."
            raise
        logger.warning(
            "A reaction failed; it is tried again.",
            extra={"reaction": each.name, "position": entry.position, "error": type(failure).__name__},
        )
        return f"{type(failure).__name__}: {failure}"[:2000]
    return ""


def _retry_one() -> bool:
    """Run the first reaction that is due, where nothing of its subject is before it."""
    earlier = Delivery.objects.filter(
        reaction=OuterRef("reaction"),
        subject=OuterRef("subject"),
        position__lt=OuterRef("position"),
        parked_at=None,
    )
    with transaction.atomic():
        take_turn()
        delivery = (
            Delivery.objects.select_for_update(skip_locked=True)
            .filter(parked_at=None, due_at__lte=timezone.now(), reaction__in=list(_reactions))
            .exclude(Exists(earlier))
            .order_by("position")
            .first()
        )
        if delivery is None:
            return False
        each = _reactions[delivery.reaction]
        page = log.read(delivery.position - 1, limit=1)
        if not page.entries or page.entries[0].position != delivery.position:
            delivery.delete()  # pruned: there is nothing left to react to
            return True
        if error := _attempt(each, page.entries[0]):
            delivery.tries += 1
            delivery.error = error
            delivery.due_at = _due(delivery.tries)
            if delivery.tries >= settings.WORKERS_REACTION_TRIES:
                delivery.parked_at = timezone.now()
                logger.error(
                    "A reaction gave up and is parked.",
                    extra={"reaction": each.name, "position": delivery.position, "tries": delivery.tries},
                )
            delivery.save()
        else:
            delivery.delete()
    _ended.pop((each.name, delivery.position), None)
    return True


def _due(tries: int) -> datetime:
    wait = min(FIRST_WAIT_SECONDS * 2 ** (tries - 1), LONGEST_WAIT_SECONDS)
    return timezone.now() + timedelta(seconds=wait * random.uniform(0.5, 1.5))  # noqa: S311
