"""A request that opens no stream has one thread, and its client's leaving ends what it is still sent."""

import asyncio
import io
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.core.signals import request_finished, request_started
from django.db import connection
from django.http import FileResponse, HttpResponse, StreamingHttpResponse
from django.urls import path

from streams.handler import Handler

BYTES = b"0123456789" * 30_000


class Endless:
    """What a view streams, and whether somebody ended it."""

    def __init__(self):
        self.closed = asyncio.Event()
        self.fault = None

    def __call__(self, request):
        return StreamingHttpResponse(self._pieces())

    async def _pieces(self):
        try:
            yield b"first"
            if self.fault:
                raise self.fault
            await asyncio.sleep(60)
        finally:
            self.closed.set()


def plain(request):
    request.seen.append(("view", threading.get_ident()))
    return HttpResponse(b"plain")


async def in_loop(request):
    request.seen.append(("view", threading.get_ident()))
    await asyncio.sleep(0)
    return HttpResponse(b"in the loop")


def body(request):
    return HttpResponse(request.body[::-1])


def a_file(request):
    FILES.append(io.BytesIO(BYTES))
    return FileResponse(FILES[-1])


def pieces(request):
    return StreamingHttpResponse(iter([b"one ", b"two"]))


def broken(request):
    raise ZeroDivisionError


class Asking:
    """A view that asks the database, streams, and fails; and the connection that it had."""

    def __init__(self):
        self.link = None
        self.asked, self.go_on = threading.Event(), threading.Event()

    def __call__(self, request):
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        self.link = connection.connection
        self.asked.set()
        assert self.go_on.wait(20)
        return StreamingHttpResponse(self._pieces())

    async def _pieces(self):
        yield b"first"
        raise ZeroDivisionError


asking = Asking()
endless = Endless()
urlpatterns = [
    path("plain", plain),
    path("in-loop", in_loop),
    path("body", body),
    path("file", a_file),
    path("pieces", pieces),
    path("broken", broken),
    path("asking", lambda request: asking(request)),  # noqa: PLW0108 (each test has its own)
    path("endless", lambda request: endless(request)),  # noqa: PLW0108 (each test has its own)
]
handler500 = "events.http.server_fault"

SEEN = []
FILES = []


def noting(get_response):
    """Note, as a middleware does, which thread it is called by."""

    def middleware(request):
        request.seen = SEEN
        SEEN.append(("middleware", threading.get_ident()))
        return get_response(request)

    return middleware


class Exchange:
    """One request and what was answered, as a server has it."""

    def __init__(self, name, *came):
        self._came = list(came) or [{"type": "http.request", "body": b"", "more_body": False}]
        self.scope = {
            "type": "http",
            "method": "POST",
            "path": f"/{name}",
            "query_string": b"",
            "headers": [(b"host", b"localhost")],
        }
        self.left = asyncio.Event()
        self.first = asyncio.Event()
        self.sent = []

    async def receive(self):
        if self._came:
            return self._came.pop(0)
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message):
        self.sent.append(message)
        if message.get("body"):
            self.first.set()

    async def through(self, handler):
        await handler(self.scope, self.receive, self.send)
        return self

    @property
    def status(self):
        return self.sent[0]["status"]

    @property
    def body(self):
        return b"".join(message.get("body", b"") for message in self.sent[1:])


@pytest.fixture
def handler(settings):
    global asking, endless
    asking, endless = Asking(), Endless()
    SEEN.clear()
    settings.ROOT_URLCONF = __name__
    settings.MIDDLEWARE = [
        f"{__name__}.noting",
        *[each for each in settings.MIDDLEWARE if "csrf" not in each.lower()],
        f"{__name__}.noting",
    ]
    return Handler()


@pytest.fixture
def turns(monkeypatch):
    """Count what is given to threads."""
    given = []
    submit = ThreadPoolExecutor.submit

    def counting(self, *arguments, **named):
        given.append(arguments)
        return submit(self, *arguments, **named)

    monkeypatch.setattr(ThreadPoolExecutor, "submit", counting)
    return given


@pytest.fixture
def signals():
    """Note which threads a request begins and ends in."""
    heard = []

    def began(**_):
        heard.append(("began", threading.get_ident()))

    def finished(**_):
        heard.append(("finished", threading.get_ident()))

    request_started.connect(began)
    request_finished.connect(finished)
    yield heard
    request_started.disconnect(began)
    request_finished.disconnect(finished)


