"""A web app that uses the JavaScript client: what it is told, and when, in each of its tabs."""

import contextlib
from pathlib import Path
from typing import Any

from playwright.sync_api import BrowserContext, ConsoleMessage, Error, Page

from tests.stack import ROOT, eventually

CLIENT = ROOT / "clients/js"
# Chromium's own words for what does not come through.
_EXPECTED = ("Failed to load resource", "WebSocket connection to")
TYPES = ("CommentAdded", "CommentDeleted", "NotificationRaised")

# Each subscription's events are kept by its name; states in the order in which they came.
BEGIN = """
async ({ options, types }) => {
  const { Client, follow } = await import("/clients/js/index.js");
  const app = (window.app = { follow, states: [], whys: [], got: {}, resets: {}, overs: {}, handles: {} });
  const onState = (state, why) => (app.states.push(state), app.whys.push(why));
  const client = (app.client = new Client({ ...options, onState }));
  app.subscribe = (name, channels, given = {}) => {
    app.got[name] ??= [];
    app.resets[name] ??= [];
    app.overs[name] ??= [];
    const keep = (data, { id, type }) => app.got[name].push({ id, type, data });
    const handlers = Object.fromEntries((given.types ?? types).map((type) => [type, keep]));
    const onReset = (why) => app.resets[name].push(why.reason);
    const onOver = ({ status }) => app.overs[name].push(status);
    app.handles[name] = client.subscribe(channels, handlers, { ...given, onReset, onOver });
  };
}
"""


def serve_client(context: BrowserContext) -> None:
    """Serve the client's modules on whatever origin a page of the context has."""

    def answer(route: Any) -> None:
        name = route.request.url.partition("/clients/js/")[2]
        anybody = {"Access-Control-Allow-Origin": "*"}
        route.fulfill(path=Path(CLIENT / name), content_type="text/javascript", headers=anybody)

    context.route("**/clients/js/**", answer)


class App:
    """One tab of the app."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.faults: list[str] = []
        self._streams: list[str] = []
        page.on("pageerror", lambda error: self.faults.append(f"{error.name}: {error.message}"))
        page.on("console", self._heard)
        page.on("request", lambda request: "/streams/" in request.url and self._streams.append(request.url))

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not message.text.startswith(_EXPECTED):
            self.faults.append(message.text)

    def begin(self, **options: Any) -> None:
        """Make the client, on a page of the service's own origin."""
        self.page.goto("/healthz")
        self.page.evaluate(BEGIN, {"options": options, "types": TYPES})

    def subscribe(self, *channels: str, name: str = "all", **given: Any) -> None:
        """Subscribe; what comes is kept under a name."""
        self.page.evaluate(
            "([name, channels, given]) => app.subscribe(name, channels, given)", [name, list(channels), given]
        )

    def close(self, name: str = "all") -> None:
        """Close a subscription."""
        self.page.evaluate("(name) => app.handles[name].close()", name)

    def ready(self, name: str = "all") -> str:
        """Wait until a subscription is on a stream; return its place."""
        return str(self.page.evaluate("(name) => app.handles[name].ready", name))

    def got(self, name: str = "all") -> list[dict[str, Any]]:
        """Return what came, in its order."""
        found: list[dict[str, Any]] = self.page.evaluate("(name) => app.got[name]", name)
        return found

    def texts(self, name: str = "all") -> list[str]:
        """Return the texts of the comments that came, in their order."""
        return [event["data"]["text"] for event in self.got(name) if event["type"] == "CommentAdded"]

    def said(self, what: str, name: str = "all") -> Any:
        """Return a subscription's `resets` or `overs`."""
        return self.page.evaluate("([what, name]) => app[what][name]", [what, name])

    @property
    def streams(self) -> list[str]:
        """The addresses of the streams that this tab asked for."""
        self.page.evaluate("null")  # what the browser reports is heard only while it is spoken to
        return self._streams

    def crash(self) -> None:
        """Have the tab's process end, as a browser's tab may."""
        with contextlib.suppress(Error):
            self.page.goto("chrome://crash", timeout=2_000)

    def show(self, visible: bool) -> None:
        """Have the browser say that somebody looks at the tab, or nobody; without a screen it never would."""
        self.page.evaluate(
            """(state) => {
              Object.defineProperty(document, "visibilityState", { value: state, configurable: true });
              document.dispatchEvent(new Event("visibilitychange"));
            }""",
            "visible" if visible else "hidden",
        )

    @property
    def state(self) -> str:
        """How the client says that it stands."""
        return str(self.page.evaluate("app.client.state"))

    @property
    def states(self) -> list[str]:
        """How it stood so far."""
        found: list[str] = self.page.evaluate("app.states")
        return found

    def becomes(self, state: str, *, seconds: float = 20) -> None:
        """Wait for a state."""
        eventually(lambda: self.state == state, seconds=seconds)

    def hears(self, *texts: str, name: str = "all", seconds: float = 20) -> None:
        """Wait for the last of these comments; exactly these came then, in this order."""
        eventually(lambda: texts[-1] in self.texts(name), seconds=seconds)
        found = self.texts(name)
        assert found == list(texts), f"{name}: {found}"
