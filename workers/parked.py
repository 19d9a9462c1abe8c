"""Reactions that failed, as people see to them: try again, or let go; and how long they keep the log.

Safe beside the workers: a reaction that is being tried right now is left alone and counted as
busy, and one that is tried again goes before all that its subject's later events cause from then on.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from django.db import OperationalError, connection, transaction
from django.db.models import Func, Q, TextField, Value
from django.utils import timezone

from events import erasure, log, retention
from workers import reactions, wake
from workers.models import Checkpoint, Delivery

TURN_SECONDS = 4  # longest somebody's click waits for the reactions' turn; DATABASE_ANSWER_SECONDS is longer


@dataclass(frozen=True, slots=True)
class Outcome:
    """Which deliveries were dealt with; how many others were being tried, or are gone by now."""

    done: tuple[Delivery, ...]
    busy: int


def retry(ids: Iterable[int]) -> Outcome:
    """Have reactions tried now: parked ones with all their tries again, waiting ones with those left."""
    wanted = set(ids)
    try:
        with transaction.atomic():
            # No new event is reacted to in this moment: who reacts to the next one sees these wait.
            reactions.take_turn()
            with connection.cursor() as cursor:
                cursor.execute("SELECT set_config('lock_timeout', %s, true)", [f"{TURN_SECONDS}s"])
            list(Checkpoint.objects.select_for_update().filter(name=reactions.CHECKPOINT))
            rows = _lock(wanted)
            for row in rows:
                if row.parked_at is not None:
                    row.tries = 0
                row.parked_at = None
                row.due_at = timezone.now()
                row.save(update_fields=["tries", "parked_at", "due_at"])
            transaction.on_commit(lambda: wake.waker().wake(wake.REACT), robust=True)
    except OperationalError:
        return Outcome((), len(wanted))
    return Outcome(tuple(rows), len(wanted) - len(rows))


def drop(ids: Iterable[int]) -> Outcome:
    """Give reactions up for good: what they would have done is not done, and their subjects go on."""
    wanted = set(ids)
    with transaction.atomic():
        rows = _lock(wanted)
        Delivery.objects.filter(pk__in=[row.pk for row in rows]).delete()
        transaction.on_commit(lambda: wake.waker().wake(wake.REACT), robust=True)
    return Outcome(tuple(rows), len(wanted) - len(rows))


def _lock(ids: set[int]) -> list[Delivery]:
    return list(Delivery.objects.select_for_update(skip_locked=True).filter(pk__in=ids).order_by("position"))


# --- What the log may not forget yet, and what is forgotten with it ------------------------------


def read_to() -> int | None:
    """Return the position up to which no reaction needs the log any more; parked ones do not count."""
    names = [each.name for each in reactions.registered()]
    if not names:
        return None
    checkpoint = Checkpoint.objects.filter(name=reactions.CHECKPOINT).first()
    waiting = Delivery.objects.filter(Q(parked_at=None), reaction__in=names).order_by("position").first()
    return min(
        checkpoint.position if checkpoint else 0, *([waiting.position - 1] if waiting else [2**63 - 1])
    )


def _remove_pruned() -> int:
    """Remove what failed and can be tried no more: its event is gone."""
    return retention.remove_older(Delivery, "position", log.read(0, limit=1).oldest)


def _erase(user_id: int) -> int:
    """Of all failures keep only their kind: what one said may quote anybody."""
    kind = Func("error", Value(":"), Value(1), function="split_part", output_field=TextField())
    return Delivery.objects.filter(error__contains=":").update(error=kind)


retention.hold(read_to)
retention.leftover("failed reactions to pruned events", _remove_pruned)
erasure.register("failures", _erase)
