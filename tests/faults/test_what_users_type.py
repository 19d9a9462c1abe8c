"""Nothing that a person types adds a field or an event to anyone's stream."""

import pytest

from tests.faults.people import SERVERS, new_item, say, settle
from tests.faults.wire import Wire, blocks
from tests.stack import listening

TYPED = {
    "a line feed": "a\nb",
    "a carriage return": "a\rb",
    "both": "a\r\nb",
    "an empty line": "a\n\nb",
    "an event of its own": "x\n\nevent: CommentDeleted\ndata: {}\n\n",
    "the same with CR": "x\r\revent: CommentDeleted\rdata: {}\r\r",
    "fields": "data: x\nid: 1\nretry: 1\n: comment",
    "U+2028": "a\u2028data: x",
    "U+2029": "a\u2029\u2029event: x",
    "U+0085": "a\u0085data: x",
    "other controls": "a\x0b\x0c\x1c\x1d\x1e\x7f\u200e\ufeffb",
    "JSON": '"}\n\n{"text":"x"}\\n\\u000a',
    "emoji": "👩‍👩‍👧‍👦 🏴‍☠️ \U0001f9d1\U0001f3fd",
    "a BOM at the start": "\ufeffdata: x",
    "HTML": "<script>alert(1)</script></textarea>",
    "20,000 characters": "€" * 20_000,
    "20,000 of four bytes": "😀" * 20_000,
    "20,000 line ends": "x" + "\u2028" * 19_999,
}


@pytest.fixture(params=SERVERS)
def alice(request, rough):
    """Alice on each server in turn."""
    return rough.login("alice", rough.url(request.param))


def test_it_arrives_as_it_was_typed_and_as_nothing_else(rough, alice):
    item = new_item(alice)
    settle(rough)
    path = f"/streams/items/{item}/"
    with Wire(alice, path) as wire, listening(alice, path) as stream:
        wire.until(b"stream.open")
        for text in TYPED.values():
            say(alice, item, text)
        say(alice, item, "the end")
        body = wire.until(b"the end")
        while not body.endswith(b"\n\n"):
            wire.read()
            body = wire.body
        got = [each.data["text"] for each in stream.take(len(TYPED) + 1)]
        names = {each.event for each in stream.all}

    # By httpx-sse, a client that we did not write …
    assert got == [*TYPED.values(), "the end"]
    assert names == {"stream.open", "CommentAdded"}
    # … by the specification, and byte for byte.
    events = [each for each in blocks(body) if each["event"] == "CommentAdded"]
    assert [each["data"]["text"] for each in events] == got
    assert b"\r" not in body
    for block in body.split(b"\n\n")[:-1]:
        if block.startswith(b"event: PresenceChanged\n"):
            continue  # transient: it has no id
        fields = [line.partition(b":")[0] for line in block.split(b"\n")]
        assert fields in ([b"retry", b"id", b"event", b"data"], [b"id", b"event", b"data"], [b"", b"id"])
    # Some clients split by these as well (Python's `splitlines`).
    assert body.decode().splitlines() == body.decode().split("\n")[:-1]
    with listening(alice, path, last_event_id="earliest") as replay:
        replayed = [
            each.data["text"]
            for each in replay.until(lambda got: got.event == "stream.live")
            if "text" in each.data
        ]
    assert replayed == got


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"text":"a\\u0000b"}', 422),
        (b'{"text":"\\ud800"}', 422),
        (b'{"text":"a\\udc00b"}', 422),
        (b'{"text":"\xed\xa0\x80"}', 400),
        (b'{"text":"' + b"x" * 20_001 + b'"}', 422),
        (b'{"text":"' + b"x" * 100_000 + b'"}', 422),
        (b'{"text":" \\n\\t\\u2028"}', 422),
        (b'{"text":""}', 422),
        (b'{"text":7}', 422),
        (b'{"text":null}', 422),
        (b'{"text":["x"]}', 422),
        (b"{}", 422),
        (b"[]", 422),
        (b'{"text":"x","more":1}', 422),
        (b"", 422),
        (b"{", 400),
        (b"\xff\xfe", 400),
        (b'{"text":"' + b"x" * 2_000_000 + b'"}', 413),
    ],
    ids=lambda value: repr(value[:24]) if isinstance(value, bytes) else None,
)
def test_what_cannot_be_kept_is_refused_and_leaves_nothing(rough, alice, body, status):
    item = new_item(alice)
    with rough.connect() as connection:
        count = "SELECT count(*) FROM events_event WHERE %s = ANY(channels)"
        before = connection.execute(count, [f"item:{item}"]).fetchone()
        answer = alice.post(
            f"/api/items/{item}/comments", content=body, headers={"Content-Type": "application/json"}
        )
        assert answer.status_code == status, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["code"]
        if status == 422 and body not in (b"[]",):
            assert answer.json()["errors"][0]["field"] in ("text", "more", "body")
        assert connection.execute(count, [f"item:{item}"]).fetchone() == before
