"""Jobs: their events, what people do with them, and the rows folded from the log.

A job is queued by its owner and run by a worker; `events.runs` says who has it in hand. What
became of it is on the log, so the row of `Job` is folded from events and can be made anew.
Claim, lease and the last progress are in `JobRun`: they are about now, and no history tells
them. Every change of a job locks its `JobRun` first, so the order of its events is the order
in which they changed it.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from time import time
from typing import Annotated, Any, ClassVar
from uuid import UUID, uuid4

from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser
from django.db import connection, transaction
from django.db.models import Q, QuerySet
from django.db.models.functions import Now
from django.utils import timezone
from pydantic import Field

from events import channels, erasure, log, readmodels, retention
from events.channels import job_channel, user_channel
from events.erasure import ERASED
from events.errors import ChannelUnknown, Conflict, NotFound, TickertapeError
from events.log import EventId, append
from events.models import ChannelPosition, Job, JobFile, JobRun
from events.readmodels import ReadModel
from events.registry import EventType

State = Job.State
UserId = Annotated[str, Field(pattern=r"^[1-9][0-9]{0,17}$")]  # other programs may append these types too


class JobUnknown(NotFound):
    """There is no such job."""

    code = "job_unknown"


class JobOver(Conflict):
    """The job is over."""

    code = "job_over"


class TooManyJobs(TickertapeError):
    """You have as many jobs waiting or running as you may: wait for one to end, or cancel one."""

    code = "too_many_jobs"
    status = 429


class JobQueued(EventType):
    """Somebody asked for a job. `timestamp` is in Unix seconds."""

    personal: ClassVar = {"params": "user_id"}
    sent_on: ClassVar = ("job", "user")

    job_id: str
    user_id: UserId
    task_type: str
    params: Any
    timestamp: int


class JobStarted(EventType):
    """A worker has the job in hand, for the `attempt`th time."""

    sent_on: ClassVar = ("job", "user")

    job_id: str
    user_id: UserId
    task_type: str
    attempt: int
    timestamp: int


class JobProgressed(EventType):
    """How far a job is. The latest is all there is: not recorded, and not every one is sent."""

    transient: ClassVar = True
    sent_on: ClassVar = ("job",)
    example: ClassVar = {"message": "3 of 10 files"}

    job_id: str
    done: int | float
    total: int | float | None = None
    message: str = ""


class JobSent(EventType):
    """A job's code sent something; `event` is what it calls that, if anything."""

    personal: ClassVar = {"data": "user_id"}
    sent_on: ClassVar = ("job",)

    job_id: str
    user_id: UserId
    event: str | None = None
    data: Any


class JobRetrying(EventType):
    """A job failed and is tried again at `retry_at` (Unix seconds)."""

    personal: ClassVar = {"error": "user_id"}
    sent_on: ClassVar = ("job", "user")

    job_id: str
    user_id: UserId
    task_type: str
    attempt: int
    error: str
    error_type: str
    retry_at: int


class TaskComplete(EventType):
    """A job is done."""

    personal: ClassVar = {"result": "user_id"}
    sent_on: ClassVar = ("job", "user")

    user_id: UserId
    job_id: str
    task_type: str
    result: Any = None
    duration_ms: int


class JobFailed(EventType):
    """A job failed for good."""

    personal: ClassVar = {"error": "user_id"}
    sent_on: ClassVar = ("job", "user")

    job_id: str
    user_id: UserId
    task_type: str
    error: str
    error_type: str
    timestamp: int


class JobCancelled(EventType):
    """A job was stopped because somebody asked for that."""

    sent_on: ClassVar = ("job", "user")

    job_id: str
    user_id: UserId
    task_type: str
    timestamp: int


FILES_KEPT = timedelta(days=7)  # time to download one; the job can be run again
FINAL = (TaskComplete, JobFailed, JobCancelled)
ALIVE = Q(lease_until__isnull=False) | Q(send_at__isnull=False)  # of a `JobRun`: in hand, or waiting
LAST_FEW = 20  # of a job's events: a run that is taken away may say something after the end
OVER = frozenset({State.COMPLETE, State.FAILED, State.CANCELLED})
# What a job's row is folded from; not what its code sends, which changes nothing.
LIFE = (JobQueued, JobStarted, JobRetrying, *FINAL)


# --- What people do --------------------------------------------------------------------------


