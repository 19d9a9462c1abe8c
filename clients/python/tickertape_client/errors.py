"""What can go wrong for good: one tree. What passes by itself is waited for and never raised by a stream."""

from typing import Any


class TickertapeError(Exception):
    """Anything that this package raises."""


class Refused(TickertapeError):
    """The service refused, and would again.

    `code` and `errors` (each a `{"field", "message"}`) are the problem's own; the text is its detail.
    """

    def __init__(self, status: int, problem: dict[str, Any]) -> None:
        self.status = status
        self.code = str(problem.get("code", ""))
        self.detail = str(problem.get("detail") or problem.get("title") or "")
        self.errors: list[dict[str, str]] = list(problem.get("errors") or [])
        super().__init__(f"{status} {self.detail or 'refused'}")


class NotLoggedIn(Refused):
    """No session, token or key, or one that is over (401)."""


class Forbidden(Refused):
    """It is there, and not for you (403)."""


class NotFound(Refused):
    """There is no such channel, item or job (404)."""


class Unavailable(TickertapeError):
    """What passes did not pass in the tries there were. What was asked for may be done all the same."""


class JobFailed(TickertapeError):
    """A job ended without a result: it failed, or was cancelled (`error_type` is `Cancelled`)."""

    def __init__(self, error: str, error_type: str) -> None:
        super().__init__(f"{error_type}: {error}")
        self.error = error
        self.error_type = error_type


_KINDS: dict[int, type[Refused]] = {401: NotLoggedIn, 403: Forbidden, 404: NotFound}


def refusal(status: int, problem: dict[str, Any]) -> Refused:
    """Return the error of an answer that will not heal."""
    return _KINDS.get(status, Refused)(status, problem)
