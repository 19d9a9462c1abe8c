"""Who publishes: people who comment over the API through the network, and programs that append.

They go on whatever happens, and write down what they know: nothing else does the ledger trust.
"""

import contextlib
import random
import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence

import httpx
import psycopg

from tests.chaos.deployment import Deployment
from tests.chaos.ledger import Outcome, Record
from tests.chaos.tape import word
from tests.faults.wire import append

PEOPLE = 0.2  # of the events; workers tell up to nine others of each
PROGRAMS = 2
POST_SECONDS = 6.0  # a POST is given up after so long: what became of it is unknown
AWAY = 503  # all that a fault may have a server answer; it does not say whether the append was made
TRIES = 12  # with one Idempotency-Key; then it stays unknown
AGAIN_SECONDS = 0.3
KEYLESS = 0.2  # of the comments are sent once and without a key
TRANSACTION_EVENTS = 4  # at most
LATE = 0.1  # of the transactions commit late
LATE_SECONDS = 2.0  # at most
ROLLED_BACK = 0.05  # of the transactions
BULKY = 0.1  # of the appends: with small ones alone, no reader is slow enough for a server to notice
BULK_BYTES = 12_000


class Publisher(threading.Thread, ABC):
    """Publishes at random moments, `rate` events a second on average, until it is stopped."""

    def __init__(self, name: str, record: Record, *, rate: float, seed: int) -> None:
        super().__init__(name=name, daemon=True)
        self.refused: list[str] = []  # what no fault explains
        self._record = record
        self._rate = rate
        self._random = random.Random(f"{seed} {name}")
        self._stopping = threading.Event()
        self.failure: BaseException | None = None

    def run(self) -> None:
        """Publish; keep what ended it too early."""
        try:
            while not self._stopping.wait(self._random.expovariate(self._rate)):
                self.publish()
        except BaseException as error:
            self.failure = error
        finally:
            self.close()

    def stop(self) -> None:
        """Stop after what is under way."""
        self._stopping.set()

    @abstractmethod
    def publish(self) -> None:
        """Publish once."""

    def close(self) -> None:
        """Leave."""


class Person(Publisher):
    """Comments on items over the API, one comment after the other."""

    def __init__(
        self, name: str, record: Record, items: Sequence[str], client: httpx.Client, *, rate: float, seed: int
    ) -> None:
        super().__init__(name, record, rate=rate, seed=seed)
        self._items = items
        self._client = client
        client.timeout = httpx.Timeout(POST_SECONDS)

    def publish(self) -> None:
        """Comment; where the answer is lost, again with the same key, or never."""
        item = self._random.choice(self._items)
        token = self._record.intend(self.name, [f"item:{item}"])
        with_key = self._random.random() >= KEYLESS
        headers = {"Idempotency-Key": word(token)} if with_key else {}
        for _ in range(TRIES if with_key else 1):
            with contextlib.suppress(httpx.HTTPError):
                answer = self._client.post(
                    f"/api/items/{item}/comments", json={"text": word(token)}, headers=headers
                )
                if answer.status_code == 201:
                    self._record.know(token, Outcome.ACKNOWLEDGED)
                    return
                if answer.status_code != AWAY:
                    self.refused.append(f"{self.name}: {answer.status_code} {answer.text[:200]}")
                    if 400 <= answer.status_code < 500:  # any other does not say what was done before
                        self._record.know(token, Outcome.ROLLED_BACK)
                    return
            if self._stopping.wait(AGAIN_SECONDS):
                return

    def close(self) -> None:
        """Leave."""
        self._client.close()


class Program(Publisher):
    """Appends to channels by itself, several in a transaction, some of them late or not at all."""

    def __init__(
        self,
        name: str,
        record: Record,
        channels: Sequence[str],
        deployment: Deployment,
        *,
        rate: float,
        seed: int,
    ) -> None:
        super().__init__(name, record, rate=2 * rate / (1 + TRANSACTION_EVENTS), seed=seed)
        self._channels = channels
        self._deployment = deployment
        self._connection: psycopg.Connection | None = None

    def publish(self) -> None:
        """Append in one transaction."""
        tokens: list[int] = []
        roll_back = self._random.random() < ROLLED_BACK
        try:
            if self._connection is None:
                self._connection = self._deployment.backend(autocommit=False, name="chaos program")
            for _ in range(self._random.randint(1, TRANSACTION_EVENTS)):
                channel = self._random.choice(self._channels)
                token = self._record.intend(self.name, [channel])
                tokens.append(token)
                bulk = "x" * BULK_BYTES if self._random.random() < BULKY else ""
                append(self._connection, channel, data={"token": word(token), "bulk": bulk})
            if self._random.random() < LATE:
                self._stopping.wait(self._random.uniform(0, LATE_SECONDS))
            if roll_back:
                self._connection.rollback()
            else:
                self._connection.commit()
        except psycopg.OperationalError:
            self.close()
            self._stopping.wait(AGAIN_SECONDS)
            return
        for token in tokens:
            self._record.know(token, Outcome.ROLLED_BACK if roll_back else Outcome.ACKNOWLEDGED)

    def close(self) -> None:
        """Leave."""
        if self._connection is not None:
            with contextlib.suppress(psycopg.Error):
                self._connection.close()
            self._connection = None


def hire(
    deployment: Deployment,
    record: Record,
    items: Sequence[str],
    channels: Sequence[str],
    *,
    rate: float,
    seed: int,
) -> list[Publisher]:
    """Return publishers of `rate` events a second in all; what the workers append for them comes on top."""
    pace = PEOPLE * rate / len(deployment.user_ids)
    people = [
        Person(f"person {number}", record, items, deployment.person(number), rate=pace, seed=seed)
        for number in range(len(deployment.user_ids))
    ]
    pace = (1 - PEOPLE) * rate / PROGRAMS
    programs = [
        Program(f"program {number}", record, channels, deployment, rate=pace, seed=seed)
        for number in range(PROGRAMS)
    ]
    return [*people, *programs]
