"""What the routers of every layer share: the logged-in session, bodies, pages, errors.

`401` is decided before CSRF and both before a body is looked at. A body is JSON or it is
refused; its types are what they are and never converted; a field that nobody knows is a
mistake and named.
"""

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from typing import Annotated, Any, Generic, NoReturn, TypeVar

from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser
from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse
from django.urls import register_converter
from django.urls.converters import IntConverter
from ninja import NinjaAPI
from ninja.errors import HttpError, ValidationError
from ninja.parser import Parser
from ninja.security.base import AuthBase
from ninja.utils import check_csrf
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from events import limits
from events.errors import BadRequest, FieldError, Invalid, NotLoggedIn, TickertapeError, Unavailable
from events.http import CsrfFailed, logger, of_status, problem, translate

MAX_ID = 2**63 - 1
_SAFE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})  # RFC 9110 9.2.1
T = TypeVar("T")


class MalformedJson(BadRequest):
    """The body is not JSON."""

    code = "malformed_json"


class NotJson(BadRequest):
    """The body must be sent as JSON: Content-Type application/json."""

    code = "unsupported_media_type"
    status = 415


# --- Who asks ---------------------------------------------------------------------------


class Session(AuthBase):
    """Django's session cookie; what changes something needs the CSRF token in a header, and is counted."""

    openapi_type = "apiKey"
    openapi_in = "cookie"
    openapi_name = settings.SESSION_COOKIE_NAME
    csrf = True  # tells the API page to send the token

    def __init__(self, *, counted: bool = True) -> None:
        super().__init__()
        self._counted = counted

    def __call__(self, request: HttpRequest) -> AbstractBaseUser:
        """Return the user; raise NotLoggedIn, then CsrfFailed, then RateLimited."""
        if not request.user.is_authenticated:
            raise NotLoggedIn
        _ = request.body  # before the CSRF check looks for a form in it and leaves nothing to read
        if check_csrf(request) is not None:
            raise CsrfFailed
        if self._counted and request.method not in _SAFE:
            limits.spend(f"posts:{request.user.pk}", per_minute=settings.EVENTS_POSTS_PER_MINUTE)
        return request.user


def user_of(request: HttpRequest) -> AbstractBaseUser:
    """Return the user that `Session` let in."""
    assert isinstance(request.user, AbstractBaseUser)  # noqa: S101 (an anonymous one got a 401)
    return request.user


# --- What is sent -------------------------------------------------------------------------


class Body(BaseModel):
    """A request's body: nothing converted, nothing unknown."""

    model_config = ConfigDict(strict=True, extra="forbid")


class JsonParser(Parser):
    """Reads bodies as UTF-8 JSON (RFC 8259) and says what is wrong with those that are not."""

    def parse_body(self, request: HttpRequest) -> dict[str, Any]:
        """Return the body's JSON; raise NotJson or MalformedJson."""
        # A form on another site can send a body, but not as this type without asking first.
        if request.content_type != "application/json":
            raise NotJson
        try:
            parsed: dict[str, Any] = json.loads(request.body.decode(), parse_constant=_refuse_constant)
        except UnicodeDecodeError:
            raise MalformedJson("The body is not UTF-8.") from None
        except json.JSONDecodeError as error:
            raise MalformedJson(f"The body is not JSON: {error.msg} at character {error.pos}.") from None
        except (ValueError, RecursionError):  # NaN, a number of thousands of digits, thousands of brackets
            raise MalformedJson("The body holds what JSON or its readers have no room for.") from None
        return parsed


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _no_nul(value: str) -> str:
    if "\x00" in value:
        raise ValueError("must not contain NUL")
    return value


class IdConverter(IntConverter):
    """An id in a path; what cannot be one is an address that does not exist."""

    regex = "[1-9][0-9]{0,18}"

    def to_python(self, value: str) -> int:
        """Return the id; raise ValueError past what the database has room for."""
        if (number := int(value)) > MAX_ID:
            raise ValueError(value)
        return number


register_converter(IdConverter, "id")

