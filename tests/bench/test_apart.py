"""A database of a scenario's own: when the worker on it has nothing left to do."""

from bench.apart import Apart
from bench.servers import Trouble
from events import log
from events.items import create_item
from tests import engines
from workers import reactions


def test_a_worker_is_done_when_all_is_placed_and_reacted_to(users):
    own = Apart(None, {"DATABASE_URL": engines.postgres.url})

    def settles():
        try:
            own.settle(seconds=0.1)
        except Trouble:
            return False
        return True

    log.place()
    reactions.run()
    assert settles()

    create_item(users.alice, title="New")
    assert not settles()

    log.place()
    assert not settles()

    reactions.run()
    assert settles()
