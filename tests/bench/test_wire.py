"""The HTTP around a stream, as servers write it."""

import pytest

from bench.wire import Body, Refused, opening, resuming

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


def chunks(*texts):
    return b"".join(b"%x\r\n%s\r\n" % (len(text), text) for text in texts)


def read(raw, size):
    body = Body()
    return b"".join(body.feed(raw[begin : begin + size]) for begin in range(0, len(raw), size))


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 100_000])
def test_the_body_is_what_was_put_into_chunks_however_they_are_split(size):
    texts = [b"data: 1\n\n", b"x" * 300, b":\n\n", b"data: \r\n\n\n", b"y" * 17]

    assert read(CHUNKED + chunks(*texts), size) == b"".join(texts)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 100_000])
def test_the_end_of_chunks_adds_nothing(size):
    assert read(CHUNKED + chunks(b"data: 1\n\n", b""), size) == b"data: 1\n\n"


@pytest.mark.parametrize("size", [1, 5, 100_000])
def test_a_body_without_chunks_is_taken_as_it_is(size):
    assert read(HEAD + b"\r\ndata: 5\r\n\n\n", size) == b"data: 5\r\n\n\n"


def test_any_other_status_is_a_refusal():
    with pytest.raises(Refused, match="403"):
        read(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", 100)


def test_a_request_has_the_headers_that_there_are():
    asked = opening(("127.0.0.1", 80), "/sub?channel=a", "Authorization: Bearer x", resuming(""))

    assert asked == (
        b"GET /sub?channel=a HTTP/1.1\r\nHost: 127.0.0.1:80\r\nAccept: text/event-stream\r\n"
        b"Authorization: Bearer x\r\n\r\n"
    )
    assert resuming("e-7") == "Last-Event-ID: e-7"


def test_after_whole_chunks_nothing_rests():
    body = Body()

    body.feed(CHUNKED + chunks(b"data: 1\n\n", b"data: 2\n\n"))

    assert (body.need, body.rest) == (0, b"")


def test_the_parts_of_a_piece_are_found_where_it_lies_in_a_buffer():
    body, buffer = Body(), bytearray(1_000)
    body.feed(CHUNKED)
    piece = chunks(b"data: 1\n\n", b"data: 2\n\n")[:-5]
    buffer[: len(piece)] = piece

    found = [bytes(buffer[begin:end]) for begin, end in body.parts(buffer, len(piece))]

    assert found == [b"data: 1\n\n", b"data: "]
    assert body.feed(b"2\n\n\r\n") == b"2\n\n"
