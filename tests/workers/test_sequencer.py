"""The sequencer: whoever runs it, however often, hubs hear every event and batches join."""

import itertools
import threading

import pytest
import redis

from events import log
from streams.batch import Batch, mark_key, published_key
from tests.events.support import undo
from workers import sequencer
from workers.sequencer import Publisher


@pytest.fixture(autouse=True)
def _fresh_publisher(monkeypatch):
    """No breaker of an earlier test, and none for a Redis that is just busy."""
    monkeypatch.setattr(sequencer, "REDIS_SECONDS", 20)
    sequencer._here.__dict__.clear()


def numbers(batches):
    return [event.position for batch in batches for event in batch.events]


def contiguous(batches):
    return all(a.last == b.prev for a, b in itertools.pairwise(batches))


def test_it_places_and_publishes_in_one_run(append, start, batches):
    append(1, 2, 3)
    assert sequencer.run() == 3
    [batch] = batches()
    assert (batch.prev, batch.last) == (start, start + 3)
    assert numbers([batch]) == [start + 1, start + 2, start + 3]
    assert batch.epoch == log.head().epoch


def test_nothing_new_publishes_nothing(append, start, batches):
    append(1)
    sequencer.run()
    assert len(batches()) == 1
    assert sequencer.run() == 0
    assert batches() == []


def test_what_it_places_alone_it_publishes_without_a_question(append, start, batches, monkeypatch):
    append(0)
    sequencer.run()
    batches()
    append(1, 2)
    monkeypatch.setattr(log, "read", None)
    sequencer.run()
    assert numbers(batches()) == [start + 2, start + 3]


def test_many_events_are_published_in_bounded_batches_that_join(append, start, batches, settings):
    settings.WORKERS_PUBLISH_BATCH = 4
    settings.WORKERS_PLACE_BATCH = 7
    append(*range(20))
    sequencer.run()
    heard = batches()
    assert numbers(heard) == list(range(start + 1, start + 21))
    assert all(len(batch.events) <= 4 for batch in heard)
    assert contiguous(heard)


def test_what_a_dead_sequencer_placed_is_published_by_the_next(append, start, batches):
    append(0)
    sequencer.run()
    append(1, 2)
    log.place()  # … and died before it published
    append(3)
    sequencer.run()
    assert numbers(batches()) == [start + 1, start + 2, start + 3, start + 4]


def test_even_when_nothing_else_is_placed(append, start, batches):
    append(0)
    sequencer.run()
    append(1, 2)
    log.place()
    sequencer.run()
    assert numbers(batches()) == [start + 1, start + 2, start + 3]


def test_what_was_pruned_before_it_was_published_shows_as_a_gap(append, start, batches):
    append(0)
    sequencer.run()
    append(1, 2, 3)
    pruned_to = log.place().head - 1
    log.prune(pruned_to)  # before anybody published it
    sequencer.run()
    first, last = batches()
    assert (first.last, last.prev, numbers([last])[0]) == (start + 1, pruned_to, start + 4)


def test_after_a_flush_it_begins_at_its_own_batch_and_the_gap_can_be_seen(
    append, start, batches, valkey_client
):
    append(1)
    sequencer.run()
    batches()
    append(2)
    log.place()  # lost with the flush: nobody knows that it was not published
    valkey_client.flushall()
    append(3)
    sequencer.run()
    [batch] = batches()
    assert (batch.prev, batch.last) == (start + 2, start + 3)


def test_two_that_publish_the_same_do_it_once(append, start, batches, in_thread):
    append(0)
    sequencer.run()
    batches()
    append(*range(50))
    placed = log.place()
    barrier = threading.Barrier(4)

    def publish():
        publisher = Publisher()
        barrier.wait(10)
        assert publisher.publish(placed)

    for thread in [in_thread(publish) for _ in range(4)]:
        thread.join(10)
    assert numbers(batches()) == list(range(start + 2, start + 52))


def test_one_that_was_frozen_with_an_old_batch_publishes_nothing_twice(append, start, batches, monkeypatch):
    append(0)
    sequencer.run()
    append(1)
    old = log.place()
    frozen = Publisher()
    move = frozen._move

    def thawed_late(*arguments):
        append(2)
        Publisher().publish(log.place())  # the others went on meanwhile
        monkeypatch.setattr(frozen, "_move", move)
        return move(*arguments)

    monkeypatch.setattr(frozen, "_move", thawed_late)
    assert frozen.publish(old)
    heard = batches()
    assert numbers(heard) == [start + 1, start + 2, start + 3]
    assert contiguous(heard)


