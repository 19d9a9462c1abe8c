"""Talking to Redis without its client: each answer is that to its question, or there is none."""

import contextlib

import pytest
import redis

from tests.stack import eventually
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
