"""A job that ends while its stream opens: the end is written once, wherever it falls."""

import asyncio

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.db import connections

from events import jobs, log, runs
from events.channels import job_channel
from streams.jobs import until_over
from streams.reader import Reader
from streams.subscriber import Subscriber
from tests.streams.conftest import parse

pytestmark = pytest.mark.usefixtures("quiet")


@pytest.fixture
async def held(world):
    """A job in hand, placed so far."""

    def make():
        user = User.objects.create_user("zoe")
        held = runs.claim(jobs.queue(user, name="x", params={}).pk, task_id="t")
        log.place()
        return held

    yield await sync_to_async(make)()
    await sync_to_async(connections.close_all, thread_sensitive=False)()


def followed(hub, held):
    """Open the job's stream as if it were not known to be over."""
    channel = job_channel(held.job_id)
    subscriber = Subscriber(hub, frozenset([channel]), Reader(user_id="1"), since=hub.cursor)
    return until_over(subscriber.chunks(None), subscriber, held.job_id)


async def names(frames, number=None):
    found = []
    async with asyncio.timeout(10):
        async for frame in frames:
            found.append(parse(frame.rstrip(b"\n")).event)
            if len(found) == number:
                break
    return found


async def catch_up(hub, world):
    hub.apply(await world.batch(hub.position))


async def test_an_end_that_lies_behind_the_opening_is_written_after_the_state(hub, world, held):
    await world.run(runs.complete, held, "done")
    await world.run(log.place)
    await catch_up(hub, world)

    assert await names(followed(hub, held)) == ["stream.open", "JobState", "TaskComplete", "stream.end"]


async def test_an_end_that_this_process_has_not_heard_of_yet_comes_live_after_what_was_before_it(
    hub, world, held
):
    await catch_up(hub, world)
    frames = followed(hub, held)
    assert await names(frames, 1) == ["stream.open"]
    await world.run(runs.send, held, "last words")
    await world.run(runs.complete, held, "done")

    assert await names(frames, 1) == ["JobState"]
    await world.run(log.place)
    await catch_up(hub, world)
    assert await names(frames) == ["JobSent", "TaskComplete", "stream.end"]


async def test_an_end_that_a_reset_skipped_is_written_after_it(hub, world, held):
    await catch_up(hub, world)
    frames = followed(hub, held)
    assert await names(frames, 2) == ["stream.open", "JobState"]
    await world.run(runs.complete, held, "done")
    await world.run(log.place)
    [subscriber] = hub.audience
    subscriber.reset("pruned")
    await catch_up(hub, world)

    assert await names(frames) == ["stream.reset", "JobState", "TaskComplete", "stream.end"]
