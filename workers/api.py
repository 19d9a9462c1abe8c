"""The HTTP API of jobs: ask for one, see where it stands, stop it; or stay and listen to it."""

import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.utils.http import content_disposition_header
from ninja import Query, Router, Status
from pydantic import BaseModel, Field

from events import jobs, log, runs
from events.channels import user_channel
from events.errors import FieldError, Invalid
from events.idempotency import DESCRIBED, once
from events.jobs import JobUnknown
from events.models import Job, JobFile
from events.rest import JsonParser, Page, Paging, Problem, next_token, split, user_of
from streams import sse
from streams.jobs import Answer
from workers import jobs as work

_ERRORS = frozenset({400, 401, 403, 404, 409, 413, 415, 422, 429, 503})

router = Router(tags=["jobs"])


class FileUnknown(JobUnknown):
    """The job has no file."""

    code = "job_file_unknown"


class ProgressOut(BaseModel):
    """How far a job is."""

    done: int | float
    total: int | float | None
    message: str


class JobOut(BaseModel):
    """A job."""

    id: str
    name: str
    state: Literal["queued", "running", "complete", "failed", "cancelled"]
    progress: ProgressOut | None = Field(description="The latest that it told, if any")
    result: Any
    error: str | None = Field(description="Why it failed; while it is queued, why it is tried again")
    params: Any
    tries: int
    created_at: datetime
    started_at: datetime | None = Field(description="When the latest try began")
    ended_at: datetime | None
    stream: str = Field(description="The address of its stream")
    # Answers that were kept for an Idempotency-Key may be older than these.
    stopping: bool = Field(False, description="It runs, and was asked to stop")
    file: str | None = Field(None, description="Where to download what it made, while that is kept")


_ASKED: dict[str, Any] = {
    **DESCRIBED,
    "requestBody": {
        "description": 'The parameters that the job declares; `{"inputs": {…}}` is taken too.',
        "required": False,
        "content": {"application/json": {"schema": {"type": "object"}}},
    },
    "responses": {
        202: {
            "headers": {"Location": {"schema": {"type": "string"}}},
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
        }
    },
}


@router.post("/jobs/{name}", response={202: JobOut, _ERRORS: Problem}, openapi_extra=_ASKED)
def start_job(request: HttpRequest, name: str, response: HttpResponse) -> Any:
    """Ask for a job by its name. With `Accept: text/event-stream` it is listened to in the answer."""
    user, found, params = user_of(request), work.definition(name), _params(request)
    answer = Answer.ready() if "text/event-stream" in request.headers.get("Accept", "") else None
    made: list[Job] = []

    def effect() -> JobOut:
        made.append(work.start(user, name, params))
        return _out(made)[0]

    status = once(request, JobOut, effect, status=202)
    out: JobOut = status.value
    if answer is not None:
        said = {
            "workflow_id": name,
            "version": found.version,
            "job_id": out.id,
            "stream": out.stream,
            "timestamp": int(time.time()),
        }
        return answer.stream(
            request, UUID(out.id), start=sse.message(said, event="start"), begun_here=bool(made)
        )
    response["Location"] = f"/api/jobs/{out.id}"
    return status


@router.get("/jobs", response={200: Page[JobOut], _ERRORS: Problem})
def list_jobs(request: HttpRequest, paging: Query[Paging]) -> Page[JobOut]:
    """Return one's own jobs, newest first. Stream one's own channel from `cursor` to stay up to date."""
    user, before = user_of(request), paging.after_id()

    def query() -> tuple[list[Job], list[JobOut]]:
        found = jobs.jobs_of(user).order_by("-event_id")
        if before is not None:
            found = found.filter(event_id__lt=before)
        rows = list(found[: paging.limit + 1])
        return rows, _out(rows)

    (rows, described), cursor = log.snapshot([user_channel(user.pk)], query)
    shown, more = split(rows, paging)
    return Page[JobOut](
        results=described[: len(shown)],
        next=next_token(shown[-1].event_id if more else None),
        cursor=str(cursor),
    )


@router.get("/jobs/{name}", response={200: JobOut, _ERRORS: Problem})
def get_job(request: HttpRequest, name: str) -> JobOut:
    """Return a job of one's own, by its id."""
    return _out([jobs.get_job(user_of(request), _id(name))])[0]


@router.delete("/jobs/{name}", response={204: None, _ERRORS: Problem})
def cancel_job(request: HttpRequest, name: str) -> Status[None]:
    """Stop a job, by its id: at once where it waits; where it runs, as soon as it hears of it."""
    jobs.cancel(user_of(request), _id(name))
    return Status(204, None)


@router.get("/jobs/{name}/file", response={200: bytes, _ERRORS: Problem})
def get_file(request: HttpRequest, name: str) -> HttpResponse:
    """Download what a job made."""
    job = jobs.get_job(user_of(request), _id(name))
    file = JobFile.objects.filter(pk=job.pk).first()
    if file is None:
        raise FileUnknown
    response = HttpResponse(bytes(file.content), content_type=file.content_type)
    response.headers["Content-Disposition"] = content_disposition_header(True, file.name) or "attachment"
    response["Cache-Control"] = "no-store"
    return response


def _params(request: HttpRequest) -> dict[str, Any]:
    """Return the parameters that were sent; none where there is no body."""
    body: Any = JsonParser().parse_body(request) if request.body else {}
    if isinstance(body, dict) and set(body) == {"inputs"}:
        body = body["inputs"]
    if not isinstance(body, dict):
        raise Invalid(errors=(FieldError("body", "must be a JSON object"),))
    return body


def _id(text: str) -> UUID:
    """Return a job's id; raise JobUnknown for what cannot be one."""
    try:
        job_id = UUID(text)
    except ValueError:
        raise JobUnknown from None
    if str(job_id) != text:
        raise JobUnknown
    return job_id


def _out(rows: Sequence[Job]) -> list[JobOut]:
    ids = [job.pk for job in rows]
    progress, stopping, files = jobs.progress_of(ids), runs.stopping(ids), runs.with_files(ids)
    return [
        JobOut.model_validate(
            {
                "id": str(job.pk),
                "name": job.name,
                "state": job.state,
                "progress": progress.get(job.pk),
                "result": job.result,
                "error": job.error or None,
                "params": job.params,
                "tries": job.tries,
                "created_at": job.queued_at,
                "started_at": job.started_at,
                "ended_at": job.ended_at,
                "stopping": job.pk in stopping,
                "file": f"/api/jobs/{job.pk}/file" if job.pk in files else None,
                "stream": f"/streams/jobs/{job.pk}/",
            }
        )
        for job in rows
    ]
