"""The table of how a `text/event-stream` is read says what a browser does."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote

import pytest

from tests.stack import ROOT

CASES = json.loads((ROOT / "tests/clients/sse_cases.json").read_text())["cases"]
LEAST_RETRY = 3_000  # what Chromium waits where it was told nothing

READ = """(cases) => {
  const said = cases.flatMap(({ events }) => events.map(({ event }) => event));
  const types = new Set(["message", "a", "b", ...said]);
  const read = (_, number) => new Promise((resolve) => {
    const events = [];
    let broken;
    const source = new EventSource(`/${number}`);
    for (const type of types) {
      source.addEventListener(type, ({ data, lastEventId: id }) => events.push({ event: type, data, id }));
    }
    source.onerror = () => {
      if (source.readyState === EventSource.CLOSED) resolve({ events, retry: performance.now() - broken });
      broken = performance.now();
    };
  });
  return Promise.all(cases.map(read));
}"""


class Server(ThreadingHTTPServer):
    """Answers each case once; who comes back has nothing more to get, and its id is kept."""

    came_back: dict[int, str]


class Answer(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        name = self.path[1:]
        number = int(name) if name.isdigit() else -1
        if number in self.server.came_back:
            self.server.came_back[number] = self.headers.get("Last-Event-ID", "").encode("latin-1").decode()
            self.send_response(204)
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream" if number >= 0 else "text/html")
        self.end_headers()
        if number >= 0:
            self.server.came_back[number] = ""
            case = CASES[number]
            self.wfile.write(bytes.fromhex(case["hex"]) if "hex" in case else case["stream"].encode())

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    serving = Server(("127.0.0.1", 0), Answer)
    serving.came_back = {}
    thread = threading.Thread(target=serving.serve_forever)
    thread.start()
    yield serving
    serving.shutdown()
    serving.server_close()
    thread.join()


def test_chromium_reads_every_case_as_it_says(chromium, server):
    with chromium.new_context() as context:
        page = context.new_page()
        page.goto(f"http://127.0.0.1:{server.server_port}/" + quote("a page"))

        found = page.evaluate(READ, CASES)

    for number, (case, read) in enumerate(zip(CASES, found, strict=True)):
        assert read["events"] == case["events"], case["name"]
        assert server.came_back[number] == case["last_id"].strip(), case["name"]  # as a header's value is
        least = LEAST_RETRY if case["retry"] is None else case["retry"]
        assert read["retry"] > least - 100, case["name"]
