"""A process inside the project, as a worker is: it fills the log, places, publishes, reacts and reads.

It has the first core to itself; PostgreSQL and Valkey are on the other one, as behind a web process.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from bench.apart import Apart
from bench.crowd import Told, serve
from bench.usage import cpu_seconds

USERS = 50
AUTHORS = 10


@dataclass(frozen=True, slots=True)
class Timed:
    """What was done, and what it cost: the process itself, and its session of PostgreSQL."""

    events: int
    seconds: float
    cpu_seconds: float
    database_seconds: float

    @property
    def rate(self) -> float:
        """Return events a second."""
        return self.events / self.seconds

    @property
    def cost(self) -> float:
        """Return microseconds of CPU an event, on both sides."""
        return 1e6 * (self.cpu_seconds + self.database_seconds) / self.events


class Inside(Told):
    """The parent's side; a context manager."""

    def __init__(self, apart: Apart) -> None:
        deployment = apart.deployment
        environment = {**deployment.environment, **apart.environment}
        super().__init__(serve, deployment.cores.server, _Work, (), environment)

    def seed(self, events: int) -> None:
        """Append events that nobody reacts to, of 200 bytes, on a thousand channels."""
        self.tell("seed", events)

    def comment(
        self, comments: int, *, items: int, watchers: int, owners: int = USERS, placed: bool = True
    ) -> None:
        """Have people comment on new items in turns; each item has an owner and so many watchers besides.

        The comments are placed, too, unless that is left to a worker.
        """
        self.tell("comment", comments, items, watchers, owners, placed)

    def hint(self) -> None:
        """Tell workers that there is something to place, as who appends does."""
        self.tell("hint")

    def place(self) -> Timed:
        """Place all there is."""
        timed: Timed = self.tell("place")
        return timed

    def sequence(self) -> Timed:
        """Place and publish all there is."""
        timed: Timed = self.tell("sequence")
        return timed

    def react(self) -> Timed:
        """React to all that is placed."""
        timed: Timed = self.tell("react")
        return timed

    def replay(self, events: int) -> Timed:
        """Read the last so many events, by pages."""
        timed: Timed = self.tell("replay", events)
        return timed

    def replay_channel(self, times: int) -> Timed:
        """Read the last events of some channels so often, as who comes back does."""
        timed: Timed = self.tell("replay_channel", times)
        return timed

    def few(self, times: int) -> Timed:
        """Append, place and publish a single event so often."""
        timed: Timed = self.tell("few", times)
        return timed


class _Work:
    """The child's side."""

    def __init__(self) -> None:
        import django

        django.setup()
        from django.db import connection

        from project.startup import settle

        settle()  # as a worker does
        self._connection = connection

    def seed(self, events: int) -> None:
        with self._connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO events_event (type, version, data, channels) SELECT 'BenchTicked', 1,"
                " format('{\"n\":%%s,\"pad\":\"%%s\"}', n, repeat('x', 180)), ARRAY['item:' || 1 + n %% 1000]"
                " FROM generate_series(1, %s) n",
                [events],
            )

    def hint(self) -> None:
        from workers import wake

        wake.waker().wake(wake.PLACE)

    def comment(self, comments: int, items: int, watchers: int, number: int, placed: bool) -> None:
        from django.contrib.auth.models import User
        from django.db import transaction

        from events import comments as verbs
        from events import items as item_verbs
        from events import log, watching
        from workers import reactions

        names = [f"u{n}" for n in range(number + AUTHORS)]
        User.objects.bulk_create([User(username=name) for name in names], ignore_conflicts=True)
        people = [*User.objects.filter(username__in=names).order_by("pk")]
        authors, owners = people[:AUTHORS], people[AUTHORS:]
        made = []
        with transaction.atomic():
            for n in range(items):
                item = item_verbs.create_item(owners[n % number], title=f"Item {n}")
                for k in range(watchers):
                    watching.watch(owners[(n + 1 + k) % number], item.pk)
                made.append(item.pk)
        while log.place().count or reactions.run():
            pass
        with transaction.atomic():
            for n in range(comments):
                # An item has one author: who comments watches, and would have to be told of the others.
                verbs.add_comment(
                    authors[n % items % AUTHORS], made[n % items], text="Words that somebody said."
                )
        while placed and log.place().count:
            pass

    def place(self) -> Timed:
        from events import log

        def all_of_them() -> int:
            total = 0
            while count := log.place().count:
                total += count
            return total

        return self._timed(all_of_them)

    def sequence(self) -> Timed:
        from workers import sequencer

        return self._timed(sequencer.run)

    def react(self) -> Timed:
        from workers import reactions

        return self._timed(reactions.run)

    def replay(self, events: int) -> Timed:
        from events import log

        def pages() -> int:
            after, total = log.head().position - events, 0
            while (page := log.read(after)).entries:
                total += len(page.entries)
                after = page.covered_to
            return total

        return self._timed(pages)

    def replay_channel(self, times: int) -> Timed:
        from events import log
        from events.channels import item_channel

        def pages() -> int:
            head = log.head().position
            for n in range(times):
                log.read(
                    max(0, head - 50_000), channels=[item_channel(1 + n % 1000), item_channel(1 + n % 999)]
                )
            return times

        return self._timed(pages)

    def few(self, times: int) -> Timed:
        from workers import sequencer

        def one_by_one() -> int:
            for _ in range(times):
                self.seed(1)
                sequencer.run()
            return times

        return self._timed(one_by_one)

    def _timed(self, work: Callable[[], int]) -> Timed:
        with self._connection.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            backend = cursor.fetchone()[0]
        session, own, began = cpu_seconds(backend), time.process_time(), time.monotonic()
        events = work()
        seconds, own = time.monotonic() - began, time.process_time() - own
        return Timed(events, seconds, own, cpu_seconds(backend) - session)
