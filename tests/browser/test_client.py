"""The JavaScript client in a real browser, in one tab: from its own place, each event once."""

import pytest

from tests.browser import on_both
from tests.chaos.network import Network
from tests.proxy import Proxy
from tests.stack import eventually
from tests.test_end_to_end import comment, item_of

WAYS = ["eventsource", "fetch", "websocket", "poll"]


@pytest.fixture
def network(server: str):
    with Network([int(server.rpartition(":")[2])], seed=1) as started:
        started.url = f"http://127.0.0.1:{started.ports[0]}"
        yield started


@on_both
@pytest.mark.parametrize("way", WAYS)
def test_what_is_said_is_heard_at_once(stack, server, open_app, way):
    alice = stack.login("alice", server)
    item = item_of(alice)
    app = open_app(at=server, way=way)
    app.subscribe(f"item:{item}")
    app.ready()
    app.becomes("live")

    comment(alice, item, "one")
    comment(alice, item, "two")

    app.hears("one", "two")
    assert app.states == ["live"]


@on_both
@pytest.mark.parametrize("way", WAYS)
def test_a_cut_connection_goes_on_where_it_was(stack, server, network, open_app, way):
    alice = stack.login("alice", server)
    item = item_of(alice)
    app = open_app(at=network.url, way=way)
    app.subscribe(f"item:{item}")
    app.ready()
    said = []

    for _ in range(4):
        said += [f"{len(said)}", f"{len(said) + 1}"]
        comment(alice, item, said[-2])
        network.do("reset")
        comment(alice, item, said[-1])
        app.hears(*said)

    app.becomes("live")
    assert way == "poll" or "offline" in app.states  # a GET that broke off the browser asks again by itself
    assert app.said("resets") == []


def test_a_dead_connection_is_noticed_by_its_missing_heartbeats(stack, server, network, open_app):
    alice = stack.login("alice", server)
    item = item_of(alice)
    app = open_app(at=network.url, way="fetch", watchdog=1_000)
    app.subscribe(f"item:{item}")
    app.ready()

    network.do("stall", seconds=100)
    comment(alice, item, "nobody brings this")
    eventually(lambda: app.state == "connecting")
    network.do("mend")

    app.hears("nobody brings this")


@pytest.mark.parametrize("way", WAYS)
def test_a_server_that_was_killed_is_come_back_to(stack, open_app, way):
    stack.start("uvicorn8")
    alice = stack.login("alice", stack.url("daphne"))
    item = item_of(alice)
    app = open_app(at=stack.url("uvicorn8"), way=way)
    app.subscribe(f"item:{item}")
    app.ready()
    comment(alice, item, "one")
    app.hears("one")

    stack.kill("uvicorn8")
    comment(alice, item, "two")
    app.becomes("offline")
    stack.start("uvicorn8")
    comment(alice, item, "three")

    app.hears("one", "two", "three", seconds=60)
    app.becomes("live")
    stack.stop("uvicorn8")
    del stack.ports["uvicorn8"]


# Time goes on when it is told to; chance is as it is told.
STEADY = """(path) => {
  const { setTimeout } = window;
  const { now } = Date;
  app.client.close();
  Object.assign(app, { waits: [], drawn: 0.001, ahead: 0 });
  window.setTimeout = (then, ms) => (app.waits.push(ms), setTimeout(then, ms));
  Math.random = () => app.drawn;
  Date.now = () => now() + app.ahead;
  app.following = app.follow(path, {});
}"""


def test_failures_of_before_count_no_more_where_an_eventsource_was_steady(stack, server, open_app):
    item = item_of(stack.login("alice", server))
    with Proxy(server) as proxy:
        app = open_app(at=proxy.url)
        proxy.cut()
        app.page.evaluate(STEADY, f"/streams/items/{item}/")
        eventually(lambda: app.page.evaluate("app.waits.filter((ms) => ms < 1_000).length >= 6"))
        proxy.restore()
        eventually(lambda: app.page.evaluate("app.following.state") == "live")

        app.page.evaluate("Object.assign(app, { waits: [], drawn: 0.5, ahead: 6_000 })")
        proxy.cut()

        eventually(lambda: app.page.evaluate("app.waits.length > 1"))
        assert app.page.evaluate("app.waits[1]") == 500  # the first is for the browser's own try


def test_a_list_and_what_came_after_it_fit_without_a_gap_or_a_double(stack, server, open_app):
    alice = stack.login("alice", server)
    item = item_of(alice)
    comment(alice, item, "in the list")
    cursor = alice.get(f"/api/items/{item}/comments").json()["cursor"]
    comment(alice, item, "after the list")
    app = open_app(at=server)

    app.subscribe(f"item:{item}", after=cursor)

    app.hears("after the list")
    comment(alice, item, "now")
    app.hears("after the list", "now")


