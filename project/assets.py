"""Static files from the web process: WhiteNoise, made to run without a thread where others do.

Its own middleware is synchronous, and one such would cost every stream two changes of thread. The files
are few and small: they are read whole.
"""

from collections.abc import Callable
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from whitenoise.middleware import WhiteNoiseMiddleware

from events.http import around, threadless


@threadless
class Assets(WhiteNoiseMiddleware):  # type: ignore[misc]
    """Answer for a static file, and pass everything else on."""

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        super().__init__(get_response, settings)
        self._around = around(get_response, before=self._file)
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Any:
        """Serve one request."""
        return self._around(request)

    def _file(self, request: HttpRequest) -> HttpResponse | None:
        file = self.files.get(request.path_info)
        if file is None:
            return None
        found: Any = file.get_response(request.method, request.META)
        body = b""
        if found.file is not None:
            with found.file:
                body = found.file.read()
        return HttpResponse(body, status=int(found.status), headers=dict(found.headers))