@transaction.atomic
def queue(user: AbstractBaseUser, *, name: str, params: Mapping[str, Any]) -> Job:
    """Ask for a job; who knows the name has checked the parameters. Raises TooManyJobs, PayloadInvalid."""
    _check_room(user)
    job_id = uuid4()
    event = JobQueued(
        job_id=str(job_id), user_id=str(user.pk), task_type=name, params=dict(params), timestamp=int(time())
    )
    JobRun.objects.create(job_id=job_id, owner_id=user.pk, due_at=Now(), send_at=Now())
    record(event, user.pk, actor_id=user.pk)
    return Job.objects.get(pk=job_id)


def _check_room(user: AbstractBaseUser) -> None:
    """Raise TooManyJobs where a user has as many as they may; others who ask for them wait for us."""
    most = settings.EVENTS_JOBS_PER_USER
    if not most:
        return
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended('tickertape jobs', %s))", [user.pk])
    if JobRun.objects.filter(ALIVE, owner_id=user.pk).count() >= most:
        raise TooManyJobs


def jobs_of(user: AbstractBaseUser) -> QuerySet[Job]:
    """Return somebody's jobs."""
    return Job.objects.filter(owner_id=user.pk)


def get_job(user: AbstractBaseUser, job_id: UUID) -> Job:
    """Return a job to its owner; to anybody else there is none."""
    job = jobs_of(user).filter(pk=job_id).first()
    if job is None:
        raise JobUnknown
    return job


def progress_of(job_ids: list[UUID]) -> dict[UUID, Any]:
    """Return the latest progress of those jobs that told any."""
    found = JobRun.objects.filter(job_id__in=job_ids, progress__isnull=False)
    return {run.job_id: run.progress for run in found}


@transaction.atomic
def cancel(user: AbstractBaseUser, job_id: UUID) -> None:
    """Stop a job: at once where it waits; where it runs, it is asked to, and made to after a while.

    Once more changes nothing. Raises JobUnknown, JobOver.
    """
    run = lock(JobRun.objects.filter(pk=job_id, owner_id=user.pk))
    if run is None:
        raise JobUnknown
    if run.lease_until is not None:
        JobRun.objects.filter(pk=job_id, cancel_at=None).update(cancel_at=Now())
    elif run.send_at is not None:
        JobRun.objects.filter(pk=job_id).update(send_at=None)
        end_cancelled(run, actor_id=user.pk)
    elif Job.objects.get(pk=job_id).state != State.CANCELLED:
        raise JobOver


def last_event(job_id: UUID) -> log.Entry | None:
    """Return the event that ended a job which is over, placed; nothing where it was pruned."""
    channel, ends = job_channel(job_id), {kind.name() for kind in FINAL}
    for _ in range(2):
        held = ChannelPosition.objects.filter(channel=channel).order_by("-position")
        few = list(held.values_list("position", flat=True)[:LAST_FEW])
        page = log.read(few[-1] - 1, channels=[channel], limit=LAST_FEW) if few else None
        for entry in reversed(page.entries if page else ()):
            if entry.type in ends:
                return entry
        while log.place().count:  # it is committed, for the row says so
            pass
    return None


def lock(runs: QuerySet[JobRun]) -> JobRun | None:
    """Return the one run of a query, locked until the transaction's end."""
    return runs.select_for_update().first()


def end_cancelled(run: JobRun, *, actor_id: int | None = None) -> None:
    """Record, for a run that is locked and in nobody's hand, that its job was stopped."""
    name = Job.objects.values_list("name", flat=True).get(pk=run.job_id)
    event = JobCancelled(
        job_id=str(run.job_id), user_id=str(run.owner_id), task_type=name, timestamp=int(time())
    )
    record(event, run.owner_id, actor_id=actor_id)


def record(event: EventType, owner_id: int, *, actor_id: int | None = None) -> None:
    """Append an event of a job's life where its owner hears it, and fold it into the row."""
    job_id: str = event.job_id  # type: ignore[attr-defined]  # which all of `LIFE` have
    heard = [job_channel(job_id), user_channel(owner_id)]
    _fold(event, append(event, channels=heard, actor_id=actor_id))


# --- The fold: from events to rows --------------------------------------------------------------


