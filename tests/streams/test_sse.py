"""Frames, as bytes."""

import json

import pytest
from httpx_sse._decoders import SSEDecoder

from events.cursor import Cursor
from events.log import Entry
from events.registry import encode
from streams import sse


def entry(**payload):
    return Entry(7, 1, "CommentAdded", 1, encode(payload), ("item:1",), None)


def test_an_event_is_an_id_a_name_and_one_line_of_data():
    assert sse.event(entry(a=1), "abcd") == b'id: abcd-7\nevent: CommentAdded\ndata: {"a":1}\n\n'


@pytest.mark.parametrize(
    "text",
    [
        "\n\nevent: x\ndata: {}\n\n",
        "\r",
        "\r\n\r\n",
        "\u2028",
        "\u2029",
        "\u0085",
        "\x0b\x0c\x1c\x1d\x1e",
        "data: y",
    ],
)
def test_nothing_typed_can_begin_a_field_or_an_event(text):
    frame = sse.event(entry(text=text), "abcd")
    assert frame.decode().count("\n") == 4
    assert len(frame.decode().splitlines()) == 4  # clients that split by any of Unicode's line ends
    assert json.loads(sse.data_of(frame)) == {"text": text}


def test_a_heartbeat_moves_the_cursor_without_an_event():
    decoder = SSEDecoder()
    events = [decoder.decode(line) for line in sse.heartbeat(Cursor("abcd", 9)).decode().split("\n")]
    assert sse.heartbeat(Cursor("abcd", 9)) == b":\nid: abcd-9\n\n"
    assert not any(event and event.data for event in events)


def test_control_frames_carry_their_cursor_and_a_jittered_retry():
    opening = sse.opening("live", Cursor("abcd", 3), 0, 2.0).decode()
    assert 'data: {"mode":"live","cursor":"abcd-3","missed":0}' in opening
    assert "id: abcd-3\nevent: stream.open\n" in opening
    waits = {sse.jittered(2.0) for _ in range(100)}
    assert len(waits) > 50
    assert all(1000 <= wait <= 3000 for wait in waits)


@pytest.mark.parametrize(
    "text", ["", "x", "abcd", "abcd-", "abcd--1", "abcd-01", "abcd-1x", "ABCD-1", "abcd-" + "9" * 19]
)
def test_what_is_no_cursor_is_refused(text):
    with pytest.raises(ValueError, match="not a cursor"):
        Cursor.parse(text)


def test_a_cursor_reads_back():
    assert str(Cursor.parse("0123456789-42")) == "0123456789-42"
