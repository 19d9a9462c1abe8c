"""Who has a job in hand: claim and lease, in the database, whatever the broker does.

A message from the broker is only a hint that a job is queued. It is claimed here, once: a
message that comes twice, late, or while the job runs finds nothing to do. A claim is held by a
lease that the run renews; where it lapses, because the process died or hangs, `lapsed` takes the
job away, and all that the old run still writes is refused: each claim has its number, `tries`.

None of it is a read model: it is about now. All times are the database's.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from time import time
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction
from django.db.models import F, QuerySet
from django.db.models.functions import Now

from events import jobs, registry
from events.channels import job_channel
from events.errors import Conflict
from events.jobs import JobFailed, JobOver, JobRetrying, JobSent, JobStarted, TaskComplete
from events.log import append
from events.models import Job, JobFile, JobRun

MOST_ERROR = 2_000  # characters of an error that are kept
RESEND_MOST = 20  # times the first wait: the longest between two messages for a job that stays queued


class RunLost(Conflict):
    """Another run has this job by now: this one was thought dead."""

    code = "run_lost"


@dataclass(frozen=True, slots=True)
class Claim:
    """A job in hand."""

    job_id: UUID
    tries: int
    name: str
    params: Any
    owner_id: int
    began: float


@dataclass(frozen=True, slots=True)
class Failure:
    """What went wrong, as the job's owner is told; and when to try again, if ever."""

    error: str
    error_type: str
    retry_seconds: float | None = None

    @classmethod
    def of(cls, error: BaseException, *, retry_seconds: float | None = None) -> "Failure":
        """Describe an exception, in what JSON has room for."""
        kind = type(error).__name__
        text = str(error).replace("\x00", "").encode("utf-8", "replace").decode()
        return cls(text[:MOST_ERROR] or kind, kind, retry_seconds)


# --- Where jobs stand, besides their rows -----------------------------------------------------------


def stopping(job_ids: Sequence[UUID]) -> set[UUID]:
    """Return those of some jobs that run, and were asked to stop."""
    asked = JobRun.objects.filter(job_id__in=job_ids, lease_until__isnull=False, cancel_at__isnull=False)
    return set(asked.values_list("job_id", flat=True))


def with_files(job_ids: Sequence[UUID]) -> set[UUID]:
    """Return those of some jobs whose file is kept still."""
    return set(JobFile.objects.filter(job_id__in=job_ids).values_list("job_id", flat=True))


# --- One run --------------------------------------------------------------------------------------


@transaction.atomic
def claim(job_id: UUID, *, task_id: str) -> Claim | None:
    """Take a queued job in hand; or return nothing, where it is not queued or not due."""
    run = jobs.lock(JobRun.objects.filter(pk=job_id, send_at__isnull=False, due_at__lte=Now()))
    if run is None:
        return None
    tries = run.tries + 1
    JobRun.objects.filter(pk=job_id).update(
        tries=tries, task_id=task_id, send_at=None, lease_until=_lease(), cancel_at=None, progress=None
    )
    job = Job.objects.get(pk=job_id)
    event = JobStarted(
        job_id=str(job_id),
        user_id=str(run.owner_id),
        task_type=job.name,
        attempt=tries,
        timestamp=int(time()),
    )
    jobs.record(event, run.owner_id)
    return Claim(job_id, tries, job.name, job.params, run.owner_id, time())


def beat(held: Claim, *, progress: Mapping[str, Any] | None = None) -> bool:
    """Renew the lease, with the latest progress; return whether the job is asked to stop. Raises RunLost."""
    runs = _held(held)
    changed = runs.update(lease_until=_lease(), **({} if progress is None else {"progress": dict(progress)}))
    if not changed:
        raise _lost(held)
    return runs.filter(cancel_at__isnull=False).exists()


