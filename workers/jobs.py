"""Jobs: a function that becomes one, the handle that its code gets, and what keeps it going.

    @job("export", params=Export)
    def export(job: Handle, params: Export) -> Any:
        job.progress(1, 10, "rows")

The broker's messages are hints: each is claimed in the database before anything runs, so one that
is lost is sent again and one that comes twice runs once. The run renews its lease from a thread of
its own; a worker's clock takes away those that lapsed. Celery's signals, in the worker's main
process, say at once what a killed, timed-out or revoked process cannot say any more itself.
"""

import json
import logging
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from celery import Task, current_app, shared_task, signals
from celery.exceptions import Retry, SoftTimeLimitExceeded, TimeLimitExceeded
from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser
from django.db import DatabaseError, connection, transaction
from django.utils import timezone
from kombu.exceptions import OperationalError as BrokerAway
from pydantic import BaseModel, ConfigDict, ValidationError
from redis.exceptions import RedisError

from events import jobs, runs
from events.errors import FieldError, Invalid, NotFound, TickertapeError
from events.models import Job
from events.runs import Claim, Failure
from workers import wake
from workers.handle import Cancelled, Handle, Pulse, insist

logger = logging.getLogger(__name__)

TASK_PREFIX = "jobs."
FIRST_RETRY_SECONDS = 1.0
LONGEST_RETRY_SECONDS = 300.0
UNSTEADY_SECONDS = 3.0  # between two looks of the clock: more means that the database, or we, were away
TOO_LONG = "It took longer than it may."
BROKER_AWAY = (BrokerAway, RedisError, OSError)

Work = Callable[[Handle, Any], Any]


class NameUnknown(NotFound):
    """There is no job of this name."""

    code = "job_name_unknown"


class Params(BaseModel):
    """A job's parameters: subclass it; by itself it stands for none."""

    model_config = ConfigDict(extra="forbid")


@dataclass(frozen=True, slots=True)
class Definition:
    """A job that can be asked for by its name."""

    name: str
    work: Work
    params: type[BaseModel]
    version: str
    retries: int
    retry_on: tuple[type[BaseException], ...]
    retry_seconds: float


_definitions: dict[str, Definition] = {}


def job(
    name: str,
    *,
    params: type[BaseModel] = Params,
    version: str = "1",
    retries: int = 0,
    retry_on: tuple[type[BaseException], ...] = (Exception,),
    retry_seconds: float = FIRST_RETRY_SECONDS,
    **options: Any,
) -> Callable[[Work], Work]:
    """Make a function a job that is asked for by a name.

    It is called with a `Handle` and its parameters. What it returns is the job's result; what it raises
    ends the job, unless that is of `retry_on` and fewer than `retries` were made. A run whose process
    dies counts as one too, so only what may run twice should allow any. Waits double, from
    `retry_seconds`. Other options are those of a Celery task, as `time_limit`.
    """

    def register(work: Work) -> Work:
        _definitions[name] = Definition(name, work, params, version, retries, retry_on, retry_seconds)

        @shared_task(name=TASK_PREFIX + name, base=JobTask, bind=True, **options)  # type: ignore[untyped-decorator]
        def run(self: Task, job_id: str) -> None:
            _run(_definitions[name], UUID(job_id), self.request.id)

        return work

    return register


def definition(name: str) -> Definition:
    """Return a job's definition; raise NameUnknown."""
    if name not in _definitions:
        raise NameUnknown(f"There is no job called {name!r}.")
    return _definitions[name]


def start(user: AbstractBaseUser, name: str, params: Mapping[str, Any]) -> Job:
    """Ask for a job in somebody's name; it is sent to the workers after the transaction's commit.

    Raises NameUnknown; Invalid, naming the parameters that are wrong; TooManyJobs.
    """
    found = definition(name)
    try:
        # As JSON: strictly, and still with what JSON has no form of its own for, as a date.
        checked = found.params.model_validate_json(json.dumps(params), strict=True)
    except ValidationError as error:
        raise Invalid(
            errors=tuple(
                FieldError(".".join(map(str, fault["loc"])) or "params", fault["msg"])
                for fault in error.errors()
            )
        ) from None
    queued = jobs.queue(user, name=name, params=checked.model_dump(mode="json"))
    transaction.on_commit(lambda: wake.waker().wake(wake.JOBS), robust=True)
    return queued


# --- In the process that runs it ------------------------------------------------------------------------


class JobTask(Task):  # type: ignore[misc]
    """A Celery task that is a job: the database and not the broker brings it back."""

    abstract = True
    acks_late = False  # so that a broker's visibility time-out has nothing to give out again
    reject_on_worker_lost = False
    ignore_result = True


def _run(found: Definition, job_id: UUID, task_id: str) -> None:
    """Run a job, if it is there to be run; say how it ended."""
    held = insist(lambda: runs.claim(job_id, task_id=task_id))
    if held is None:
        logger.info(
            "A message for a job was left: it runs elsewhere, or is over.", extra={"job": str(job_id)}
        )
        return
    pulse = Pulse(held)
    handle = Handle(held, pulse)
    pulse.start()
    try:
        end = _work(found, handle, held)
    finally:
        pulse.stop()  # tells the last progress; from here on nothing renews the lease
    try:
        insist(end)
    except (runs.RunLost, jobs.JobOver):
        logger.warning("A job's run was given up while it went on.", extra={"job": str(job_id)})
    finally:
        connection.close()  # the job's code may have left it in any state


