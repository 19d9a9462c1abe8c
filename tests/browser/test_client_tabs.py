"""The JavaScript client in many tabs: one connection, led by one of them, whatever becomes of that one."""

import random
from collections.abc import Callable, Sequence

import httpx
import pytest

from tests.browser.app import App
from tests.chaos.network import Network
from tests.stack import Stack, eventually
from tests.test_end_to_end import comment, item_of


def connections(client: httpx.Client) -> int:
    """Return how many streams the server holds open."""
    lines = client.get("/metrics").text.splitlines()
    return int(float(next(line.split()[-1] for line in lines if line.startswith("tickertape_connections "))))


def leader(apps: Sequence[App]) -> App:
    """Return the tab that has the connection: all the others have asked for none, or left it again."""
    held = "navigator.locks.query().then(({ held }) => held.map((lock) => lock.clientId))"
    mine = """async () => {
      const name = Math.random().toString();
      return navigator.locks.request(name, async () => {
        const { held } = await navigator.locks.query();
        return held.find((lock) => lock.name === name).clientId;
      });
    }"""
    [leading] = apps[0].page.evaluate(held)
    return next(app for app in apps if app.page.evaluate(mine) == leading)


def test_ten_tabs_share_a_connection_and_each_hears_everything_once(stack, server, open_app):
    alice = stack.login("alice", server)
    items = [item_of(alice) for _ in range(3)]
    eventually(lambda: connections(alice) == 0)  # who was here before may be on the way out
    apps = [open_app(at=server) for _ in range(10)]
    for number, app in enumerate(apps):
        app.subscribe(f"item:{items[number % 3]}")
    for app in apps:
        app.ready()

    for number in range(9):
        comment(alice, items[number % 3], f"{number}")

    for number, app in enumerate(apps):
        app.hears(*(f"{each}" for each in range(number % 3, 9, 3)))
        app.becomes("live")
    eventually(lambda: connections(alice) == 1)
    assert [bool(app.streams) for app in apps].count(True) == 1
    assert (
        apps[-1].page.evaluate("fetch('/healthz').then((answer) => answer.status)") == 200
    )  # room for a click


def test_the_lead_passes_on_when_its_tab_closes_crashes_or_sleeps(stack, server, open_app):
    alice = stack.login("alice", server)
    item = item_of(alice)
    apps = [open_app(at=server, sleepAfter=50) for _ in range(5)]
    for app in apps:
        app.subscribe(f"item:{item}")
    for app in apps:
        app.ready()
    said: list[str] = []

    def say() -> None:
        said.append(f"{len(said)}")
        comment(alice, item, said[-1])

    def leave(how: str) -> None:
        gone = leader(apps)
        apps.remove(gone)
        say()
        if how == "closes":
            gone.page.close()
        elif how == "crashes":
            gone.crash()
        else:
            gone.show(False)
        say()

    for how in ("closes", "crashes", "sleeps"):
        leave(how)
        for app in apps:
            app.hears(*said)
            app.becomes("live")
    for app in apps:
        assert app.said("resets") == []


def test_a_leader_that_hangs_is_deposed(stack, server, open_app):
    alice = stack.login("alice", server)
    item = item_of(alice)
    apps = [open_app(at=server) for _ in range(3)]
    for app in apps:
        app.subscribe(f"item:{item}")
    for app in apps:
        app.ready()
    hung = leader(apps)
    [other, *_] = others = [app for app in apps if app is not hung]

    hung.page.evaluate(
        "setTimeout(() => { for (const end = Date.now() + 12_000; Date.now() < end; ); }, 0), undefined"
    )
    comment(alice, item, "one")
    other.show(True)  # somebody comes back to it, and it asks how things stand

    for app in others:
        app.hears("one")
    comment(alice, item, "two")
    for app in apps:
        app.hears("one", "two", seconds=30)
        app.becomes("live")
    assert leader(apps) is not hung


def test_a_tab_that_comes_late_gets_what_it_asks_for_and_the_others_nothing_twice(stack, server, open_app):
    alice = stack.login("alice", server)
    item = item_of(alice)
    cursor = alice.get(f"/api/items/{item}/comments").json()["cursor"]
    first = open_app(at=server)
    first.subscribe(f"item:{item}")
    first.ready()
    comment(alice, item, "one")
    first.hears("one")

    late, later = open_app(at=server), open_app(at=server)
    late.subscribe(f"item:{item}", after=cursor)
    later.subscribe(f"item:{item}")
    late.hears("one")
    later.ready()
    comment(alice, item, "two")

    first.hears("one", "two")
    late.hears("one", "two")
    later.hears("two")


