"""Events as HTML: escaped, once for everybody, in order, and nothing unrendered among them."""

import asyncio
import json
import threading

import httpx
import pytest
from django.template import Library
from httpx_sse import connect_sse

from streams import rendering, sse
from streams.rendering import Rendering
from tests.test_end_to_end import comment, item_of


@pytest.fixture
def templates(settings, tmp_path):
    """Return a function that writes a template of a type."""
    settings.TEMPLATES = [{**settings.TEMPLATES[0], "DIRS": [tmp_path]}]
    (tmp_path / "streams").mkdir()
    rendering._template.cache_clear()

    def write(name, text):
        (tmp_path / f"streams/{name}.html").write_text(text)

    yield write
    rendering._template.cache_clear()


def frame(name="Told", position=1, **data):
    return f"id: e-{position}\nevent: {name}\ndata: {json.dumps(data)}\n\n".encode()


async def chunks(*given):
    for chunk in given:
        yield chunk


async def through(made, *given):
    return b"".join([chunk async for chunk in made.html(chunks(*given))])


async def test_an_event_is_html_with_all_that_was_typed_escaped(templates):
    templates("Told", '<p id="told-{{ event.n }}">{{ event.text }}</p>')

    got = await through(Rendering(), frame(n=7, text='<script>alert("1")</script>\'&'))

    assert got == (
        b'id: e-1\nevent: Told\ndata: <p id="told-7">'
        b"&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt;&#x27;&amp;</p>\n\n"
    )


async def test_html_of_several_lines_is_several_lines_of_data(templates):
    templates("Told", "\n<pre>\n{{ event.text }}\n</pre>\n")

    got = await through(Rendering(), frame(text="a\n\nevent: x\rid: 9\r\ndata: y"))

    assert sse.split(got) == [got]
    assert got == (
        b"id: e-1\nevent: Told\ndata: <pre>\ndata: a\ndata: \ndata: event: x\n"
        b"data: id: 9\ndata: data: y\ndata: </pre>\n\n"
    )


async def test_a_template_knows_the_type_and_the_id(templates):
    templates("Told", "{{ type }} {{ id }}")

    assert await through(Rendering(), frame(position=5)) == b"id: e-5\nevent: Told\ndata: Told e-5\n\n"


async def test_what_the_stream_says_of_itself_stays_and_what_has_no_template_is_left_out(templates):
    templates("Told", "<p>{{ event.n }}</p>")
    templates("Blank", "{% if event.n %}x{% endif %}  \n")
    own = sse.KEEPALIVE + b":\nid: e-9\n\n" + sse.transient("stream.live", "{}")

    got = await through(
        Rendering(),
        sse.ending("drain", 1) + frame("NoSuch", 1, text="<b>") + frame("Told", 2, n=2),
        frame("Blank", 3) + sse.transient("Told", '{"n":4}') + own,
    )

    assert b"<b>" not in got
    names = [sse.fields(each).get("event") for each in sse.split(got)]
    assert names == ["stream.end", "Told", "Told", None, None, "stream.live"]
    assert got.endswith(own)


async def test_a_template_that_fails_costs_its_event_only_and_says_nothing_of_it(templates, caplog):
    templates("Told", "{{ event.n }}")
    templates("Broken", '{% include event.text|add:".html" %}')
    templates("Unclosed", "{% if event.text %}")
    broken = frame("Broken", 1, text="secret") + frame("Unclosed", 1, text="secret")

    got = await through(Rendering(), broken + frame("Told", 2, n=2))

    assert got == b"id: e-2\nevent: Told\ndata: 2\n\n"
    assert caplog.text.count("A template failed.") == 2
    assert "secret" not in caplog.text


register = Library()
_threads: list[int] = []
_go_on = threading.Event()


@register.filter
def slow(value):
    """Take its time, as long as a test wants, and say where."""
    _threads.append(threading.get_ident())
    assert _go_on.wait(20)
    return value


@pytest.fixture
def threads(templates, settings):
    """Return the threads in which a slow template was rendered."""
    options = {**settings.TEMPLATES[0]["OPTIONS"], "builtins": [__name__]}
    settings.TEMPLATES = [{**settings.TEMPLATES[0], "OPTIONS": options}]
    templates("Slow", "{{ event.n|slow }}")
    _threads.clear()
    _go_on.clear()
    return _threads


