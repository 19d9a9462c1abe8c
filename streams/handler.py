"""The ASGI handlers by which a stream outlives its request, and costs little to open.

A request is finished first (connections closed, thread gone); then what it answered streams by itself.

On Django's own way there a request changes threads a dozen times: for each of its middleware, for signals
that look after database connections, for the view. One for a stream needs no thread, so it goes through the
same middleware to the same view without one; only `request_started` and `request_finished` are not sent. Any
other goes through all of it in its thread.
"""

import asyncio
import io
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from asgiref.sync import SyncToAsync, ThreadSensitiveContext, sync_to_async
from django.conf import settings
from django.contrib.messages.middleware import MessageMiddleware
from django.contrib.messages.storage import default_storage
from django.contrib.sessions.middleware import SessionMiddleware
from django.core.exceptions import RequestAborted
from django.core.handlers.asgi import ASGIHandler, get_script_prefix
from django.core.handlers.exception import convert_exception_to_response
from django.core.signals import request_started
from django.db import close_old_connections
from django.http import FileResponse, HttpRequest, HttpResponseBase
from django.urls import set_script_prefix
from django.utils.functional import SimpleLazyObject, cached_property, empty
from django.utils.module_loading import import_string

from events.errors import BadRequest
from events.http import is_threadless, problem
from streams import permission
from streams.connection import Connection, Receive, Send
from streams.response import Outliving

logger = logging.getLogger(__name__)

OPENING = "/streams/"  # what begins a path that opens a stream, or waits as one
AT_ONCE = 32  # requests for streams that are made an answer in the event loop; a crowd of others waits
_BODY = frozenset([b"content-length", b"transfer-encoding"])  # what tells that there is one

# Django's own that only look at a request and its answer; of sessions, see below.
_DJANGOS = frozenset(
    [
        "django.middleware.security.SecurityMiddleware",
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.contrib.messages.middleware.MessageMiddleware",
        "django.middleware.clickjacking.XFrameOptionsMiddleware",
    ]
)

Next = Callable[[HttpRequest], Awaitable[HttpResponseBase]]


class _Base(ASGIHandler):
    """Django's handler, but for the form of a refusal, and for streams, which are not sent by a request."""

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


