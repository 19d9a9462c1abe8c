"""Talking to Redis without its client: each answer is that to its question, or there is none."""

import contextlib
import os
import socket

import pytest
import redis

from tests.stack import eventually
from tests.workers.test_wake_again import valkeys
from workers import wake
from workers.talk import Talk


@pytest.fixture
def make_talk(valkey_client, settings):
    """Make talks of the test's own."""
    made = []

    def make():
        made.append(Talk(wake.connect(answer_seconds=5.0, connect_seconds=20.0)))
        return made[-1]

    yield make
    for talk in made:
        talk.close()


def test_it_asks_and_hears_whatever_there_is(make_talk, valkey_client):
    talk = make_talk()
    much = bytes(range(256)) * 4096
    assert talk.ask("SET", "some", much) == b"OK"
    assert talk.ask("GET", "some") == valkey_client.get("some") == much
    assert talk.ask("GET", "none") is None
    assert talk.ask("RPUSH", "list", "a", b"b", 3, 0.25) == 4
    assert talk.ask("LRANGE", "list", 0, -1) == [b"a", b"b", b"3", b"0.25"]


def test_the_answers_come_by_one_connection(make_talk):
    talk = make_talk()
    assert talk.ask("CLIENT", "ID") == talk.ask("CLIENT", "ID")


def test_one_that_redis_closed_meanwhile_is_opened_anew_before_it_is_asked(make_talk, valkey_client):
    talk = make_talk()
    before = talk.ask("CLIENT", "ID")
    valkey_client.client_kill_filter(_id=before)
    eventually(lambda: talk._poll.poll(0))
    assert talk.ask("CLIENT", "ID") > before


def test_one_that_redis_closes_amid_a_question_says_so(make_talk, valkey_client, in_thread):
    talk, said = make_talk(), []

    def waits():
        with contextlib.suppress(redis.ConnectionError):
            said.append(talk.ask("BLPOP", "nothing", 0))
        said.append("no answer")

    asked = talk.ask("CLIENT", "ID")
    thread = in_thread(waits)
    eventually(lambda: valkey_client.info("clients")["blocked_clients"])
    valkey_client.client_kill_filter(_id=asked)
    thread.join(20)
    assert said == ["no answer"]
    assert talk.ask("PING") == b"PONG"


def test_who_waited_too_long_for_an_answer_asks_elsewhere(make_talk):
    """The answer may come yet: whatever is asked there waits behind it, or would take it for its own."""
    talk = make_talk()
    talk.ask("PING")
    talk._sock.settimeout(0.1)
    with pytest.raises(TimeoutError):
        talk.ask("BLPOP", "late", 20)
    assert talk.ask("PING") == b"PONG"


def test_a_refusal_is_raised_and_the_next_question_put_elsewhere(make_talk):
    """By the same name another Redis may have become the master."""
    talk = make_talk()
    before = talk.ask("CLIENT", "ID")
    talk.ask("SET", "text", "a")
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        talk.ask("LPUSH", "text", 1)
    assert talk.ask("CLIENT", "ID") > before


def test_one_that_is_not_there_is_said_by_what_callers_expect(make_talk, settings):
    settings.REDIS_URL = "redis://127.0.0.1:1"
    talk = make_talk()
    with pytest.raises(wake.AWAY):
        talk.ask("PING")


def test_a_refusal_has_the_name_that_the_client_gives_it(make_talk, valkey_client):
    """It is all that a log says of it."""
    talk = make_talk()
    valkey_client.config_set("maxmemory", 1)
    try:
        with pytest.raises(redis.exceptions.OutOfMemoryError):
            talk.ask("SET", "some", 1)
    finally:
        valkey_client.config_set("maxmemory", 0)


def test_it_logs_in_and_chooses_the_database_as_the_client_does(make_talk, settings):
    with valkeys(1) as (locked,):
        with redis.Redis.from_url(locked.url) as client:
            client.config_set("requirepass", "secret")
        settings.REDIS_URL = locked.url.replace("redis://", "redis://:secret@").rstrip("/") + "/3"
        talk = make_talk()
        talk.ask("SET", "some", "a")
        with redis.Redis.from_url(settings.REDIS_URL) as client:
            assert client.get("some") == b"a"
            assert client.info("keyspace").keys() == {"db3"}
        talk.close()


def test_a_child_of_a_process_that_talks_has_a_connection_of_its_own(make_talk):
    talk = make_talk()
    ours = talk.ask("CLIENT", "ID")
    there, here = os.pipe()
    if not (child := os.fork()):
        try:
            os.write(here, b"%d" % talk.ask("CLIENT", "ID"))
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(here)
    with open(there, "rb") as said:
        assert int(said.read()) > ours
    assert talk.ask("CLIENT", "ID") == ours


@pytest.fixture
def scripted(settings, in_thread):
    """A server that answers the first command of each connection by what it is told, piece by piece."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        settings.REDIS_URL = f"redis://127.0.0.1:{listener.getsockname()[1]}"

        def answer(connection, pieces):
            reader = connection.makefile("rb")
            while line := reader.readline():
                words = [(reader.readline(), reader.readline())[1].strip() for _ in range(int(line[1:]))]
                if words[0] == b"CLIENT":  # as redis-py says who it is
                    connection.sendall(b"+OK\r\n")
                    continue
                for piece in pieces:
                    connection.sendall(piece)

        def serve(*scripts):
            for pieces in scripts:
                connection, _ = listener.accept()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                stack.enter_context(connection)
                in_thread(lambda connection=connection, pieces=pieces: answer(connection, pieces))

        yield lambda *scripts: in_thread(lambda: serve(*scripts))


def test_an_answer_may_come_byte_by_byte(make_talk, scripted):
    scripted([bytes([byte]) for byte in b"*2\r\n:1\r\n$3\r\nabc\r\n"])
    assert make_talk().ask("ANYTHING") == [1, b"abc"]


def test_an_answer_that_nobody_asked_for_is_none_to_the_next_question(make_talk, scripted):
    scripted([b"+first\r\n+nobody's\r\n"], [b"+second\r\n"])
    talk = make_talk()
    assert talk.ask("ONE") == b"first"
    assert talk.ask("TWO") == b"second"
