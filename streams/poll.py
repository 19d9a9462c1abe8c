"""Long-polling: one answer at a time, of what a stream of the same channels would bring.

A client asks from the `cursor` of the answer before. Each answer is one piece of what lies behind it,
at once where there is something, else when something comes or the wait is over. Waiting costs what an
open stream costs: neither a thread nor a database connection.
"""

import contextlib
import json
from dataclasses import dataclass, field
from math import ceil

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.views.decorators.http import require_GET

from events.cursor import Cursor
from events.errors import FieldError, Invalid, TickertapeError, Unavailable
from events.http import problem
from streams import opening, sse
from streams.response import Later
from streams.subscriber import Subscriber

USUAL_SECONDS, MOST_SECONDS = 25.0, 60.0  # of waiting; what is between may have a shorter patience
# What a client need not know, because asking again says it better: all is well elsewhere, or it is refused.
_PASSED_OVER = frozenset({"drain", "revoked", "max_age"})


@require_GET
async def poll(request: HttpRequest) -> HttpResponseBase:
    """Answer with what there is behind `after`, or wait for it."""
    try:
        _, subscriber = await opening.subscriber(request, opening.named(request))
        subscriber.heartbeat = _wait(request)  # the sign of life is the answer
    except TickertapeError as error:
        return problem(error)
    except opening.NotNow as error:
        return _unavailable(str(error))
    after = opening.place_of(request)
    return Later(lambda: _answer(subscriber, after), subscriber=subscriber)


def _wait(request: HttpRequest) -> float:
    try:
        seconds = float(request.GET.get("wait", USUAL_SECONDS))
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= MOST_SECONDS:  # not so of NaN either
        raise Invalid(errors=(FieldError("wait", f"is a number of seconds from 0 to {MOST_SECONDS:.0f}"),))
    return seconds


@dataclass(slots=True)
class _Found:
    """What is to be answered."""

    events: list[str] = field(default_factory=list)
    cursor: str = ""
    reset: str | None = None
    over: bool = False  # there is something to say, or nothing more to wait for
    ended: str | None = None
    retry_seconds: float = 0.0

    def take(self, chunk: bytes, *, says_little: bool) -> None:
        """Take a chunk; one that `says_little` is no reason to answer."""
        for frame in sse.split(chunk):
            fields = sse.fields(frame)
            self.cursor = fields.get("id", self.cursor)
            match fields.get("event"):
                case "stream.open" | "stream.live":
                    pass
                case "stream.reset":
                    self.reset = json.loads(fields["data"])["reason"]
                    self.over = True
                case "stream.end":
                    self.ended = json.loads(fields["data"])["reason"]
                    self.retry_seconds = int(fields["retry"]) / 1000
                case None:
                    self.over = True
                    if "id" not in fields:  # a stream would go on trying; who polls can do that
                        self.ended = "database"
                case _:
                    self.events.append(sse.as_json(frame))
                    self.over = self.over or not says_little


async def _answer(subscriber: Subscriber, after: str | None) -> HttpResponse:
    found = _Found()
    async with contextlib.aclosing(subscriber.chunks(after)) as chunks:
        async for chunk in chunks:
            # Who goes on from a cursor was told of it before, and would be told again by every answer.
            found.take(chunk, says_little=subscriber.told_first and after is not None)
            subscriber.told_first = False
            if found.over:
                break
    if found.ended in _PASSED_OVER and not found.cursor:
        found.cursor = _where(after)  # it ended before it began: they stand where they stood
    if found.ended and not found.events and (found.ended not in _PASSED_OVER or not found.cursor):
        return _unavailable(found.ended, found.retry_seconds)
    reset = json.dumps(found.reset)
    body = f'{{"events":[{",".join(found.events)}],"cursor":"{found.cursor}","reset":{reset}}}'
    response = HttpResponse(body, content_type="application/json")
    response["Cache-Control"] = "no-store"
    return response


def _where(after: str | None) -> str:
    """Return a client's cursor, if it is one."""
    try:
        return str(Cursor.parse(after or ""))
    except ValueError:
        return ""


_WHY = {
    "database": "The log does not answer; try again soon.",
    "capacity": "There are too many streams; try again soon.",
    "drain": "This process is ending; try again soon.",
}


def _unavailable(reason: str, retry_seconds: float = 0.0) -> HttpResponse:
    response = problem(Unavailable(_WHY.get(reason, "")))
    response._has_been_logged = True  # type: ignore[attr-defined]  # a crowd would fill the log
    if retry_seconds:
        response["Retry-After"] = str(max(1, ceil(retry_seconds)))
    return response