class Handler(_Base):
    """Serves every request: in one thread, but for streams."""

    def __init__(self) -> None:
        super().__init__()
        # A storm of reconnects waits here, where it is cheap: in Django each would hold a thread, and then a
        # connection; in the loop, all that a request is made of.
        self._opening = asyncio.Semaphore(settings.DATABASE_POOL_SIZE)
        self._direct = Direct() if Direct.is_possible() else None

    @cached_property
    def _long_way(self) -> _Base:
        return _Base()

    def load_middleware(self, is_async: bool = False) -> None:
        """Chain the middleware so that a thread goes through it, as where there is no loop."""
        super().load_middleware(is_async=False)

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Serve one request; then its stream, if that is what it answered."""
        connection = Connection(scope, receive, send)
        if not scope["path"].startswith(OPENING):
            await super().__call__(scope, connection.receive, connection)
        elif self._direct is not None and scope["method"] == "GET" and not _has_body(scope):
            await self._direct(scope, connection.receive, connection)
        else:
            async with self._opening:
                await self._long_way(scope, connection.receive, connection)
        if connection.response is not None and not connection.over:
            await connection.response.stream(connection)

    async def handle(self, scope: Any, receive: Receive, send: Any) -> None:
        """Serve one request: as Django does, with one change of thread, and back before anything is sent."""
        try:
            body = await self.read_body(receive)
        except RequestAborted:
            return
        try:
            set_script_prefix(get_script_prefix(scope))
            request, response = self.create_request(scope, body)
            if request is not None:
                response = await sync_to_async(self._answer)(scope, request)
            try:
                if response.streaming and not isinstance(response, Outliving):
                    await self._send_while_there(response, receive, send)
                else:
                    await self.send_response(response, send)
            finally:
                if response.streaming:
                    await sync_to_async(response.close)()
        finally:
            body.close()

    def _answer(self, scope: Any, request: HttpRequest) -> HttpResponseBase:
        try:
            request_started.send(sender=type(self), scope=scope)
            response: HttpResponseBase = self.get_response(request)
            response._handler_class = type(self)  # type: ignore[attr-defined]
            if isinstance(response, FileResponse):
                response.block_size = self.chunk_size
            if not response.streaming:
                response.close()  # which sends `request_finished`
            return response
        finally:
            # Back to the pool, whatever becomes of the answer: of a request that is cancelled nobody hears.
            close_old_connections()

    async def _send_while_there(self, response: HttpResponseBase, receive: Receive, send: Any) -> None:
        """Send what goes on for a while, until its client leaves."""
        tasks = [
            asyncio.create_task(self.send_response(response, send)),
            asyncio.create_task(self.listen_for_disconnect(receive)),
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            sent, _ = await asyncio.gather(*tasks, return_exceptions=True)
        if isinstance(sent, Exception):
            raise sent


class Direct(_Base):
    """Serves a GET that opens a stream, in the event loop."""

    def __init__(self) -> None:
        super().__init__()
        self._at_work = asyncio.Semaphore(AT_ONCE)

    @staticmethod
    def is_possible() -> bool:
        """Tell whether all middleware is known not to need a thread; log what keeps it from being so."""
        others = [path for path in settings.MIDDLEWARE if not _is_known(path)]
        if settings.STREAMS_DIRECT and others:
            logger.warning(
                "Streams open the long way: some middleware may need a thread.", extra={"of": others}
            )
        return bool(settings.STREAMS_DIRECT) and not others and not settings.CSRF_USE_SESSIONS

    def load_middleware(self, is_async: bool = False) -> None:
        """Chain the middleware as Django does, with no change of thread in between."""
        self._view_middleware: list[Callable[..., Awaitable[Any]]] = []
        self._template_response_middleware: list[Any] = []
        self._exception_middleware: list[Any] = []
        handler = convert_exception_to_response(self._get_response_async)  # type: ignore[attr-defined]
        for path in reversed(settings.MIDDLEWARE):
            kind = import_string(path)
            middleware = (_in_loop(_OURS.get(path, kind)) if path in _DJANGOS else kind)(handler)
            if hasattr(middleware, "process_view"):
                self._view_middleware.insert(0, _awaitable(middleware.process_view))
            handler = convert_exception_to_response(middleware)
        self._middleware_chain = handler

    async def __call__(self, scope: Any, receive: Receive, send: Any) -> None:
        """Serve one request."""
        set_script_prefix(get_script_prefix(scope))
        async with self._at_work:
            request, response = self.create_request(scope, io.BytesIO())
            if request is not None:
                async with _Thread():
                    response = await self.get_response_async(request)
        # Not in its place there: who does not read what refuses them would keep others out.
        await self.send_response(response, send)
        if request is not None:
            request.close()


class _Messages(MessageMiddleware):
    """Django's, but that it makes what holds messages when it is asked for: it is a tenth of all this."""

    def process_request(self, request: HttpRequest) -> None:
        """Promise a place for messages."""
        request._messages = SimpleLazyObject(lambda: default_storage(request))  # type: ignore[attr-defined]

    def process_response(self, request: HttpRequest, response: Any) -> Any:
        """Store the messages, if there may be any."""
        if request._messages._wrapped is empty:  # type: ignore[attr-defined]
            return response
        return super().process_response(request, response)


_OURS = {"django.contrib.messages.middleware.MessageMiddleware": _Messages}


class _Thread(ThreadSensitiveContext):
    """The thread of a request, should it need one after all: its database connections go back then."""

    async def __aexit__(self, *exc: Any) -> None:
        try:
            if self in SyncToAsync.context_to_thread_executor:
                await sync_to_async(close_old_connections)()
        finally:
            await super().__aexit__(*exc)  # type: ignore[no-untyped-call]


def _has_body(scope: Any) -> bool:
    return any(name in _BODY and value != b"0" for name, value in scope["headers"])


def _is_known(path: str) -> bool:
    if path in _DJANGOS:
        return True
    middleware = import_string(path)
    hooks = ("process_view", "process_exception", "process_template_response")
    return is_threadless(middleware) and not any(hasattr(middleware, hook) for hook in hooks)


def _in_loop(kind: Any) -> Any:
    """Return a middleware of Django's that calls its own hooks where it is called itself."""

    async def call(self: Any, request: HttpRequest) -> HttpResponseBase:
        response = self.process_request(request) if hasattr(self, "process_request") else None
        response = response or await self.get_response(request)
        if not hasattr(self, "process_response"):
            found: HttpResponseBase = response
        elif issubclass(kind, SessionMiddleware) and _is_to_be_saved(request):
            async with permission.turns:  # as all do who need a thread, and a connection
                found = await sync_to_async(self.process_response)(request, response)
        else:
            found = self.process_response(request, response)
        return found

    return type(kind.__name__, (kind,), {"__acall__": call})


def _is_to_be_saved(request: HttpRequest) -> bool:
    return bool(request.session.modified or settings.SESSION_SAVE_EVERY_REQUEST)


def _awaitable(hook: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
    async def call(*arguments: Any) -> Any:
        return hook(*arguments)

    return call