def test_what_a_tab_may_not_read_harms_no_other(stack, server, open_app):
    alice, bob = stack.login("alice", server), stack.login("bob", server)
    hers, his = item_of(alice), item_of(bob, visibility="members")
    good, bad = open_app(at=server), open_app(at=server)
    good.subscribe(f"item:{hers}")
    good.ready()

    bad.subscribe(f"item:{his}", name="his")
    bad.subscribe(f"item:{hers}", name="hers")

    eventually(lambda: bad.said("overs", "his") == [403])
    bad.ready("hers")
    comment(alice, hers, "on")
    good.hears("on")
    bad.hears("on", name="hers")
    assert good.said("overs") == []


SANDBOX = """async () => {
  const frame = Object.assign(document.createElement("iframe"), { srcdoc: "here", sandbox: "allow-scripts" });
  document.body.append(frame);
  await new Promise((resolve) => (frame.onload = resolve));
}"""
# Nobody waits for it: it may never end.
LISTEN = """([url, given]) => void import(`${url}/clients/js/index.js`).then(({ Client }) => {
  new Client({ url }).subscribe("item:1", { CommentAdded() {} }, given);
})"""


@pytest.mark.parametrize("given", [{}, {"store": "mine"}])
@pytest.mark.parametrize("before", ["null", "void (BroadcastChannel = function () { throw 'none'; })"])
def test_a_frame_that_may_neither_lock_nor_store_leads_itself(server, open_app, before, given):
    app = open_app(at=server)
    app.page.evaluate(SANDBOX)
    frame = app.page.frames[-1]
    app.page.context.route("**/streams/?*", lambda route: None)  # the service would not answer such a frame

    with app.page.expect_request("**/streams/?*"):
        frame.evaluate(before)
        frame.evaluate(LISTEN, [server, given])

    app.page.evaluate("document.querySelector('iframe').remove()")


class Street:
    """Tabs that come and go behind a bad network, and what is said meanwhile; drawn from a seed."""

    def __init__(
        self, network: Network, alice: httpx.Client, open_app: Callable[..., App], seed: int
    ) -> None:
        self.apps: list[App] = []
        self.said: dict[str, list[str]] = {item_of(alice): [] for _ in range(2)}
        self._draw = random.Random(seed)
        self._network = network
        self._alice = alice
        self._open = open_app
        listed = {item: alice.get(f"/api/items/{item}/comments").json() for item in self.said}
        self._cursors = {item: found["cursor"] for item, found in listed.items()}

    def come(self) -> None:
        self._network.do("mend")  # or the page itself would not load
        self.apps.append(self._open(at=f"http://127.0.0.1:{self._network.balanced}"))
        for item, cursor in self._cursors.items():
            self.apps[-1].subscribe(f"item:{item}", name=item, after=cursor)

    def leave(self) -> None:
        if len(self.apps) > 2:
            self.apps.pop(self._draw.randrange(len(self.apps))).page.close()

    def say(self) -> None:
        item = self._draw.choice(list(self.said))
        self.said[item].append(f"{len(self.said[item])}")
        comment(self._alice, item, self.said[item][-1])

    def step(self) -> None:
        """Have something happen, and something said before and after it."""
        acts: list[Callable[[], object]] = [
            lambda: self._network.do("reset"),
            lambda: self._network.do("halfopen", **{"for": 1.0}),
            lambda: self._network.do("stall", seconds=0.5),
            self.come,
            self.leave,
        ]
        self.say()
        self._draw.choice(acts)()
        self.say()


def test_tabs_that_come_and_go_over_a_bad_network_lose_nothing_and_double_nothing(stack: Stack, open_app):
    alice = stack.login("alice", stack.url("uvicorn"))
    with Network([stack.ports["daphne"], stack.ports["uvicorn"]], seed=7) as network:
        street = Street(network, alice, open_app, seed=7)
        for _ in range(3):
            street.come()
        for _ in range(25):
            street.step()
        network.do("mend")

        for app in street.apps:
            for item, said in street.said.items():
                app.hears(*said, name=item, seconds=40)
                assert app.said("resets", item) == []
