"""Native EventSource in Chromium: keeps its place and comes back by itself, so every habit is `steady` here.

It does not say with which id it comes back, and shows no heartbeat.
"""

import asyncio
from http.cookies import SimpleCookie
from itertools import groupby
from typing import Any

from playwright.async_api import Browser, Error, async_playwright

from tests.browser import chromium
from tests.chaos import pipes

# An EventSource hands out events by name, and only the names that it was asked for.
EVENTS = [
    "stream.open", "stream.live", "stream.reset", "stream.end",
    "CommentAdded", "CommentUpdated", "CommentDeleted", "NotificationRaised", "SystemAlert", "Noted",
]  # fmt: skip
OPEN = """
([clients, names]) => {
  const said = [];
  const say = (name, kind, facts) =>
    said.push(JSON.stringify({ c: name, t: Date.now() / 1000, k: kind, ...facts }));
  for (const { name, path } of clients) {
    const source = new EventSource(path);
    source.onopen = () => say(name, 'connect', { last: null, unknown: true });
    source.onerror = () => source.readyState === EventSource.CLOSED
      ? say(name, 'gaveup', { why: 'refused' }) : say(name, 'cut', { why: 'error' });
    for (const type of names) source.addEventListener(type, (event) => {
      const data = JSON.parse(event.data);
      const token = (type === 'CommentAdded' ? data.text : data.token) ?? null;
      const facts = type.startsWith('stream.') ? { data } : {};
      say(name, 'frame', { id: event.lastEventId || null, event: type, token, ...facts });
    });
  }
  setInterval(() => { if (said.length) observed(said.splice(0)); }, 50);
}
"""


async def open_page(browser: Browser, voice: pipes.Voice, base: str, clients: list[dict[str, Any]]) -> None:
    """Open the streams of one user on one page, which is of the streams' own origin."""
    # The page is any of the origin's: its policy may forbid what an app's own page may do.
    context = await browser.new_context(base_url=base, bypass_csp=True)
    cookies = SimpleCookie(clients[0].get("cookie", ""))
    await context.add_cookies(
        [{"name": name, "value": found.value, "url": base} for name, found in cookies.items()]
    )
    page = await context.new_page()

    def observed(said: list[str]) -> None:
        for line in said:
            voice.say(line)

    await page.expose_function("observed", observed)
    while True:
        try:
            await page.goto("/healthz")
            break
        except Error:
            await asyncio.sleep(0.5)  # the network fails, that is what it is for
    await page.evaluate(OPEN, [clients, EVENTS])


async def main() -> None:
    """Read who to be, and be it."""
    voice = pipes.Voice()
    said = pipes.configuration()["clients"]

    def whose(client: dict[str, Any]) -> tuple[str, str]:
        return client["base"], client.get("cookie", "")

    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=chromium.executable(), args=chromium.ARGUMENTS
        )
        opening = [
            asyncio.create_task(open_page(browser, voice, base, list(clients)))
            for (base, _), clients in groupby(sorted(said, key=whose), key=whose)
        ]
        async for line in pipes.lines():
            if line == "stop":
                break
        await asyncio.sleep(0.1)  # what the pages have heard and not said yet
        for task in opening:
            task.cancel()
        await browser.close()
    voice.flush()


if __name__ == "__main__":
    asyncio.run(main())