@transaction.atomic
def send(held: Claim, data: Any, *, event: str | None = None) -> None:
    """Record something that the job's code says. Raises RunLost, PayloadInvalid, PayloadTooLarge."""
    said = JobSent(job_id=str(held.job_id), user_id=str(held.owner_id), event=event, data=_plain(data))
    with connection.cursor() as cursor:
        # Waits for who ends the run, and lets its lease be renewed however long this transaction takes.
        cursor.execute(
            "SELECT FROM events_jobrun WHERE job_id = %s AND tries = %s AND lease_until IS NOT NULL"
            " FOR KEY SHARE",
            [held.job_id, held.tries],
        )
        if not cursor.rowcount:
            raise _lost(held)
    append(said, channels=[job_channel(held.job_id)])


def attach(held: Claim, *, name: str, content: bytes | Iterable[bytes], content_type: str) -> None:
    """Keep a file, whole or in pieces, for the job's owner, in place of one that there was."""
    whole = content if isinstance(content, bytes) else _joined(content)
    _keep(held, name=name, content=whole, content_type=content_type)


@transaction.atomic
def _keep(held: Claim, *, name: str, content: bytes | bytearray, content_type: str) -> None:
    if not _held(held).exists():
        raise _lost(held)
    JobFile.objects.update_or_create(
        job_id=held.job_id,
        defaults={
            "owner_id": held.owner_id, "name": name, "content": content, "content_type": content_type
        },
    )  # fmt: skip


def complete(held: Claim, result: Any) -> None:
    """End the job with its result. Raises RunLost, PayloadInvalid, PayloadTooLarge."""
    plain = _plain(result)
    with _ending(_held(held)) as run:
        if run is None:
            raise _lost(held)
        event = TaskComplete(
            user_id=str(held.owner_id),
            job_id=str(held.job_id),
            task_type=held.name,
            result=plain,
            duration_ms=max(0, int((time() - held.began) * 1000)),
        )
        jobs.record(event, held.owner_id)


def fail(held: Claim, failure: Failure) -> None:
    """End this run; the job with it, unless the failure says when to try again. Raises RunLost."""
    if not _fail(_held(held), failure):
        raise _lost(held)


def stopped(held: Claim) -> None:
    """End the job because it heard that it was asked to. Raises RunLost."""
    with _ending(_held(held)) as run:
        if run is None:
            raise _lost(held)
        jobs.end_cancelled(run)


# --- From outside of the run: its process is gone, or was never begun ---------------------------------


def fail_task(task_id: str, describe: Callable[[str, int], Failure]) -> bool:
    """End the run that a message of the broker began; return whether it was the one in hand.

    `describe` makes the failure of the job's name and of which try it was.
    """
    with transaction.atomic():
        found = _found(jobs.lock(JobRun.objects.filter(task_id=task_id, lease_until__isnull=False)))
        return found is not None and fail_found(found, describe(found.name, found.tries))


def revoke_task(task_id: str) -> bool:
    """End a job whose message was revoked, queued or in hand; return whether there was one."""
    with _ending(JobRun.objects.filter(jobs.ALIVE, task_id=task_id)) as run:
        if run is not None:
            jobs.end_cancelled(run)
        return run is not None


@dataclass(frozen=True, slots=True)
class Found:
    """A job that a worker's clock has something to do for."""

    job_id: UUID
    name: str
    tries: int
    task_id: str


def take_lapsed() -> Found | None:
    """Return a job whose lease lapsed, locked until the transaction's end."""
    lapsed = JobRun.objects.filter(lease_until__lt=Now()).order_by("lease_until")
    return _found(lapsed.select_for_update(skip_locked=True).first())


def take_due() -> Found | None:
    """Return a queued job whose message is to be sent (again), locked until the transaction's end."""
    due = JobRun.objects.filter(send_at__lte=Now()).order_by("send_at")
    return _found(due.select_for_update(skip_locked=True).first())


