"""Pages of other origins in a real browser, and what a page's own policy refuses."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from playwright.sync_api import Browser, Page

from tests.browser.tab import Tab
from tests.stack import Stack, eventually


class Blank(BaseHTTPRequestHandler):
    """A web app of somebody's: a page without anything."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def apps() -> Iterator[list[str]]:
    """Two web apps, each on an origin of its own."""
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), Blank) for _ in range(2)]
    threads = [threading.Thread(target=server.serve_forever) for server in servers]
    for thread in threads:
        thread.start()
    yield [f"http://127.0.0.1:{server.server_port}" for server in servers]
    for server, thread in zip(servers, threads, strict=True):
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(scope="module", params=["daphne9", "uvicorn9"])
def api(request, stack: Stack, apps: list[str]) -> Iterator[str]:
    """Each server in turn, which lets the first app read."""
    stack.start(request.param, CORS_ALLOWED_ORIGINS=apps[0], CSRF_TRUSTED_ORIGINS=apps[0])
    yield stack.url(request.param)
    stack.stop(request.param)
    del stack.ports[request.param]


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    with chromium.new_context() as context:
        yield context.new_page()


LISTEN = """(url) => new Promise((resolve) => {
  const source = new EventSource(url, { withCredentials: true });
  const end = (said) => { source.close(); resolve(said); };
  source.addEventListener("stream.open", (event) => end(JSON.parse(event.data).mode));
  source.onerror = () => end(`error ${source.readyState}`);
})"""

ASK = """async ([url, method, body]) => {
  try {
    const first = await fetch(`${url}/api/session`, { credentials: "include" });
    const token = first.ok ? (await first.json()).csrf_token : "";
    const key = crypto.randomUUID();
    const given = { "Content-Type": "application/json", "X-CSRFToken": token, "Idempotency-Key": key };
    const headers = body ? given : {};
    const answer = await fetch(`${url}/api/items`, { method, headers, credentials: "include", body });
    const said = await answer.json();
    return [answer.status, said.code ?? said.title ?? ""];
  } catch (error) {
    return [0, error.name];
  }
}"""


def log_in(page: Page, api: str) -> None:
    body = {"username": "alice", "password": "demo-alice"}
    assert page.request.post(f"{api}/api/session", data=body).ok


def test_an_allowed_origin_reads_and_posts(page, api, apps):
    page.goto(apps[0])
    assert page.evaluate(ASK, [api, "GET", None]) == [401, "not_logged_in"]
    log_in(page, api)

    assert page.evaluate(LISTEN, f"{api}/streams/me/") == "live"
    assert page.evaluate(ASK, [api, "POST", '{"title":"From elsewhere"}']) == [201, "From elsewhere"]
    assert page.evaluate(ASK, [api, "POST", '{"title":""}']) == [422, "invalid"]


def test_any_other_origin_reads_nothing(page, api, apps):
    page.goto(apps[1])
    log_in(page, api)

    assert page.evaluate(LISTEN, f"{api}/streams/me/") == "error 2"  # closed for good
    assert page.evaluate(ASK, [api, "GET", None]) == [0, "TypeError"]
    assert page.evaluate(ASK, [api, "POST", '{"title":"Never"}']) == [0, "TypeError"]


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/", "#root h1, #root h2"),
        ("/admin/", "#content-main .module"),
        ("/admin/events/event/", "#changelist"),
        ("/admin/events/item/", "#changelist"),
        ("/admin/workers/delivery/", "#changelist"),
        ("/admin/auth/user/", "#changelist"),
        ("/admin/auth/user/1/change/", "#user_form"),
        ("/admin/auth/user/add/", "#user_form"),
        ("/api/docs", ".opblock"),
    ],
)
def test_no_page_of_ours_breaks_its_own_policy(open_tab, path, shown):
    tab: Tab = open_tab("admin", path)
    tab.page.locator(shown).first.wait_for()
    if path != "/":  # there a stream stays open
        tab.page.wait_for_load_state("networkidle")
    # The tab's faults, where the browser says what it refused, are looked at when it closes.


def test_a_policy_that_is_broken_is_heard_of(open_tab):
    tab: Tab = open_tab("admin", "/api/docs")
    tab.page.evaluate(
        "document.body.append(Object.assign(document.createElement('script'), {text: 'window.ran = 1'}))"
    )

    assert tab.page.evaluate("window.ran") is None
    eventually(lambda: tab.page.evaluate("true") and tab.faults)  # the console may come after the answer
    assert any("Content Security Policy" in fault for fault in tab.faults)
    tab.faults.clear()
