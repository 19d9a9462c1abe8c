"""Promise 2: one order for everyone, given after the commit; no append waits for another."""

import threading

import pytest

from tests.faults.people import SERVERS, both, new_item, noted, notes, on_both, say, settle
from tests.faults.wire import append
from tests.stack import eventually, listening


def test_promise_2_who_resumed_between_two_commits_gets_both_in_everyones_order(rough):
    alice = both(rough, "alice")
    channel = f"item:{new_item(alice['daphne'])}"
    path = f"/streams/?channel={channel}"
    begin = settle(rough)

    with on_both(rough, alice, path) as live, rough.connect() as slow, rough.connect() as quick:
        quick.execute("SET lock_timeout = '1s'")  # waiting for the other append would fail
        with slow.transaction():
            first_id = append(slow, channel, data={"n": "began first"})
            second_id = append(quick, channel, data={"n": "committed first"})
            assert first_id < second_id  # what `id > last` readers stumble over
            seen = {name: stream.until(noted("committed first")) for name, stream in live.items()}
            with on_both(rough, alice, path, last_event_id=begin) as resumed:
                came_back = {name: stream.until(noted("committed first")) for name, stream in resumed.items()}
        with on_both(rough, alice, path, last_event_id=seen["daphne"][-1].id) as resumed:
            for name, stream in resumed.items():
                came_back[name] += stream.until(noted("began first"))
        for name, stream in live.items():
            seen[name] += stream.until(noted("began first"))
    with on_both(rough, alice, path, last_event_id=begin) as replays:
        replayed = {name: stream.until(noted("began first")) for name, stream in replays.items()}

    everyone = [*seen.values(), *came_back.values(), *replayed.values()]
    for got in everyone:
        assert notes(got) == ["committed first", "began first"]
    assert len({tuple(each.id for each in got if each.event == "Noted") for got in everyone}) == 1


def test_promise_2_positions_are_dense_and_never_reused(rough):
    settle(rough)
    with rough.connect() as connection:
        numbers = connection.execute(
            "SELECT count(position), count(DISTINCT position), max(position), l.head, l.oldest"
            " FROM events_event, events_logstate l GROUP BY l.head, l.oldest"
        ).fetchone()
        count, distinct, last, head, oldest = numbers
    assert (count, last) == (head - oldest + 1, head)
    assert count == distinct > 0


@pytest.mark.parametrize("first", ["edit", "delete"])
def test_promise_2_an_edit_and_a_delete_that_race_end_in_log_and_table_alike(rough, first):
    alice, others = both(rough, "alice"), both(rough, "alice")
    item = new_item(alice["daphne"])
    comment = say(alice["daphne"], item, "Hello")
    status = {}

    def edit() -> None:
        answer = alice["daphne"].patch(f"/api/comments/{comment}", json={"text": "Hello!"})
        status["edit"] = answer.status_code

    def delete() -> None:
        status["delete"] = others["uvicorn"].delete(f"/api/comments/{comment}").status_code

    racers = [threading.Thread(target=edit), threading.Thread(target=delete)]
    if first == "delete":
        racers.reverse()
    with rough.connect() as gate, rough.connect() as watch:
        with gate.transaction():
            gate.execute("SELECT FROM events_item WHERE id = %s FOR UPDATE", [item])
            for number, racer in enumerate(racers, start=1):
                racer.start()
                eventually(lambda number=number: waiting(watch) == number)  # at the lock, in this order
        for racer in racers:
            racer.join(10)

    assert status == {"edit": 200 if first == "edit" else 404, "delete": 204}
    assert folded(rough, alice, item) == listed(alice["daphne"], item) == {}


def test_promise_2_edits_and_deletes_at_once_end_in_log_and_table_alike(rough):
    alice, others = both(rough, "alice"), both(rough, "alice")
    item = new_item(alice["daphne"])
    kept = say(alice["daphne"], item, "stays")
    racing = [say(alice["daphne"], item, f"comment {number}") for number in range(6)]
    start = threading.Barrier(3)

    def run(verb: str, client) -> None:
        start.wait(10)
        for number, comment in enumerate(racing):
            if verb == "edit":
                client.patch(f"/api/comments/{comment}", json={"text": f"edited {number}"})
            elif number % 2:
                client.delete(f"/api/comments/{comment}")
            else:
                client.patch(f"/api/comments/{comment}", json={"text": f"edited otherwise {number}"})

    racers = [
        threading.Thread(target=run, args=("edit", alice["daphne"])),
        threading.Thread(target=run, args=("delete", others["uvicorn"])),
    ]
    for racer in racers:
        racer.start()
    start.wait(10)
    for racer in racers:
        racer.join(20)

    rows = listed(alice["daphne"], item)
    assert folded(rough, alice, item) == rows
    assert set(rows) == {kept, *racing[::2]}


def waiting(connection) -> int:
    """Return how many statements wait for a row that another holds."""
    row = connection.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        " AND wait_event_type = 'Lock' AND query LIKE '%events_item%'"
    ).fetchone()
    return row[0]


def listed(client, item: str) -> dict[str, str]:
    """Return the comments of the table: text by id."""
    rows = client.get(f"/api/items/{item}/comments").json()["results"]
    return {row["id"]: row["text"] for row in rows}


def folded(stack, clients, item: str) -> dict[str, str]:
    """Return what a client on each server makes of the log; they must agree."""
    settle(stack)
    found = []
    for name in SERVERS:
        with listening(clients[name], f"/streams/items/{item}/", last_event_id="earliest") as stream:
            got = stream.until(lambda got: got.event == "stream.live")
        texts = {}
        for each in got:
            match each.event:
                case "CommentAdded":
                    texts[each.data["comment_id"]] = each.data["text"]
                case "CommentUpdated":
                    assert each.data["comment_id"] in texts
                    texts[each.data["comment_id"]] = each.data["new_text"]
                case "CommentDeleted":
                    del texts[each.data["comment_id"]]
        found.append(texts)
    assert found[0] == found[1]
    return found[0]
