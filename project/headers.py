"""What every answer tells the browser not to do with it.

Django's own middleware says nosniff, the referrer, the opener and HSTS; here is the rest of what
Mozilla's guidelines ask for. A view that needs more says so itself, as the page does.
"""

from collections.abc import Callable
from typing import Any

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.decorators import sync_and_async_middleware

from events.http import around, threadless

# Of JSON, problems and streams nothing is to be shown, run or framed.
NOTHING = "default-src 'none'; frame-ancestors 'none'"
# Django's admin and the API's description: all from here, nothing written into the document.
OUR_FILES = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    ]
)
PAGES = ("/admin/", "/api/docs")

COMMON = {
    "Permissions-Policy": "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Cross-Origin-Resource-Policy": "same-origin",  # for what is embedded; CORS is another door
}


@threadless
@sync_and_async_middleware
def headers(get_response: Callable[[HttpRequest], Any]) -> Callable[[HttpRequest], Any]:
    """Put the headers on every answer, streams and refusals too."""
    return around(get_response, after=_with_headers)


def _with_headers(request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
    policy = OUR_FILES if request.path_info.startswith(PAGES) else NOTHING
    response.headers.setdefault("Content-Security-Policy", policy)
    for name, value in COMMON.items():
        response.headers.setdefault(name, value)
    return response
