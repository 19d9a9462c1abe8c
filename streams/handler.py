"""The ASGI handler that lets a stream outlive its request.

The request is finished first (`request_finished`, connections closed, thread gone); then what it answered
streams by itself.
"""

import asyncio
import contextlib
from typing import Any

from django.conf import settings
from django.core.handlers.asgi import ASGIHandler
from django.http import HttpResponseBase

from events.errors import BadRequest
from events.http import problem
from streams.response import Connection, Outliving, Receive, Send

OPENING = "/streams/"  # what begins a path that opens a stream, or waits as one


class Handler(ASGIHandler):
    """Django's handler, but for event streams: they begin when the request has finished."""

    def __init__(self) -> None:
        super().__init__()
        # A storm of reconnects waits here: in Django each would hold a thread, and then a connection.
        self._opening = asyncio.Semaphore(settings.DATABASE_POOL_SIZE)

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Serve one request; then its stream, if that is what it answered."""
        connection = Connection(scope, receive, send)
        async with self._opening if scope["path"].startswith(OPENING) else contextlib.nullcontext():
            await super().__call__(scope, connection.receive, connection)
        if connection.response is not None and not connection.over:
            await connection.response.stream(connection)

    def create_request(self, scope: Any, body_file: Any) -> tuple[Any, Any]:
        """Make the request; refuse one that cannot be made (a query that is no text) in our form."""
        request, refusal = super().create_request(scope, body_file)
        return request, None if refusal is None else problem(BadRequest())

    async def send_response(self, response: HttpResponseBase, send: Any) -> None:
        """Send a response; keep a stream for when the request has finished."""
        if isinstance(response, Outliving):
            send.response = response
        else:
            await super().send_response(response, send)
