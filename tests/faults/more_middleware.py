"""The project's settings with middleware that somebody added: synchronous, and asking the database."""

from collections.abc import Callable

from django.http import HttpRequest
from django.http.response import HttpResponseBase

from project.settings import *  # noqa: F403
from project.settings import MIDDLEWARE as OURS

MIDDLEWARE = [*OURS, "tests.faults.more_middleware.Signed"]


class Signed:
    """Says who asked."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Name the user."""
        response = self._get_response(request)
        response["X-Seen-By"] = f"sync {request.user}"
        return response
