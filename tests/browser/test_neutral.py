"""The browser's own EventSource, htmx's extension and our client: what each hands on, and who one can be.

What is held of the others is in `tests/clients/test_neutral.py`.
"""

import pytest

from streams.tokens import COOKIE
from tests import neutral
from tests.neutral import BEAT_SECONDS, CLIENTS
from tests.stack import eventually
from tests.test_end_to_end import comment, item_of

# EventSource hands on by name what it was asked for; what has no name of its own is `message`.
OPEN = """({ url, types }) => {
  window.heard = [];
  const source = new EventSource(url);
  for (const type of types) {
    source.addEventListener(type, ({ data, lastEventId: id }) => heard.push({ event: type, data, id }));
  }
}"""
TYPES = ["message", "stream.open", "stream.live", "stream.reset", "CommentAdded", ""]

HTMX = """({ url }) => {
  window.heard = [];
  document.body.addEventListener("htmx:sseMessage", ({ detail: { type: event, data, lastEventId: id } }) =>
    heard.push({ event, data, id }));
  document.body.addEventListener("sse:stream.reset", () => heard.push({ event: "stream.reset" }), true);
  const part = document.createElement("div");
  part.innerHTML = `<div hx-ext="sse" sse-connect="${url}"><div sse-swap="message,CommentAdded"></div>
    <div id="lost" hx-get="/healthz" hx-trigger="sse:stream.reset"></div></div>`;
  document.body.append(part);
  htmx.process(part);
}"""


@pytest.fixture(scope="module")
def base(stack):
    with neutral.beating(stack, "daphne5") as url:
        yield url


@pytest.fixture
def alice(stack, base):
    return stack.login("alice", base)


@pytest.fixture
def item(alice):
    return item_of(alice)


@pytest.fixture(params=["EventSource", "htmx, SSE extension"])
def client(request) -> str:
    return request.param


@pytest.fixture
def listen(client, alice, item, base, open_tab):
    """Have the client listen, in one of the ways to say who one is; return what it hands on."""

    def begin(last_event_id: str, way: str = "session"):
        tab = open_tab("alice", f"/demo/htmx/{item}/", at=base)
        tab.page.locator("#tape").evaluate("each => each.remove()")  # the page's own
        url = f"/streams/?channel=item:{item}&last_event_id={last_event_id}"
        if way != "session":
            token = alice.post("/api/tokens", json={"channels": [f"item:{item}"]}).json()["token"]
            tab.page.context.clear_cookies()
            if way == "cookie":
                tab.page.context.add_cookies([{"name": COOKIE, "value": token, "url": base}])
            else:
                url += f"&token={token}"
        if client == "EventSource":
            tab.page.evaluate(OPEN, {"url": url, "types": TYPES})
        else:
            tab.page.evaluate(HTMX, {"url": url + "&render=html"})
        return tab

    return begin


def heard(tab, event: str) -> list[dict[str, str]]:
    return [each for each in tab.page.evaluate("heard") if each["event"] == event]


def test_it_hears_what_was_from_the_query_cursor_then_what_is_and_no_heartbeat(client, alice, item, listen):
    began = alice.get(f"/api/items/{item}/comments").json()["cursor"]
    comment(alice, item, "one")
    tab = listen(began)
    eventually(lambda: heard(tab, "CommentAdded"))
    tab.page.wait_for_timeout(5_000 * BEAT_SECONDS)  # in which it beats four times or so
    comment(alice, item, "two")
    eventually(lambda: len(heard(tab, "CommentAdded")) == 2)

    one, two = (each["data"] for each in heard(tab, "CommentAdded"))
    assert "one" in one
    assert "two" in two
    assert CLIENTS[client].heartbeats == "not seen"
    assert heard(tab, "message") == heard(tab, "") == []
    assert all(each["data"] for each in tab.page.evaluate("heard"))


def test_what_cannot_be_continued_is_a_reset(listen):
    tab = listen("0123456789-7")
    eventually(lambda: heard(tab, "stream.reset"))


@pytest.mark.parametrize("way", ["session", "cookie", "token"])
def test_one_can_say_who_one_is(client, way, alice, item, listen):
    assert ("cookie" if way == "session" else way) in CLIENTS[client].who
    tab = listen("earliest", way)
    comment(alice, item, "here")
    eventually(lambda: heard(tab, "CommentAdded"))


@pytest.mark.parametrize("way", ["eventsource", "fetch", "websocket", "poll"])
def test_our_client_hands_on_no_heartbeat_on_any_way(base, alice, item, open_app, way):
    app = open_app(at=base, way=way)
    app.page.evaluate(
        """([channel]) => {
          app.got.all = [];
          const keep = (data, { id, type }) => app.got.all.push({ id, type, data });
          const any = { CommentAdded: keep, message: keep, null: keep, undefined: keep, "": keep };
          app.handles.all = app.client.subscribe(channel, any);
        }""",
        [f"item:{item}"],
    )
    app.ready()
    app.page.wait_for_timeout(5_000 * BEAT_SECONDS)
    comment(alice, item, "here")
    app.hears("here")

    assert [each["type"] for each in app.got()] == ["CommentAdded"]
    assert CLIENTS["clients/js"].heartbeats == "not seen"