def _fold(event: EventType, event_id: EventId) -> None:
    """Change the row as an event says. Of an event that finds no row, nothing comes."""
    match event:
        case JobQueued():
            Job(
                id=UUID(event.job_id),
                event_id=event_id,
                owner_id=int(event.user_id),
                name=event.task_type,
                params=event.params,
                queued_at=_moment(event.timestamp),
            ).save(force_insert=True)
        case JobStarted():
            _change(
                event.job_id, state=State.RUNNING, tries=event.attempt, started_at=_moment(event.timestamp)
            )
        case JobRetrying():
            _change(event.job_id, state=State.QUEUED, error=event.error, error_type=event.error_type)
        case TaskComplete():
            job = _row(event.job_id).first()
            began = None if job is None else job.started_at
            ended = None if began is None else began + timedelta(milliseconds=event.duration_ms)
            _change(
                event.job_id,
                state=State.COMPLETE,
                result=event.result,
                error="",
                error_type="",
                ended_at=ended,
            )
        case JobFailed():
            _change(
                event.job_id,
                state=State.FAILED,
                error=event.error,
                error_type=event.error_type,
                ended_at=_moment(event.timestamp),
            )
        case JobCancelled():
            _change(event.job_id, state=State.CANCELLED, ended_at=_moment(event.timestamp))


def _row(job_id: str) -> QuerySet[Job]:
    # An event of another program may name a job that is none of ours, by whatever it calls it.
    try:
        return Job.objects.filter(pk=UUID(job_id))
    except ValueError:
        return Job.objects.none()


def _change(job_id: str, **fields: Any) -> None:
    _row(job_id).update(**fields)


def _moment(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


# --- Who may read, what is told first, and what of a person is here -------------------------------


# One statement is one snapshot: what is told never mixes two states of a job.
LATEST = """
WITH told AS (
    SELECT j.id, j.name, j.state, j.result, nullif(j.error, '') AS error, r.progress,
           r.lease_until IS NOT NULL AND r.cancel_at IS NOT NULL AS stopping
    FROM events_job j JOIN events_jobrun r ON r.job_id = j.id
    WHERE j.id = ANY (%(keys)s::uuid[])
)
SELECT 'JobState', jsonb_build_object('job_id', id, 'task_type', name, 'state', state,
                                      'progress', progress, 'result', result, 'error', error,
                                      'stopping', stopping)
FROM told
UNION ALL
SELECT 'JobProgressed', jsonb_build_object('job_id', id) || progress
FROM told WHERE state = 'running' AND progress IS NOT NULL
"""


class JobState(EventType):
    """Where a job stands: told to who comes late, and when it is asked to stop. Not recorded."""

    transient: ClassVar = True
    sent_on: ClassVar = ("job",)
    example: ClassVar = {"result": None, "error": None}

    job_id: str
    task_type: str
    state: str
    progress: Any = None
    result: Any = None
    error: str | None = None
    stopping: bool = False


def _may_read(user: AbstractBaseUser, key: str) -> None:
    """Let a job's owner read; a job of another's is none at all, and an id has one spelling."""
    if not channels.JOB_ID.fullmatch(key) or not jobs_of(user).filter(pk=UUID(key)).exists():
        raise ChannelUnknown(f"There is no job {key}.")


def _erase(user_id: int) -> int:
    """Overwrite what somebody asked for and got, as erasure overwrites the events it was folded from."""
    JobFile.objects.filter(owner_id=user_id).delete()
    JobRun.objects.filter(owner_id=user_id).update(progress=None)
    theirs = Job.objects.filter(owner_id=user_id)
    theirs.exclude(result=None).update(result=ERASED)
    theirs.exclude(error="").update(error=ERASED)
    return theirs.exclude(params=ERASED).update(params=ERASED)


channels.register(
    "job",
    key=channels.JOB_KEY,
    may_read=_may_read,
    # The one spelling first: another is no UUID to the database, and would fail the whole question.
    allows=f"""CASE WHEN asked.key ~ '^{channels.JOB_ID.pattern}$' THEN EXISTS (
        SELECT FROM events_job AS job WHERE job.id = asked.key::uuid AND job.owner_id = reader.id) END""",
    latest=LATEST,
    latest_key=channels.JOB_ID,
    about="A job, from its start to its end. Whoever asked for it reads it.",
)
readmodels.register(ReadModel("jobs", table=Job, born_of="event_id", types=LIFE, fold=_fold))
erasure.register("jobs", _erase)
retention.leftover(
    "job files", lambda: retention.remove_older(JobFile, "created_at", timezone.now() - FILES_KEPT)
)
