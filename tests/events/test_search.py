"""Looking into the log: what is asked for is found, in order, and nothing that is not placed."""

import json
from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import transaction
from django.utils import timezone

from events import comments, log, search
from events.channels import Channel
from events.errors import Unavailable
from events.search import Question


def append(n, *channels, kind="Noted", **more):
    with transaction.atomic():
        return log.append_raw(kind, {"n": n, **more.pop("data", {})}, channels=channels or ["item:1"], **more)


def find(question, **more):
    return list(search.pages(search.search(question, **more)))


def ns(**asked):
    return [json.loads(each.data).get("n") for each in find(Question(**asked))]


@pytest.fixture
def tape(database):
    """Seven events; the last is not placed."""
    first = append(1, actor_id=7)
    append(2, "item:2", "user:7", kind="Counted")
    third = append(3, "item:2", caused_by=first)
    append(4, "item:3", actor_id=8, data={"correlation_id": str(uuid4())})
    append(5, "user:7", caused_by=third)
    append(6, "internal:trace")
    log.place()
    append(7)
    return first, third


def test_the_newest_come_and_in_order(tape):
    assert ns() == [1, 2, 3, 4, 5, 6]
    assert ns(limit=2) == [5, 6]


def test_each_part_of_a_question_narrows_it(tape):
    assert ns(channels=[Channel("item:2")]) == [2, 3]
    assert ns(channels=[Channel("item:1"), Channel("user:7")]) == [1, 2, 5]
    assert ns(types=["Counted"]) == [2]
    assert ns(types=["Counted"], channels=[Channel("item:1")]) == []
    assert ns(actor_id=7) == [1]
    assert ns(channels=[Channel("item:9")]) == []


def test_time_is_when_the_change_was_made(tape):
    middle = find(Question(types=["Counted"]))[0].created_at
    assert ns(since=middle) == [2, 3, 4, 5, 6]
    assert ns(until=middle) == [1]
    assert ns(since=middle, until=middle + timedelta(microseconds=1)) == [2]
    assert ns(since=timezone.now() + timedelta(hours=1)) == []


def test_a_correlation_is_the_cause_and_all_that_followed(tape):
    first, third = tape
    fifth = find(Question(limit=10))[4].id
    for member in (first, third, fifth):
        assert ns(family=member) == [1, 3, 5]
    assert ns(family=999_999) == []


def test_a_correlation_id_is_looked_for_in_payloads(tape):
    given = json.loads(find(Question(actor_id=8))[0].data)["correlation_id"]
    assert ns(correlation_id=given) == [4]
    other = str(uuid4())
    append(8, data={"correlation_id": other.upper()})
    log.place()
    assert ns(correlation_id=other) == [8]
    assert ns(correlation_id=str(uuid4())) == []


def test_what_was_caused_by_a_real_reaction_is_its_family(users, item):
    comments.add_comment(users.bob, item.pk, text="Hello")
    log.place()
    [added] = find(Question(types=["CommentAdded"]))
    append("told", "user:1", caused_by=added.id)
    log.place()
    assert [each.type for each in find(Question(family=added.id))] == ["CommentAdded", "Noted"]


def test_what_takes_too_long_is_given_up(tape, monkeypatch):
    monkeypatch.setattr(search, "_FAMILY", "(id = %s OR pg_sleep(5) IS NULL)")
    with pytest.raises(Unavailable, match="ask for a channel, or less"):
        find(Question(family=1), seconds=0.05)
    assert ns(limit=1) == [6]  # the limit was the question's own


def test_a_page_ends_where_the_next_begins(tape):
    below = find(Question(limit=2))[0].position
    assert ns(before=below, limit=3) == [2, 3, 4]


def test_positions_are_made_whole_in_their_order_and_what_is_pruned_is_left_out(tape):
    positions = search.search(Question())
    assert [each.position for each in search.whole(positions)] == positions
    assert [each.position for each in search.whole(positions[::-1])] == positions[::-1]
    assert search.whole(positions)[0].actor_id == 7
    log.prune(positions[1])
    assert [each.position for each in search.whole(positions)] == positions[2:]
    assert [each.position for each in search.pages(positions)] == positions[2:]
    assert search.whole([]) == list(search.pages([])) == search.whole(positions[:2]) == []


def test_no_more_is_read_at_once_than_so_many_bytes_and_all_is_there_once(tape, monkeypatch):
    positions = search.search(Question())
    monkeypatch.setattr(search, "PAGE_BYTES", 1)
    for order in (positions, positions[::-1]):
        assert [each.position for each in search.whole(order)] == order[:1]  # a single one may be larger
        assert [each.position for each in search.pages(order)] == order
    size = len(find(Question(limit=1))[0].data)
    monkeypatch.setattr(search, "PAGE_BYTES", size + 1)
    assert len(search.whole(positions)) == 2
    assert [each.position for each in search.pages(positions)] == positions
    monkeypatch.setattr(search, "PAGE", 2)
    log.prune(positions[2])
    assert [each.position for each in search.pages(positions)] == positions[3:]
