"""Who else's pages may use the API and the streams with a session: CORS, and the Origin of WebSockets.

A page of an origin in CORS_ALLOWED_ORIGINS may read what its user may; to change something too, the
origin must be in CSRF_TRUSTED_ORIGINS as well. Anybody else's gets no header, and so the browser keeps
the answer from it.
"""

from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.utils.cache import patch_vary_headers
from django.utils.decorators import sync_and_async_middleware

from events.http import around, threadless

PREFLIGHT_SECONDS = 600  # for which a browser remembers the answer; Chromium allows 7200
PATHS = ("/api/", "/streams/")
METHODS = "GET, POST, PUT, PATCH, DELETE"
# What clients of ours send, beside what every page may.
REQUEST_HEADERS = "Authorization, Content-Type, Idempotency-Key, Last-Event-ID, X-CSRFToken"
RESPONSE_HEADERS = "Retry-After"


@threadless
@sync_and_async_middleware
def cors(get_response: Callable[[HttpRequest], Any]) -> Callable[[HttpRequest], Any]:
    """Say on every answer of the API and the streams, also refusals, who may read it (Fetch, 3.3)."""
    return around(get_response, before=_preflight, after=_with_cors)


def _preflight(request: HttpRequest) -> HttpResponse | None:
    """Answer a browser that asks whether an allowed page may ask."""
    asked = request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers
    if not asked or not _concerns(request) or not _is_allowed(request):
        return None
    response = HttpResponse(status=204)
    response["Access-Control-Allow-Methods"] = METHODS
    response["Access-Control-Allow-Headers"] = REQUEST_HEADERS
    response["Access-Control-Max-Age"] = str(PREFLIGHT_SECONDS)
    return response


def _with_cors(request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
    if _concerns(request):
        patch_vary_headers(response, ["Origin"])  # or a cache would give one origin's answer to another
        if _is_allowed(request):
            response.headers["Access-Control-Allow-Origin"] = request.headers["Origin"]
            response.headers["Access-Control-Allow-Credentials"] = "true"
            response.headers["Access-Control-Expose-Headers"] = RESPONSE_HEADERS
    return response


def _concerns(request: HttpRequest) -> bool:
    return bool(settings.CORS_ALLOWED_ORIGINS) and request.path_info.startswith(PATHS)


def _is_allowed(request: HttpRequest) -> bool:
    return request.headers.get("Origin", "") in settings.CORS_ALLOWED_ORIGINS


class FromOurPages:
    """Refuses a WebSocket that a page of a foreign origin opens, before anything else.

    Browsers ask nobody before they open one, cookies and all, and let every page read it (RFC 6455,
    10.2). Programs, which send no Origin, have no one else's cookies either.
    """

    def __init__(self, application: Any) -> None:
        self._application = application

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass the connection on, or close it with 4403."""
        headers = {bytes(name): bytes(value).decode("latin-1") for name, value in scope["headers"]}
        origin = headers.get(b"origin")
        own = f"{'https' if settings.HTTPS else 'http'}://{headers.get(b'host', '')}"
        if origin is None or origin == own or origin in settings.CORS_ALLOWED_ORIGINS:
            await self._application(scope, receive, send)
        else:
            await refuse(4403, receive, send)


async def refuse(code: int, receive: Any, send: Any) -> None:
    """Close a WebSocket with a code; accept it first, or the code would not be seen."""
    await receive()
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.close", "code": code})