def _work(found: Definition, handle: Handle, held: Claim) -> Callable[[], None]:
    """Call the job's code; return what records its end."""
    try:
        result = found.work(handle, found.params.model_validate(held.params))
    except Cancelled:
        return lambda: runs.stopped(held)
    except Retry as retry:  # Celery's own: its message finds the job queued, or is too early or too late
        wait = _seconds_until(retry.when)
        failure = Failure.of(retry.exc or retry, retry_seconds=wait)
        return lambda: runs.fail(held, failure)
    except SoftTimeLimitExceeded:
        failure = Failure(TOO_LONG, "TimeLimitExceeded", _wait(found, held.tries))
        return lambda: runs.fail(held, failure)
    except Exception as error:
        again = _wait(found, held.tries) if isinstance(error, found.retry_on) else None
        failure = Failure.of(error, retry_seconds=again)
        logger.warning(
            "A job failed.",
            extra={"job": str(held.job_id), "error": type(error).__name__, "again": again is not None},
        )
        return lambda: runs.fail(held, failure)
    return lambda: _complete(held, result)


def _complete(held: Claim, result: Any) -> None:
    try:
        runs.complete(held, result)
    except (jobs.JobOver, runs.RunLost):
        raise
    except TickertapeError as refused:  # no JSON, or too much of it: trying again would not help
        said = "; ".join(f"{fault.field}: {fault.message}" for fault in refused.errors)
        runs.fail(held, Failure(f"{refused.detail} {said}".strip(), type(refused).__name__))


def _wait(found: Definition | None, tries: int) -> float | None:
    """Return the seconds until the next try, or None where there is none."""
    if found is None or tries > found.retries:
        return None
    wait: float = min(found.retry_seconds * 2 ** (tries - 1), LONGEST_RETRY_SECONDS)
    return wait * random.uniform(0.75, 1.25)  # noqa: S311


def _seconds_until(when: Any) -> float:
    if isinstance(when, int | float):
        return max(0.0, float(when))
    return max(0.0, (when - timezone.now()).total_seconds()) if when is not None else 0.0


# --- In a worker's main process ----------------------------------------------------------------------------


def look() -> int:
    """Take away what lapsed, send what is due, kill what does not stop; return how many were sent."""
    while _steady() and _take_lapsed():
        pass
    sent = 0
    while _send_due():
        sent += 1
    for task_id in runs.overdue(settings.WORKERS_JOB_CANCEL_SECONDS):
        current_app.control.revoke(task_id, terminate=True, signal="SIGKILL")
    return sent


@transaction.atomic
def _take_lapsed() -> bool:
    found = runs.take_lapsed()
    if found is None:
        return False
    logger.warning("A job's worker is gone.", extra={"job": str(found.job_id)})
    runs.fail_found(found, _lost(found.name, found.tries))
    return True


def _send_due() -> bool:
    global _seen
    task_id = str(uuid4())
    with transaction.atomic():
        found = runs.take_due()
        if found is None:
            return False
        runs.sent(found, task_id=task_id)
    # Only now: a broker that hangs must not hold up who cancels the job.
    try:
        current_app.send_task(
            TASK_PREFIX + found.name, args=[str(found.job_id)], task_id=task_id, retry=False
        )
    except BROKER_AWAY:
        runs.unsent(found, task_id=task_id)
        raise
    finally:
        _seen = time.monotonic()  # however long the broker took, the database was there
    return True


_seen = 0.0
_steady_since = 0.0


def _steady() -> bool:
    """Tell whether the database was there all the time: else nobody could renew a lease."""
    global _seen, _steady_since
    now = time.monotonic()
    if now - _seen > UNSTEADY_SECONDS:
        _steady_since = now
    _seen = now
    return now - _steady_since > UNSTEADY_SECONDS


def _lost(name: str, tries: int) -> Failure:
    return Failure("The process that ran it died.", "WorkerLost", _wait(_definitions.get(name), tries))


def _too_long(name: str, tries: int) -> Failure:
    return Failure(TOO_LONG, "TimeLimitExceeded", _wait(_definitions.get(name), tries))


@signals.task_failure.connect  # type: ignore[untyped-decorator]
def _on_failure(sender: Any, task_id: str, exception: BaseException, **kwargs: Any) -> None:
    """Note what a process could not say itself any more: it was killed, or took too long."""
    if isinstance(sender, JobTask):
        describe = _too_long if isinstance(exception, TimeLimitExceeded) else _lost
        _note(lambda: runs.fail_task(task_id, describe))


@signals.task_revoked.connect  # type: ignore[untyped-decorator]
def _on_revoked(sender: Any, request: Any, **kwargs: Any) -> None:
    """Note that a message was revoked, before its job began or while it ran."""
    if isinstance(sender, JobTask):
        _note(lambda: runs.revoke_task(request.id))


def _note(work: Callable[[], bool]) -> None:
    try:
        work()
    except DatabaseError as error:
        # The lease lapses, and says the same later.
        logger.warning("A job's end could not be recorded.", extra={"error": type(error).__name__})
    finally:
        connection.close()