def test_subscriptions_stand_at_places_of_their_own_on_one_connection(stack, server, open_app):
    alice = stack.login("alice", server)
    first, second = item_of(alice), item_of(alice)
    old = alice.get(f"/api/items/{second}/comments").json()["cursor"]
    app = open_app(at=server)
    app.subscribe(f"item:{first}", name="first")
    app.ready("first")
    comment(alice, first, "1")
    comment(alice, second, "a")
    app.hears("1", name="first")

    app.subscribe(f"item:{second}", name="second", after=old)
    app.subscribe(f"item:{second}", name="from now on")
    app.hears("a", name="second")
    app.ready("from now on")
    comment(alice, first, "2")
    comment(alice, second, "b")

    app.hears("a", "b", name="second")
    app.hears("b", name="from now on")
    app.hears("1", "2", name="first")
    assert f"item%3A{second}" in app.streams[-1]
    app.close("second")
    app.close("from now on")
    eventually(lambda: f"item%3A{second}" not in app.streams[-1])
    comment(alice, first, "3")
    app.hears("1", "2", "3", name="first")


def test_a_type_that_is_asked_for_later_is_heard_from_there_on(stack, server, open_app):
    alice = stack.login("alice", server)
    item = item_of(alice)
    app = open_app(at=server)
    app.subscribe(f"item:{item}", name="others", types=["CommentDeleted"])
    cursor = app.ready("others")
    comment(alice, item, "unheard by the browser")

    app.subscribe(f"item:{item}", name="all", after=cursor)

    app.hears("unheard by the browser")


def test_a_place_that_cannot_be_gone_on_from_concerns_only_who_stands_there(stack, server, open_app):
    alice = stack.login("alice", server)
    item = item_of(alice)
    app = open_app(at=server)
    app.subscribe(f"item:{item}", name="good")
    app.ready("good")

    app.subscribe(f"item:{item}", name="bad", after="nonsense")
    app.ready("bad")
    comment(alice, item, "on")

    app.hears("on", name="bad")
    app.hears("on", name="good")
    assert app.said("resets", "bad") == ["malformed"]
    assert app.said("resets", "good") == []


def test_a_reload_goes_on_from_the_place_that_was_kept(stack, server, open_app):
    alice = stack.login("alice", server)
    item = item_of(alice)
    app = open_app(at=server)
    app.subscribe(f"item:{item}", store="mine")
    app.ready()
    comment(alice, item, "before")
    app.hears("before")

    app.page.goto("about:blank")
    comment(alice, item, "while it loads")
    app.begin()
    app.subscribe(f"item:{item}", store="mine")
    app.subscribe(f"item:{item}", name="not kept")

    app.hears("while it loads")
    app.ready("not kept")
    comment(alice, item, "after")
    app.hears("while it loads", "after")
    app.hears("after", name="not kept")


def test_a_refused_channel_is_over_and_the_others_go_on(stack, server, open_app):
    alice, bob = stack.login("alice", server), stack.login("bob", server)
    hers, his = item_of(alice), item_of(bob, visibility="members")
    app = open_app("alice", at=server)
    app.subscribe(f"item:{hers}", name="hers")
    app.ready("hers")

    app.subscribe(f"item:{his}", name="his")
    app.subscribe("item:999999", name="nobody's")

    eventually(lambda: app.said("overs", "his") == [403] and app.said("overs", "nobody's") == [404])
    app.becomes("live")
    comment(alice, hers, "on")
    app.hears("on", name="hers")
    assert app.said("overs", "hers") == []


def test_who_is_logged_out_is_told_and_may_come_back(stack, server, open_app):
    alice = stack.login("alice", server)
    item = item_of(alice)
    app = open_app(at=server)
    app.subscribe(f"item:{item}")
    app.ready()
    token = next(each["value"] for each in app.page.context.cookies() if each["name"] == "csrftoken")
    app.page.request.delete("/api/session", headers={"X-CSRFToken": token})

    app.becomes("over")
    assert app.said("overs") == [401]

    app.page.request.post("/api/session", data={"username": "alice", "password": "demo-alice"})
    app.subscribe(f"item:{item}", name="again")
    app.ready("again")
    comment(alice, item, "back")
    app.hears("back", name="again")


def test_a_handler_that_throws_stops_nobody(stack, server, open_app):
    alice = stack.login("alice", server)
    item = item_of(alice)
    app = open_app(at=server)
    app.page.evaluate(
        """(channel) => {
          const CommentAdded = () => { throw new Error("mine"); };
          app.client.subscribe(channel, { CommentAdded });
        }""",
        f"item:{item}",
    )
    app.subscribe(f"item:{item}")
    app.ready()

    comment(alice, item, "one")
    comment(alice, item, "two")

    app.hears("one", "two")
    eventually(lambda: app.page.evaluate("true") and len(app.faults) == 2)  # each is thrown a bit later
    assert app.faults == ["Error: mine"] * 2
    app.faults.clear()


