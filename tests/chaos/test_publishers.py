"""A publisher goes on through what a fault may do, and reports what none explains."""

import httpx
import pytest

from tests.chaos.ledger import Outcome, Record
from tests.chaos.publishers import Person


def published(*statuses: int) -> tuple[Person, Record]:
    """Return a person after one comment, and the record; the answers come one after the other."""
    left = iter(statuses)
    client = httpx.Client(
        base_url="http://server",
        transport=httpx.MockTransport(lambda request: httpx.Response(next(left), text="why")),
    )
    record = Record()
    person = Person("person 1", record, ["1"], client, rate=1.0, seed=2)
    person.publish()
    person.close()
    return person, record


def test_an_answer_that_the_server_is_not_ready_is_tried_again_and_none_is_wrong():
    person, record = published(503, 503, 201)

    assert person.refused == []
    assert record.outcome(0) is Outcome.ACKNOWLEDGED


@pytest.mark.parametrize(
    ("status", "outcome"),
    [(500, Outcome.UNKNOWN), (502, Outcome.UNKNOWN), (403, Outcome.ROLLED_BACK), (200, Outcome.UNKNOWN)],
)
def test_any_other_answer_is_wrong_and_a_servers_fault_leaves_the_append_unknown(status, outcome):
    person, record = published(503, status)

    assert person.refused == [f"person 1: {status} why"]
    assert record.outcome(0) is outcome