async def test_an_event_is_rendered_once_for_all_who_ask_at_once_and_later_away_from_the_loop(threads):
    made = Rendering()
    ticks = 0

    async def tick():
        nonlocal ticks
        while ticks < 10:  # as it can only where nothing blocks it
            ticks += 1
            await asyncio.sleep(0.01)
        _go_on.set()

    ticking = asyncio.create_task(tick())
    stream = frame("Slow", 1, n=1) + frame("Slow", 2, n=2)
    crowd = await asyncio.gather(*(through(made, stream) for _ in range(50)))
    later = await through(made, stream)
    await ticking

    assert len(set(crowd)) == 1
    assert crowd[0] == later
    assert crowd[0].index(b"data: 1") < crowd[0].index(b"data: 2")
    assert len(threads) == made.rendered == 2
    assert threading.get_ident() not in threads


async def test_who_leaves_meanwhile_takes_nothing_along(threads):
    made = Rendering()
    leaving = asyncio.create_task(through(made, frame("Slow", 1, n=1)))
    staying = asyncio.create_task(through(made, frame("Slow", 1, n=1)))
    async with asyncio.timeout(20):
        while not threads:
            await asyncio.sleep(0.01)
    leaving.cancel()
    await asyncio.wait([leaving])
    _go_on.set()

    assert b"data: 1" in await staying
    assert len(threads) == 1


async def test_what_is_kept_is_bounded(templates, settings):
    templates("Told", "{{ event.text }}")
    settings.STREAMS_RENDERED_BYTES = 50_000
    made = Rendering()

    for n in range(100):
        await through(made, frame("Told", n, text="x" * 1000))
        assert made.bytes <= 50_000
    assert len(made._kept) == 50_000 // (2 * 1036 + rendering.ENTRY_BYTES)
    await through(made, frame("Told", 99, text="x" * 1000))
    assert made.rendered == 100
    assert b"xxx" in await through(made, frame("Told", 1, text="x" * 100_000))
    assert (made.bytes, len(made._kept)) == (0, 0)


async def test_erased_data_is_neither_kept_nor_served(templates):
    templates("Told", "{{ event.text }}")
    made = Rendering()
    await through(made, frame(text="a secret"))

    assert b"erased" in await through(made, frame(text="erased"))
    made.forget()
    assert (made.bytes, len(made._kept)) == (0, 0)


async def test_what_the_hub_forgets_is_forgotten_here_too(hub, templates):
    templates("Told", "{{ event.text }}")
    await through(hub.replay.rendering, frame(text="a secret"))

    hub.replay.forget()

    assert hub.replay.rendering.bytes == 0


# --- Over HTTP, with the demo's templates -----------------------------------------------------------------


@pytest.fixture
def alice(stack, server):
    return stack.login("alice", server)


def read(client: httpx.Client, path: str, *, until: str) -> list[tuple[str, str, str]]:
    """Return a stream's frames up to the first of a name."""
    got = []
    with connect_sse(client, "GET", path) as source:
        assert source.response.status_code == 200
        for each in source.iter_sse():
            got.append((each.event, each.data, each.id))
            if each.event == until:
                return got
    raise AssertionError(got)


def test_a_stream_of_comments_is_html_from_the_log_and_live(alice):
    item = item_of(alice)
    first = comment(alice, item, "<b>one</b>\nid: 5")
    assert alice.patch(f"/api/comments/{first}", json={"text": "<i>two</i>"}).status_code == 200
    assert alice.delete(f"/api/comments/{first}").status_code == 204

    for path in (f"/streams/items/{item}/?", f"/streams/?channel=item:{item}&"):
        opened, *got = read(alice, f"{path}render=html&last_event_id=earliest", until="CommentDeleted")
        assert opened[0] == "stream.open"
        assert json.loads(opened[1])["mode"] == "resumed"
        added, updated, deleted = (each for each in got if each[0].startswith("Comment"))
        assert f'id="comment-{first}"' in added[1]
        assert "&lt;b&gt;one&lt;/b&gt;\nid: 5</div>" in added[1]
        assert "&lt;i&gt;two&lt;/i&gt;" in updated[1]
        assert deleted[1] == f'<li id="comment-{first}" hx-swap-oob="delete"></li>'
        assert "ItemCreated" not in {each[0] for each in got}
        assert len({added[2], updated[2], deleted[2]}) == 3


@pytest.mark.parametrize("asked", ["render=json", "render=", "render=HTML", "render=html&render=html"])
def test_an_unknown_rendering_is_refused_by_its_field(alice, asked):
    answer = alice.get(f"/streams/items/{item_of(alice)}/?{asked}")

    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    assert [error["field"] for error in answer.json()["errors"]] == ["render"]


def test_who_may_not_read_may_not_read_html(stack, server, alice):
    item = item_of(alice, visibility="members")

    assert stack.login("bob", server).get(f"/streams/items/{item}/?render=html").status_code == 403
