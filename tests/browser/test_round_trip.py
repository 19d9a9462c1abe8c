"""What a program appends arrives in a browser and in Python as it was, whatever JSON it holds."""

import json

import pytest
from tickertape_client import Client

from events.registry import MAX_DEPTH, MAX_SAFE_INTEGER
from tests.browser import on_both
from tests.stack import eventually
from tests.test_end_to_end import item_of


def nested(depth: int) -> object:
    """Return objects and lists in each other, so many levels of them."""
    value: object = []
    for level in range(1, depth):
        value = {"in": value} if (depth - level) % 2 else [value]
    return value


PAYLOADS: dict[str, object] = {
    "nothing": {},
    "empty things": {"": "", "list": [], "object": {}, "null": None},
    "emoji": {"👩‍👩‍👧‍👦": "🏴‍☠️ \U0001f9d1\U0001f3fd"},
    "right to left": {"שלום": "مرحبا \u202eabc\u202c \u2067x\u2069 \u200f"},
    "control characters": {"text": "".join(map(chr, [*range(1, 32), *range(127, 160)]))},
    "other line ends": {"text": "\u2028a\u2029b\ufeff\ufffe\uffff"},
    "what looks like fields": {"text": "x\n\nid: 9\nevent: y\ndata: {}\r\rretry: 1\n: z"},
    "keys out of order": {"z": 1, "a": 2, "é": 3, "A": 4, "b": {"y": 1, "x": 2}},
    "keys of objects' own": {"__proto__": {"x": 1}, "constructor": 2, "toString": 3, "length": 4},
    "integers": {"n": [0, -1, MAX_SAFE_INTEGER, -MAX_SAFE_INTEGER, 2**31, 2**32]},
    "fractions": {"n": [0.1, 1e-7, 1.7976931348623157e308, 5e-324, 123456789.123456789, 1e21]},
    "much": {"text": "😀" * 249_000},
    "many": {"n": list(range(100_000))},
    "deep": nested(MAX_DEPTH),
}

LISTEN = """(url) => {
  window.heard = [];
  const source = new EventSource(url);
  source.addEventListener("RoundTripped", ({ data }) => heard.push([data, JSON.stringify(JSON.parse(data))]));
  return new Promise((resolve) => source.addEventListener("stream.open", resolve));
}"""


@pytest.fixture(scope="module")
def key(stack) -> str:
    return stack.api_key(channels="item:*", types="RoundTripped")


@on_both
def test_every_payload_arrives_as_it_was(stack, server, open_tab, key):
    alice = stack.login("alice", server)
    channel = f"item:{item_of(alice)}"
    tab = open_tab("alice", "/events/", at=server)
    tab.page.evaluate(LISTEN, f"/streams/?channel={channel}")

    with Client(server, api_key=key) as client:
        client.login("alice", "demo-alice")
        with client.stream([channel]) as stream:
            for payload in PAYLOADS.values():
                client.publish([{"channels": [channel], "type": "RoundTripped", "data": payload}])
            heard = (event for event in stream if event.type == "RoundTripped")
            in_python = {name: event.data for name, event in zip(PAYLOADS, heard, strict=False)}
    eventually(lambda: tab.page.evaluate("heard.length") == len(PAYLOADS))
    in_browser = dict(zip(PAYLOADS, tab.page.evaluate("heard"), strict=True))

    for name, payload in PAYLOADS.items():
        said, read = in_browser[name]
        assert json.loads(read) == payload, name
        # In this order too; and as text, since a JavaScript object has `__proto__` and orders of its own.
        assert [json.dumps(each) for each in (json.loads(said), in_python[name])] == [json.dumps(payload)] * 2
