"""Errors as HTTP: the one place that turns what went wrong into problem+json (RFC 9457).

Our own errors say themselves what they are; the framework's and the database's are
translated to ours first, so a client sees one form and never a library's text. A person's
browser outside of the API keeps its HTML.
"""

import json
import logging
import sys
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from asgiref.sync import iscoroutinefunction
from django.core.exceptions import PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.db import InterfaceError, InternalError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse, UnreadablePostError
from django.http.response import HttpResponseBase
from django.utils.decorators import sync_and_async_middleware
from django.views import defaults

from events.errors import (
    BadRequest,
    Forbidden,
    NotFound,
    NotLoggedIn,
    PayloadTooLarge,
    RateLimited,
    TickertapeError,
    Unavailable,
)

CONTENT_TYPE = "application/problem+json"
RETRY_SECONDS = 2  # after which a passing fault is worth another try
READ_ONLY = "25006"  # what a standby says to a write until it is promoted
MOST_DETAIL = 300  # characters of a text that may quote a field's name
MOST_FAULTS = 20  # fields named in one answer: a body of nonsense must not be echoed whole

_API = ("/api/", "/streams/")

logger = logging.getLogger(__name__)

Middleware = TypeVar("Middleware", bound=Callable[..., Any])


def around(
    get_response: Callable[[HttpRequest], Any],
    *,
    before: Callable[[HttpRequest], HttpResponseBase | None] = lambda _: None,
    after: Callable[[HttpRequest, HttpResponseBase], HttpResponseBase] = lambda _, response: response,
) -> Callable[[HttpRequest], Any]:
    """Return a middleware that does little: in the loop for streams, in a request's thread for the rest.

    `before` may answer in place of what is inside of it; `after` has every answer.
    """
    if iscoroutinefunction(get_response):

        async def middleware(request: HttpRequest) -> HttpResponseBase:
            response = before(request)
            return after(request, await get_response(request) if response is None else response)
    else:

        def middleware(request: HttpRequest) -> HttpResponseBase:  # type: ignore[misc]
            response = before(request)
            return after(request, get_response(request) if response is None else response)

    return middleware


def threadless(middleware: Middleware) -> Middleware:
    """Declare that a middleware can be asynchronous, and then asks for neither a thread nor the database.

    While all are, streams open without one.
    """
    middleware.is_threadless = True  # type: ignore[attr-defined]
    return middleware


def is_threadless(middleware: Callable[..., Any]) -> bool:
    """Tell whether it was declared so of a middleware."""
    return bool(vars(middleware).get("is_threadless"))  # itself: a subclass may do more


class MethodNotAllowed(TickertapeError):
    """The method is not one that the address takes."""

    code = "method_not_allowed"
    status = 405


class CsrfFailed(Forbidden):
    """The CSRF token is missing or wrong: send it in the header X-CSRFToken."""

    code = "csrf_failed"


class ServerFault(TickertapeError):
    """Something went wrong on our side."""

    code = "server_fault"


# What a bare status of the framework means.
_BY_STATUS: dict[int, type[TickertapeError]] = {
    kind.status: kind
    for kind in (
        BadRequest,
        NotLoggedIn,
        Forbidden,
        NotFound,
        MethodNotAllowed,
        PayloadTooLarge,
        RateLimited,
        ServerFault,
        Unavailable,
    )
}


def problem(error: TickertapeError, **more: object) -> HttpResponse:
    """Return an error as a problem+json response, with members of its own where `more` names them."""
    return _fill(HttpResponse(status=error.status), error, more)


def translate(exception: BaseException | None) -> TickertapeError:
    """Return our error for any exception; ServerFault for what nobody foresaw."""
    match exception:
        case TickertapeError():
            return exception
        case Http404():
            return NotFound()
        case PermissionDenied():
            return Forbidden()
        case RequestDataTooBig():
            return PayloadTooLarge("The request's body is too large.")
        case SuspiciousOperation() | UnreadablePostError():
            return BadRequest()
        case OperationalError() | InterfaceError():
            return Unavailable("The database does not answer; try again soon.")
        case InternalError() if getattr(exception.__cause__, "sqlstate", None) == READ_ONLY:
            return Unavailable("The database takes no writes just now; try again soon.")
        case _:
            return ServerFault()


def of_status(status: int) -> TickertapeError:
    """Return the error that a bare HTTP status stands for."""
    kind = _BY_STATUS.get(status)
    if kind is None:
        kind = BadRequest if status < 500 else ServerFault
    return kind()


@threadless
@sync_and_async_middleware
def problems(get_response: Callable[[HttpRequest], Any]) -> Callable[[HttpRequest], Any]:
    """Give the framework's own 4xx and 5xx (404, 405, 400 for a host, 403 for CSRF) our form."""
    return around(get_response, after=_in_our_form)


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer for the framework's `handler400`: it knows why, the status alone does not."""
    return problem(translate(exception)) if _is_ours(request) else defaults.bad_request(request, exception)


def server_fault(request: HttpRequest) -> HttpResponse:
    """Answer for the framework's `handler500`: 503 where the database does not answer."""
    error = translate(sys.exc_info()[1])
    return problem(error) if _is_ours(request) else HttpResponse(error.title(), status=error.status)


def _in_our_form(request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
    if (
        response.status_code < 400
        or not isinstance(response, HttpResponse)
        or response.get("Content-Type") == CONTENT_TYPE
        or not _is_ours(request)
    ):
        return response
    return _fill(response, of_status(response.status_code))


def _is_ours(request: HttpRequest) -> bool:
    """Tell whether an error is for a program: in the API, or whoever does not ask for HTML."""
    return request.path.startswith(_API) or "text/html" not in request.headers.get("Accept", "")


def _detail(error: TickertapeError) -> str:
    """Return what is particular about this case: the first field, where nothing else was said."""
    if error.errors and error.detail == error.title():
        return f"{error.errors[0].field}: {error.errors[0].message}"[:MOST_DETAIL]
    return error.detail


def described(error: TickertapeError) -> dict[str, object]:
    """Return what a problem says (RFC 9457)."""
    return {
        "type": f"urn:tickertape:error:{error.code}",
        "title": error.title(),
        "status": error.status,
        "code": error.code,
        "detail": _detail(error),
        "errors": [
            {"field": fault.field[:100], "message": fault.message} for fault in error.errors[:MOST_FAULTS]
        ],
    }


def _fill(
    response: HttpResponse, error: TickertapeError, more: Mapping[str, object] | None = None
) -> HttpResponse:
    """Write the error into a response, whose other headers (`Allow`, cookies) stay."""
    body = {**described(error), "status": response.status_code, **(more or {})}
    response.content = json.dumps(body)
    response["Content-Type"] = CONTENT_TYPE
    response["Cache-Control"] = "no-store"
    if response.has_header("Content-Length"):
        response["Content-Length"] = str(len(response.content))
    if isinstance(error, RateLimited):
        response["Retry-After"] = str(error.retry_seconds)
    elif isinstance(error, Unavailable):
        response.setdefault("Retry-After", str(RETRY_SECONDS))
    if isinstance(error, NotLoggedIn):
        response.setdefault("WWW-Authenticate", error.challenge)
    return response
