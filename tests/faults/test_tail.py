"""`manage.py tail` while the database goes away: it waits, and nobody has to tell it that it is back."""

import json
import re

from tests.commands import Running
from tests.faults.people import both, new_item, settle
from tests.faults.wire import append
from tests.stack import eventually

TOTAL = 200


def test_a_restart_of_the_database_costs_a_tail_nothing(alone):
    clients = both(alone, "alice")
    item = f"item:{new_item(clients['daphne'])}"
    settle(alone)
    with Running("tail", item, "--json", "--from", "earliest", env=alone.environment) as tailing:
        acknowledged: list[int] = []

        def write(numbers: range) -> None:
            with alone.connect() as connection:
                for n in numbers:
                    append(connection, item, data={"n": n})
                    acknowledged.append(n)

        write(range(TOTAL // 2))
        tailing.next()
        alone.postgres.process.kill()
        alone.postgres.process.wait(10)
        assert tailing.complaint() == "-- the database does not answer; waiting for it"
        alone.postgres.start()
        # So that others find it as it was.
        eventually(lambda: all(each.get("/api/items").status_code == 200 for each in clients.values()))
        write(range(TOTAL // 2, TOTAL))

        def heard() -> bool:
            """All that was acknowledged was shown."""
            return len(notes(tailing.lines)) >= len(acknowledged)

        eventually(heard, seconds=40)
        assert notes(tailing.lines) == acknowledged == list(range(TOTAL))
        *_, back, said = tailing.interrupt()
        assert back.startswith("-- it is back; going on from ")
        assert re.fullmatch(r"-- go on with --from [0-9a-f]+-\d+", said)


def notes(lines: list[str]) -> list[int]:
    said = map(json.loads, lines)
    return [each["data"]["n"] for each in said if each.get("type") == "Noted"]