def test_a_tab_that_nobody_looks_at_gives_its_connection_back_and_misses_nothing(
    stack, server, network, open_app
):
    alice = stack.login("alice", server)
    item = item_of(alice)
    app = open_app(at=network.url, sleepAfter=100)
    app.subscribe(f"item:{item}")
    app.ready()

    app.show(False)
    app.becomes("offline")
    assert app.page.evaluate("app.whys.at(-1)") == {"reason": "asleep"}
    comment(alice, item, "asleep")
    assert app.texts() == []
    app.show(True)

    app.hears("asleep")
    app.becomes("live")


FOLLOW = """async ([path, options]) => {
  const heard = [];
  const states = [];
  const types = ["start", "progress", "complete", "JobState", "JobProgressed", "TaskComplete"];
  const keep = (data, { type, id }) => heard.push([type, data, id]);
  const handlers = Object.fromEntries(types.map((type) => [type, keep]));
  const csrf = document.cookie.match(/csrftoken=([^;]*)/)[1];
  const headers = options.method && { "Content-Type": "application/json", "X-CSRFToken": csrf };
  await new Promise((resolve) => {
    const onState = (state) => (states.push(state), state === "over" && resolve());
    app.follow(path, handlers, { ...options, ...(headers && { headers }), onState });
  });
  return [heard, states];
}"""


def test_a_request_may_be_answered_by_a_stream_and_a_job_be_followed_to_its_end(stack, server, open_app):
    app = open_app(at=server)

    heard, states = app.page.evaluate(
        FOLLOW, ["/api/jobs/slow", {"method": "POST", "body": '{"steps": 3, "seconds": 4}'}]
    )

    assert [heard[0][0], heard[-1][0]] == ["start", "complete"]
    assert "progress" in [type_ for type_, *_ in heard]
    assert (states[0], states[-1]) == ("live", "over")
    again, states = app.page.evaluate(FOLLOW, [heard[0][1]["stream"], {}])
    assert again[-1][0] == "TaskComplete"
    assert states[-1] == "over"


def test_headers_go_with_every_request(stack, server, open_app):
    app = open_app(at=server, headers={"X-Mine": "yes"})
    item = item_of(stack.login("alice", server))
    with app.page.expect_request("**/streams/?*") as asked:
        app.subscribe(f"item:{item}")
    app.ready()

    assert asked.value.headers["x-mine"] == "yes"
    assert asked.value.resource_type == "fetch"


# The last of the tokens stays.
BY_TOKENS = """async ([channel, tokens, way]) => {
  const { Client } = await import("/clients/js/index.js");
  Object.assign(app, { asked: 0, refused: [] });
  app.got.tokens = [];
  const token = async () => tokens[Math.min(app.asked++, tokens.length - 1)];
  const client = new Client({ token, way, credentials: "omit", shared: false });
  const keep = (data) => app.got.tokens.push({ type: "CommentAdded", data });
  const onOver = ({ status }) => app.refused.push(status);
  await client.subscribe(channel, { CommentAdded: keep }, { onOver }).ready.catch(() => null);
}"""


def token_for(client, channel):
    return client.post("/api/tokens", json={"channels": [channel]}).json()["token"]


@pytest.mark.parametrize("way", ["fetch", "poll"])
def test_a_token_is_asked_for_at_each_connection(stack, server, network, open_app, way):
    alice = stack.login("alice", server)
    item = item_of(alice)
    app = open_app(at=network.url)
    tokens = [token_for(alice, f"item:{item}") for _ in range(2)]
    app.page.evaluate(BY_TOKENS, [f"item:{item}", tokens, way])

    comment(alice, item, "one")
    app.hears("one", name="tokens")
    network.do("reset")
    comment(alice, item, "two")

    app.hears("one", "two", name="tokens")
    assert app.page.evaluate("app.asked") >= (2 if way == "fetch" else 1)


@pytest.mark.parametrize("way", WAYS)
def test_when_a_token_is_over_another_one_is_asked_for(stack, server, open_app, way):
    alice, elsewhere = stack.login("alice", server), stack.login("alice", server)
    item = item_of(alice)
    app = open_app(at=server)
    tokens = [token_for(elsewhere, f"item:{item}"), "stale", token_for(alice, f"item:{item}")]
    app.page.evaluate(BY_TOKENS, [f"item:{item}", tokens, way])
    comment(alice, item, "one")
    app.hears("one", name="tokens")

    elsewhere.delete("/api/session")  # and with it the first of the tokens
    comment(alice, item, "two")

    app.hears("one", "two", name="tokens")
    assert app.page.evaluate("app.refused") == []
    if way in ("websocket", "poll"):  # which say why they are refused, and stay what they are
        assert [url for url in app.streams if "/streams/poll/" not in url] == []


@pytest.mark.parametrize("way", WAYS)
def test_tokens_that_are_all_refused_are_not_asked_for_for_ever(stack, server, open_app, way):
    item = item_of(stack.login("alice", server))
    app = open_app(at=server)

    app.page.evaluate(BY_TOKENS, [f"item:{item}", ["stale"], way])

    assert app.page.evaluate("app.refused") == [401]
    asked = app.page.evaluate("app.asked")
    assert asked == (5 if way == "eventsource" else 4)  # which is not told why