def sent(found: Found, *, task_id: str) -> None:
    """Note that a message was sent, and when to send another if the job is queued still."""
    run = JobRun.objects.get(pk=found.job_id)
    # Longer each time: where workers are busy, messages must not become more and more.
    wait = settings.WORKERS_JOB_RESEND_SECONDS * min(2**run.sends, RESEND_MOST)
    JobRun.objects.filter(pk=found.job_id).update(
        task_id=task_id, sends=run.sends + 1, send_at=Now() + timedelta(seconds=wait)
    )


def unsent(found: Found, *, task_id: str) -> None:
    """Note that the message could not be sent after all: the next look tries again."""
    JobRun.objects.filter(pk=found.job_id, task_id=task_id, send_at__isnull=False).update(
        send_at=Now(), sends=F("sends") - 1
    )


def overdue(seconds: float) -> list[str]:
    """Return the broker's ids of runs that were asked to stop so long ago and go on."""
    asked = JobRun.objects.filter(lease_until__isnull=False, cancel_at__lt=Now() - timedelta(seconds=seconds))
    return list(asked.values_list("task_id", flat=True))


def fail_found(found: Found, failure: Failure) -> bool:
    """End a run that this transaction has locked."""
    return _fail(JobRun.objects.filter(pk=found.job_id), failure)


# --- What all of them do --------------------------------------------------------------------------------


def _held(held: Claim) -> QuerySet[JobRun]:
    return JobRun.objects.filter(pk=held.job_id, tries=held.tries, lease_until__isnull=False)


def _lost(held: Claim) -> Conflict:
    """Say why a run may write nothing: its job ended, or is another's by now."""
    state = Job.objects.values_list("state", flat=True).get(pk=held.job_id)
    return JobOver() if state in jobs.OVER else RunLost()


def _lease() -> Any:
    return Now() + timedelta(seconds=settings.WORKERS_JOB_LEASE_SECONDS)


@contextmanager
def _ending(runs: QuerySet[JobRun]) -> Iterator[JobRun | None]:
    """Lock a run and take it out of everybody's hand; the block records what that means."""
    with transaction.atomic():
        run = jobs.lock(runs)
        if run is not None:
            JobRun.objects.filter(pk=run.job_id).update(lease_until=None, send_at=None)
        yield run


def _fail(runs: QuerySet[JobRun], failure: Failure) -> bool:
    with _ending(runs) as run:
        if run is None:
            return False
        if run.cancel_at is not None:  # it was to end anyway: whatever ended it, it is not tried again
            jobs.end_cancelled(run)
            return True
        job_id, owner_id = str(run.job_id), str(run.owner_id)
        name = Job.objects.values_list("name", flat=True).get(pk=run.job_id)
        said = {"error": failure.error, "error_type": failure.error_type}
        if failure.retry_seconds is None:
            over = JobFailed(job_id=job_id, user_id=owner_id, task_type=name, timestamp=int(time()), **said)
            jobs.record(over, run.owner_id)
            return True
        wait = timedelta(seconds=failure.retry_seconds)
        JobRun.objects.filter(pk=run.job_id).update(due_at=Now() + wait, send_at=Now() + wait, sends=0)
        again = JobRetrying(
            job_id=job_id,
            user_id=owner_id,
            task_type=name,
            attempt=run.tries,
            retry_at=int(time() + failure.retry_seconds),
            **said,
        )
        jobs.record(again, run.owner_id)
        return True


def _found(run: JobRun | None) -> Found | None:
    if run is None:
        return None
    name = Job.objects.values_list("name", flat=True).get(pk=run.job_id)
    return Found(run.job_id, name, run.tries, run.task_id)


def _joined(pieces: Iterable[bytes]) -> bytearray:
    """Return pieces as one, without keeping any of them beside it."""
    whole = bytearray()
    for piece in pieces:
        whole += piece
    return whole


def _plain(value: Any) -> Any:
    """Return a value as JSON has it; raise PayloadInvalid for one that it has no form for."""
    return json.loads(registry.encode({"result": value}))["result"]