Word = Annotated[str, Field(min_length=1, max_length=4096), AfterValidator(_no_nul)]
Id = Annotated[str, Field(pattern=r"^[1-9][0-9]{0,18}$", description="An id, as a string")]


# --- Lists --------------------------------------------------------------------------------


class Paging(BaseModel):
    """Which part of a list."""

    limit: int = Field(50, ge=1, le=200, description="How many at most")
    after: str | None = Field(None, max_length=100, description="The `next` of the page before")

    def after_id(self) -> int | None:
        """Return the id that the page starts behind; raise Invalid for a token that is none of ours."""
        if self.after is None:
            return None
        try:
            number = int(urlsafe_b64decode(self.after.encode("ascii") + b"==").decode("ascii"))
        except ValueError:
            number = 0
        if not 1 <= number <= MAX_ID or _token(number) != self.after:
            raise Invalid(errors=(FieldError("after", "is not the `next` of a page"),))
        return number


class Page(BaseModel, Generic[T]):
    """A part of a list, and the place in the stream at which it is true."""

    results: list[T]
    next: str | None = Field(description="Give it as `after` for the next page; null at the end")
    cursor: str = Field(description="Stream from here: nothing is missed, nothing comes twice")


def split(rows: Sequence[T], paging: Paging) -> tuple[Sequence[T], bool]:
    """Return the rows of the page and whether there are more, of rows read one past the limit."""
    return rows[: paging.limit], len(rows) > paging.limit


def next_token(last_id: int | None) -> str | None:
    """Return the token of the page behind an id, if there is one."""
    return None if last_id is None else _token(last_id)


def _token(number: int) -> str:
    return urlsafe_b64encode(str(number).encode()).decode().rstrip("=")


# --- What went wrong ------------------------------------------------------------------------


class Fault(BaseModel):
    """One field that was refused, and why."""

    field: str
    message: str


class Problem(BaseModel):
    """What went wrong (RFC 9457). `code` is for programs and does not change."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    errors: list[Fault]


def speak_problems(api: NinjaAPI) -> None:
    """Make an API answer every error as problem+json; what nobody foresaw goes on to Django's log."""
    for kind in (TickertapeError, HttpError, ValidationError, Exception):
        api.add_exception_handler(kind, _on_error)


_UNKNOWN = "This may be done or not: only with an Idempotency-Key is a POST safe to send again."


def _on_error(request: HttpRequest, exception: Exception | type[Exception]) -> HttpResponse:
    if isinstance(exception, ValidationError):
        return problem(_invalid(exception))
    if isinstance(exception, HttpError):
        cause = exception.__cause__
        return problem(cause if isinstance(cause, TickertapeError) else of_status(exception.status_code))
    assert isinstance(exception, Exception)  # noqa: S101 (Ninja hands over what was raised)
    error = translate(exception)
    if error.status == 500 and error is not exception:
        raise exception
    if isinstance(error, Unavailable):
        logger.warning("A request found the database away", extra={"path": request.path})
        lost = isinstance(exception, OperationalError | InterfaceError)  # perhaps its COMMIT's answer
        if lost and request.method == "POST" and "Idempotency-Key" not in request.headers:
            error = Unavailable(f"{error.detail} {_UNKNOWN}")
    return problem(error)


# In our words where the library's name its classes or differ from what the verbs say.
_WORDS = {
    "model_type": "must be a JSON object",
    "model_attributes_type": "must be a JSON object",
    "missing": "is required",
    "extra_forbidden": "is not a field of this",
    "string_type": "must be a string",
    "string_unicode": "must not contain a lone surrogate",
}


def _invalid(exception: ValidationError) -> Invalid:
    faults = tuple(
        FieldError(_field(fault["loc"]), _WORDS.get(str(fault["type"]), str(fault["msg"])))
        for fault in exception.errors
    )
    return Invalid(errors=faults)


def _field(location: Sequence[str | int]) -> str:
    """Return the name that the client knows: without the source and the view's own argument."""
    source, *path = map(str, location)
    return ".".join(path[1:] if len(path) > 1 else path) or source
