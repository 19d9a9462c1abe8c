"""The twin of the write path does what an app does that keeps no log, and does it no worse than it could."""

import json
import re

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from bench import bare
from events import ingest

TABLE = re.compile(r"INSERT INTO (events|bench)_event\b")


@pytest.fixture
def post(database, settings):
    """Post so many events, to the service or to its twin; return the answer and the statements."""
    settings.ROOT_URLCONF = "bench.bare"
    _, secret = ingest.make_key(name="bench", channels=["*"], types=["*"])
    with connection.cursor() as cursor:
        cursor.execute(bare.TABLES)

    def post(where, number):
        events = [{"channels": ["item:1"], "type": "BenchTicked", "data": {"n": n}} for n in range(number)]
        client = Client(headers={"Authorization": f"Bearer {secret}"})
        with CaptureQueriesContext(connection) as asked:
            answer = client.post(f"/{where}/events", {"events": events}, content_type="application/json")
        return answer, [query["sql"] for query in asked if TABLE.search(query["sql"])]

    yield post
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE bench_event, bench_comment")


def rows():
    with connection.cursor() as cursor:
        cursor.execute("SELECT id, type, data, channels FROM bench_event ORDER BY id")
        return cursor.fetchall()


@pytest.mark.parametrize("where", ["api", "bare"])
@pytest.mark.parametrize("number", [1, 100])
def test_events_are_inserted_by_one_statement_each_way(post, where, number):
    answer, inserted = post(where, number)

    assert answer.status_code == 201
    assert len(answer.json()["ids"]) == number
    assert len(inserted) == 1


@pytest.mark.parametrize(("where", "statements"), [("bare", 1), ("bare/each", 100)])
def test_the_twin_keeps_all_of_them_in_their_order(post, where, statements):
    answer, inserted = post(where, 100)

    assert len(inserted) == statements
    assert [str(row[0]) for row in rows()] == answer.json()["ids"]
    assert [json.loads(row[2])["n"] for row in rows()] == [*range(100)]
    assert {(row[1], *row[3]) for row in rows()} == {("BenchTicked", "item:1")}
