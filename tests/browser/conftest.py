"""A real Chromium: the system's, since Playwright's own may not be downloadable.

Playwright's synchronous API keeps an event loop running in this thread for as long as it is
open, which pytest-asyncio and Django's ORM refuse to share. So it is open for this package
only, tests here are plain functions, and they reach the service over HTTP.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from tests.browser import chromium
from tests.browser.app import App, serve_client
from tests.browser.tab import Tab
from tests.proxy import Proxy
from tests.stack import Stack

HERE = Path(__file__).parent
HOW_TO_GET_ONE = (
    "No Chromium was found, so the browser tests were skipped: `apt-get install chromium`, "
    f"or put one on the PATH as {', '.join(chromium.NAMES)}."
)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip the package where there is no browser, before any fixture starts a server for it."""
    if chromium.executable():
        return
    skipped = [item for item in items if item.path.is_relative_to(HERE)]
    for item in skipped:
        item.add_marker(pytest.mark.skip(reason="no Chromium: apt-get install chromium"))
    config.stash[_SKIPPED] = len(skipped)


_SKIPPED = pytest.StashKey[int]()


def pytest_unconfigure(config: pytest.Config) -> None:
    """Say as the run's last line what was missing; the summary comes before this."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if config.stash.get(_SKIPPED, 0) and reporter is not None:
        reporter.write_line(HOW_TO_GET_ONE, yellow=True)


expect.set_options(timeout=20_000)  # Playwright's 5 s are little on a machine that does much else


@pytest.fixture(scope="package", name="chromium")
def open_chromium(stack: Stack) -> Iterator[Browser]:
    """Open the browser; the stack is started first, while no event loop runs here."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium.executable(), args=chromium.ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def open_tab(chromium: Browser, stack: Stack) -> Iterator[Callable[..., Tab]]:
    """Open tabs, each in a browser profile of its own; none may have met an error of the page's own."""
    tabs: list[Tab] = []

    def open_one(user: str | None = None, path: str = "/", *, at: str = "", **options: object) -> Tab:
        base = at or stack.url("daphne")
        context = chromium.new_context(base_url=base, reduced_motion="reduce", **options)
        tab = Tab(context.new_page())
        tabs.append(tab)
        if user:
            tab.log_in(user)
        tab.page.goto(path)
        return tab

    yield open_one
    for tab in tabs:
        tab.page.context.close()
    assert [fault for tab in tabs for fault in tab.faults] == []


@pytest.fixture
def open_app(chromium: Browser, stack: Stack) -> Iterator[Callable[..., App]]:
    """Open tabs of an app with our client, in one browser profile; none may have met an error of its own."""
    apps: list[App] = []

    def open_one(user: str = "alice", *, at: str = "", **options: object) -> App:
        if apps:
            context = apps[0].page.context
        else:
            context = chromium.new_context(base_url=at or stack.url("daphne"), bypass_csp=True)
            serve_client(context)
            answer = context.request.post("/api/session", data={"username": user, "password": f"demo-{user}"})
            assert answer.ok, answer.text()
        apps.append(App(context.new_page()))
        apps[-1].begin(**options)
        return apps[-1]

    yield open_one
    if apps:
        apps[0].page.context.close()
    assert [fault for app in apps for fault in app.faults] == []


@pytest.fixture
def server(request: pytest.FixtureRequest, stack: Stack) -> str:
    """Return Daphne's base URL; in turn each server's, in tests that are marked with `on_both`."""
    return stack.url(getattr(request, "param", "daphne"))


@pytest.fixture
def network(server: str) -> Iterator[Proxy]:
    """Put a network in front of each of the servers in turn, to be cut."""
    with Proxy(server) as proxy:
        yield proxy
