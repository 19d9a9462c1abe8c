"""WebSockets: a stream's frames as JSON objects in text messages, one each.

A refusal is told as `stream.error` and by the close's code, 4000 and the status that HTTP would have; a
fault that will pass as `stream.end` and 1013. Browsers show neither a status nor a body to their pages,
so a WebSocket is accepted first.
"""

import asyncio
import io
import json
import logging
from typing import Any

from channels.consumer import AsyncConsumer
from channels.exceptions import StopConsumer
from django.conf import settings
from django.core.exceptions import DisallowedHost, RequestDataTooBig, SuspiciousOperation
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest

from events.errors import BadRequest, TickertapeError
from streams import opening, permission, sse
from streams.connection import Connection
from streams.conversation import Conversation, error_frame

logger = logging.getLogger(__name__)

OVER, GOING_AWAY, TRY_AGAIN = 1000, 1001, 1013  # RFC 6455, 7.4.1, and the registry that it begins
REFUSED = 4000  # and the status
CODES = {"drain": GOING_AWAY, "database": TRY_AGAIN, "capacity": TRY_AGAIN}  # of ends; OVER of all others


class StreamConsumer(AsyncConsumer):  # type: ignore[misc]
    """One WebSocket."""

    def __init__(self) -> None:
        self._conversation: Conversation | None = None
        self._talk: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()  # to be asked, or never to be

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve the connection until it is closed."""
        self._connection = Connection(scope, receive, send)
        try:
            await super().__call__(scope, receive, self._connection)
        finally:
            if self._talk is not None:
                self._connection.end()
                await asyncio.gather(self._talk, return_exceptions=True)

    async def websocket_connect(self, message: Any) -> None:
        """Accept, and begin to talk."""
        await self.send({"type": "websocket.accept"})
        self._talk = asyncio.create_task(self._begin())

    async def websocket_receive(self, message: Any) -> None:
        """Take a message; the next one waits until this one is being answered."""
        await self._ready.wait()
        if self._conversation is not None:
            await self._conversation.ask(message.get("text"))

    async def websocket_disconnect(self, message: Any) -> None:
        """End with the connection."""
        raise StopConsumer

    async def _begin(self) -> None:
        connection = self._connection
        connection.cut = asyncio.current_task().cancel  # type: ignore[union-attr]
        try:
            code = await self._serve()
            await self.send({"type": "websocket.close", "code": code})
        except asyncio.CancelledError:
            if not connection.over:
                raise
        except OSError:
            pass  # the client left while we wrote
        except Exception:
            logger.exception("A WebSocket failed.")
            connection.abort()
        finally:
            self._ready.set()
            connection.settle()

    async def _serve(self) -> int:
        """Say all that there is to say; return the code to close with."""
        try:
            request = _request(self.scope)
            hub, subscriber = await opening.subscriber(request, opening.named(request))
        except TickertapeError as error:
            await self._say(error_frame(error))
            return REFUSED + error.status
        except opening.NotNow as error:
            await self._say(sse.ending(str(error), settings.STREAMS_RETRY_SECONDS))
            return CODES[str(error)]
        subscriber.on_end, subscriber.silent = self._connection.expect_end, self._connection.silent
        self._conversation = Conversation(hub, subscriber)
        self._ready.set()
        reason = ""
        frames = self._conversation.frames(opening.place_of(request))
        try:
            async for frame in frames:
                await self._say(frame)
                fields = sse.fields(frame)
                if fields.get("event") == "stream.end":
                    reason = json.loads(fields["data"])["reason"]
        finally:
            await frames.aclose()
        return CODES.get(reason, OVER)

    async def _say(self, frame: bytes) -> None:
        await self._connection.pass_on({"type": "websocket.send", "text": sse.as_json(frame)})


def _request(scope: dict[str, Any]) -> HttpRequest:
    """Return the handshake as a request, with its session; raise BadRequest."""
    try:
        request = ASGIRequest({**scope, "method": "GET"}, io.BytesIO())
        request.get_host()  # a name that is not ours is no way in
        _ = request.GET
    except (DisallowedHost, SuspiciousOperation, RequestDataTooBig, UnicodeDecodeError):
        raise BadRequest from None
    request.session = permission.SessionAsItIs(request.COOKIES.get(settings.SESSION_COOKIE_NAME))
    return request
