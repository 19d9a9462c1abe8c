"""What can go wrong, as one tree: the docstring is the text, `code` for machines, `status` for HTTP."""

from dataclasses import dataclass
from math import ceil


@dataclass(frozen=True, slots=True)
class FieldError:
    """One field that was refused, and why."""

    field: str
    message: str


class TickertapeError(Exception):
    """Something went wrong."""

    code = "error"
    status = 500

    def __init__(self, detail: str = "", *, errors: tuple[FieldError, ...] = ()) -> None:
        super().__init__(detail or self.title())
        self.detail = detail or self.title()
        self.errors = errors

    @classmethod
    def title(cls) -> str:
        """Return the docstring's first line: the same words for every case of this error."""
        return (cls.__doc__ or "").strip().splitlines()[0]


class BadRequest(TickertapeError):
    """The request could not be understood."""

    code = "bad_request"
    status = 400


class NotLoggedIn(TickertapeError):
    """Log in first."""

    code = "not_logged_in"
    status = 401
    challenge = 'Session realm="tickertape"'  # RFC 9110 15.5.2 wants one


class Forbidden(TickertapeError):
    """You may not do this."""

    code = "forbidden"
    status = 403


class NotFound(TickertapeError):
    """There is no such thing."""

    code = "not_found"
    status = 404


class Conflict(TickertapeError):
    """This does not fit what is there."""

    code = "conflict"
    status = 409


class Invalid(TickertapeError):
    """Some fields were refused."""

    code = "invalid"
    status = 422


class PayloadTooLarge(TickertapeError):
    """The payload is too large."""

    code = "payload_too_large"
    status = 413


class PayloadInvalid(Invalid):
    """The payload holds something that JSON clients could not read back."""

    code = "payload_invalid"


class ChannelMalformed(BadRequest):
    """This is not the name of a channel."""

    code = "channel_malformed"


class TooManyChannels(BadRequest):
    """These are too many channels for one connection."""

    code = "too_many_channels"


class ChannelForbidden(Forbidden):
    """You may not read this channel."""

    code = "channel_forbidden"


class ChannelUnknown(NotFound):
    """There is no such channel."""

    code = "channel_unknown"


class RateLimited(TickertapeError):
    """Too many of these in a minute; try again later."""

    code = "rate_limited"
    status = 429

    def __init__(self, *, retry_seconds: float = 1) -> None:
        self.retry_seconds = max(1, ceil(retry_seconds))
        unit = "second" if self.retry_seconds == 1 else "seconds"
        super().__init__(f"Too many of these in a minute; try again in {self.retry_seconds} {unit}.")


class Unavailable(TickertapeError):
    """A part of the service is away; try again soon."""

    code = "unavailable"
    status = 503