async def test_a_request_is_given_to_a_thread_once(handler, turns, signals):
    exchange = await Exchange("plain").through(handler)

    assert (exchange.status, exchange.body) == (200, b"plain")
    assert len(turns) == 1
    assert [what for what, _ in signals] == ["began", "finished"]
    assert [what for what, _ in SEEN] == ["middleware", "middleware", "view"]
    threads = {thread for _, thread in [*SEEN, *signals]}
    assert len(threads) == 1
    assert threads != {threading.get_ident()}


async def test_its_thread_is_done_before_a_client_is_sent_anything(handler, signals):
    exchange = Exchange("plain")
    then = []
    send = exchange.send

    async def noting(message):
        then.append([what for what, _ in signals])
        await send(message)

    exchange.send = noting
    await exchange.through(handler)

    assert then == [["began", "finished"]] * 2


async def test_an_asynchronous_view_runs_in_the_loop(handler):
    exchange = await Exchange("in-loop").through(handler)

    assert (exchange.status, exchange.body) == (200, b"in the loop")
    assert SEEN[-1] == ("view", threading.get_ident())


async def test_a_body_comes_whole_in_however_many_pieces(handler):
    came = [{"type": "http.request", "body": each, "more_body": each != b"c"} for each in (b"a", b"b", b"c")]
    exchange = await Exchange("body", *came).through(handler)

    assert (exchange.status, exchange.body) == (200, b"cba")


async def test_who_leaves_amid_their_body_is_sent_nothing(handler, turns):
    came = [{"type": "http.request", "body": b"a", "more_body": True}, {"type": "http.disconnect"}]
    exchange = await Exchange("body", *came).through(handler)

    assert exchange.sent == []
    assert turns == []


@pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume synchronous iterators")
@pytest.mark.parametrize(("name", "text"), [("file", BYTES), ("pieces", b"one two")])
async def test_what_is_streamed_comes_whole_and_is_closed(handler, signals, name, text):
    exchange = await Exchange(name).through(handler)

    assert (exchange.status, exchange.body) == (200, text)
    assert all(file.closed for file in FILES)
    assert [what for what, _ in signals] == ["began", "finished"]


async def test_a_view_that_fails_is_a_fault_of_the_server_and_nothing_more(handler):
    exchange = await Exchange("broken").through(handler)

    assert exchange.status == 500


async def test_who_leaves_ends_what_is_streamed_to_them(handler, signals):
    exchange = Exchange("endless")
    serving = asyncio.create_task(exchange.through(handler))
    await asyncio.wait_for(exchange.first.wait(), 20)
    assert not endless.closed.is_set()
    exchange.left.set()

    await asyncio.wait_for(serving, 20)
    assert endless.closed.is_set()
    assert [what for what, _ in signals] == ["began", "finished"]


async def test_what_is_streamed_ends_with_the_server(handler):
    exchange = Exchange("endless")
    serving = asyncio.create_task(exchange.through(handler))
    await asyncio.wait_for(exchange.first.wait(), 20)
    serving.cancel()

    with pytest.raises(asyncio.CancelledError):
        await serving
    assert endless.closed.is_set()


async def test_a_fault_of_what_is_streamed_is_not_silent(handler):
    endless.fault = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        await Exchange("endless").through(handler)


async def test_a_request_that_is_cancelled_in_its_thread_leaves_no_connection_behind(handler, database):
    serving = asyncio.create_task(Exchange("asking").through(handler))
    assert await asyncio.to_thread(asking.asked.wait, 20)
    serving.cancel()
    for _ in range(5):
        await asyncio.sleep(0)
    assert not asking.link.closed
    asking.go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await serving

    async with asyncio.timeout(20):
        while not asking.link.closed:
            await asyncio.sleep(0.01)


async def test_a_stream_that_fails_leaves_no_connection_behind(handler, database, signals):
    asking.go_on.set()
    with pytest.raises(ZeroDivisionError):
        await Exchange("asking").through(handler)

    assert asking.link.closed
    assert [what for what, _ in signals] == ["began", "finished"]
