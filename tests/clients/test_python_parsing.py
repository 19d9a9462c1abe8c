"""How the Python client reads a `text/event-stream`: the cases that every client's parser passes."""

import json
from pathlib import Path

import pytest
from tickertape_client.sse import Decoder

CASES = json.loads(Path(__file__).with_name("sse_cases.json").read_text())["cases"]


def cuts(stream: bytes):
    """Yield a stream whole, byte by byte, and cut in two at every place."""
    yield [stream]
    yield [stream[at : at + 1] for at in range(len(stream))]
    for at in range(len(stream) + 1):
        yield [stream[:at], stream[at:]]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_a_stream_is_read_as_the_standard_has_it_however_it_is_cut(case):
    stream = bytes.fromhex(case["hex"]) if "hex" in case else case["stream"].encode()

    for pieces in cuts(stream):
        decoder = Decoder()
        blocks = [block for piece in pieces for block in decoder.feed(piece)]
        got = [
            {"event": each.event, "data": each.data, "id": each.id}
            for each in blocks
            if each.data is not None
        ]
        assert got == case["events"], pieces
        assert (decoder.last_id, decoder.retry) == (case["last_id"], case["retry"]), pieces


def test_an_event_is_given_before_the_next_byte_comes():
    decoder = Decoder()

    assert [block.data for block in decoder.feed(b"data: a\r\r")] == ["a"]
    assert list(decoder.feed(b"\n")) == []


def test_a_megabyte_in_small_pieces_arrives_whole():
    decoder = Decoder()
    stream = b"data: " + b"x" * 1_000_000 + b"\n\n"
    pieces = [stream[at : at + 1000] for at in range(0, len(stream), 1000)]

    [block] = [block for piece in pieces for block in decoder.feed(piece)]

    assert len(block.data) == 1_000_000