def test_an_n_that_is_ahead_of_the_log_begins_a_new_epoch(append, start, batches, valkey_client):
    """It was published up to there once: what lay there was undone."""
    append(1)
    sequencer.run()
    epoch = log.head().epoch
    valkey_client.set(published_key(epoch), start + 3)
    append(2)
    sequencer.run()
    assert log.head().epoch != epoch
    batches()
    append(3)
    sequencer.run()
    assert [(batch.epoch, numbers([batch])) for batch in batches()] == [(log.head().epoch, [start + 3])]


def test_an_n_that_another_moved_meanwhile_does_not(append, start, batches):
    append(1)
    old = log.place()
    append(2)
    sequencer.run()
    assert Publisher().publish(old)
    assert log.head().epoch == old.epoch
    assert contiguous(batches())


def undo_and_grow(append, position):
    """Put an older state of the log back, and let others go on from there past where it was."""
    undo(position)
    append(*range(10, 20))
    log.place()


@pytest.mark.parametrize("memory", ["its own", "Redis'"])
def test_an_older_state_that_grew_again_is_noticed(append, start, batches, valkey_client, memory):
    append(1, 2)
    sequencer.run()
    epoch = log.head().epoch
    undo_and_grow(append, start + 1)
    if memory == "its own":
        valkey_client.flushall()
        sequencer._here.publisher._look_at = 0.0  # a second later
    else:
        sequencer._here.__dict__.clear()  # a worker that starts after the restore
    sequencer.run()
    assert log.head().epoch != epoch
    epoch = log.head().epoch
    sequencer._here.__dict__.clear()
    sequencer.run()
    assert log.head().epoch == epoch


def test_a_flush_costs_redis_its_memory_for_a_second(append, start, valkey_client):
    sequencer.run()
    kept = valkey_client.get(mark_key())
    valkey_client.flushall()
    sequencer._here.publisher._look_at = 0.0  # a second later; nothing happened
    sequencer.run()
    assert valkey_client.get(mark_key()) == kept == log.look().encode()


@pytest.mark.parametrize("garbage", [b"\x00\xff", b"", b"nonsense", b"1" * 1000])
def test_garbage_in_place_of_the_mark_is_replaced(append, start, valkey_client, garbage):
    epoch = log.head().epoch
    valkey_client.set(mark_key(), garbage)
    append(1)
    sequencer.run()
    assert valkey_client.get(mark_key()) == log.look().encode()
    assert log.head().epoch == epoch


def test_an_n_of_another_epoch_does_not_count(append, start, batches):
    append(1)
    sequencer.run()
    log.new_epoch()
    append(2)
    sequencer.run()
    heard = batches()
    assert [batch.epoch for batch in heard][-1] == log.head().epoch
    assert heard[0].epoch != heard[-1].epoch
    assert numbers(heard)[-1] == start + 2


def test_what_was_placed_in_an_epoch_that_ended_is_not_published_as_of_it(append, start, batches):
    append(0)
    sequencer.run()
    batches()
    append(1)
    old = log.place()  # … by one that then stood still
    log.new_epoch()
    assert Publisher().publish(old)
    assert batches() == []
    append(2)
    sequencer.run()
    assert [(batch.epoch, numbers([batch])) for batch in batches()] == [(log.head().epoch, [start + 3])]


def test_garbage_in_redis_is_replaced(append, start, batches, valkey_client):
    append(1)
    sequencer.run()
    valkey_client.set(published_key(log.head().epoch), "nonsense")
    append(2)
    sequencer.run()
    assert numbers(batches())[-1] == start + 2


def test_a_redis_that_is_away_stops_no_placing(append, start, settings):
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    append(1)
    assert sequencer.run() == 1
    assert log.head().position == start + 1
    with pytest.raises(redis.ConnectionError):
        redis.Redis.from_url(settings.REDIS_URL).ping()


def test_the_frame_is_what_the_log_says(append, start, batches):
    append(7)
    sequencer.run()
    [batch] = batches()
    assert batch == Batch.of(log.read(start))
    assert batch.events[0].frame == (
        f'id: {batch.epoch}-{start + 1}\nevent: WorkTested\ndata: {{"n":7}}\n\n'.encode()
    )


def test_an_n_that_is_not_ours_any_more_is_noticed(start, append, batches, valkey_client):
    """Right after a publishing it is not asked for; what another did meanwhile, or a flush, is no matter."""
    append(1)
    sequencer.run()
    append(2)
    other = Publisher()
    other.publish(log.place())
    append(3)
    sequencer.run()
    valkey_client.flushall()
    append(4)
    sequencer.run()

    heard = batches()
    assert [(batch.prev, batch.last) for batch in heard] == [(start + n, start + n + 1) for n in range(4)]
    assert valkey_client.get(published_key(log.head().epoch)) == str(start + 4).encode()
