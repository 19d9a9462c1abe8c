"""Promise 8: what takes a permission away ends the live stream, and nothing placed after it gets there."""

import contextlib
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import httpx
import psycopg
import pytest

from tests.faults.conftest import HASTY
from tests.faults.people import SERVERS, at_best, new_item, noted, on_both, retries, settle
from tests.faults.wire import Wire, append, unread
from tests.stack import Stack, eventually, listening

END_SECONDS = 1.0
END_WITHOUT_REDIS_SECONDS = 2.0
NOISE_SECONDS = 0.5  # of a machine that does other things too


@dataclass
class Case:
    """Mallory, who watches alice's item on both servers, each in a session of its own."""

    stack: Stack
    connection: psycopg.Connection[Any]
    owner: httpx.Client
    mallory: dict[str, httpx.Client]
    user_id: str
    item: str

    @property
    def channel(self) -> str:
        return f"item:{self.item}"

    def sql(self, statement: str, *parameters: object) -> None:
        """Take the permission away behind everyone's back; append in the same transaction."""
        with self.connection.transaction():
            self.connection.execute(statement, parameters)
            append(self.connection, self.channel, "system", data={"n": "secret"})

    def session_keys(self) -> list[str]:
        return [client.cookies["sessionid"] for client in self.mallory.values()]


# --- What takes it away -----------------------------------------------------------------------


def membership_removed(case: Case) -> None:
    assert case.owner.delete(f"/api/items/{case.item}/members/{case.user_id}").status_code == 204


def membership_removed_in_sql(case: Case) -> None:
    # Past the verbs: only the recheck sees this.
    case.sql("DELETE FROM events_itemmember WHERE item_id = %s", case.item)


def item_deleted(case: Case) -> None:
    assert case.owner.delete(f"/api/items/{case.item}").status_code == 204


def logged_out(case: Case) -> None:
    for client in case.mallory.values():
        assert client.delete("/api/session").status_code == 204


def sessions_deleted_in_sql(case: Case) -> None:
    case.sql("DELETE FROM django_session WHERE session_key = ANY(%s)", case.session_keys())


def user_disabled_in_sql(case: Case) -> None:
    case.sql("UPDATE auth_user SET is_active = false WHERE id = %s", case.user_id)


def user_deleted_in_sql(case: Case) -> None:
    case.sql(
        "WITH members AS (DELETE FROM events_itemmember WHERE user_id = %s)"
        " DELETE FROM auth_user WHERE id = %s",
        case.user_id,
        case.user_id,
    )


def password_changed_in_sql(case: Case) -> None:
    case.sql("UPDATE auth_user SET password = 'another' WHERE id = %s", case.user_id)


def session_cut_short_in_sql(case: Case) -> None:
    case.sql(
        "UPDATE django_session SET expire_date = now() - interval '1 second' WHERE session_key = ANY(%s)",
        case.session_keys(),
    )


def user_disabled_by_an_admin(case: Case) -> None:
    admin = case.stack.login("admin")
    page = f"/admin/auth/user/{case.user_id}/change/"
    form = admin.get(page).text
    fields = dict(re.findall(r'<input type="(?:text|hidden|email)" name="([^"]+)" value="([^"]*)"', form))
    fields.pop("is_active", None)
    answer = admin.post(page, data=fields, headers={"Referer": str(admin.base_url)})
    assert answer.status_code == 302, re.findall(r"errorlist.*?</ul>", answer.text, re.DOTALL)


TAKEN = {
    membership_removed: 403,
    item_deleted: 404,
    logged_out: 401,
    sessions_deleted_in_sql: 401,
    user_disabled_in_sql: 401,
    user_disabled_by_an_admin: 401,
    user_deleted_in_sql: 401,
    password_changed_in_sql: 401,
    session_cut_short_in_sql: 401,
}


def case_of(stack: Stack, *, visibility: str = "members") -> Case:
    owner = stack.login("alice")
    name = f"mallory{time.monotonic_ns()}"
    with stack.connect() as connection:
        row = connection.execute(
            "INSERT INTO auth_user (username, password, first_name, last_name, email,"
            " is_active, is_staff, is_superuser, date_joined)"
            " SELECT %s, password, '', '', '', true, false, false, now()"
            " FROM auth_user WHERE username = 'bob' RETURNING id",
            [name],
        ).fetchone()
    user_id = str(row[0])
    item = new_item(owner, visibility=visibility)
    assert owner.put(f"/api/items/{item}/members/{user_id}").status_code == 204
    mallory = {server: log_in(stack, server, name) for server in SERVERS}
    settle(stack)
    return Case(stack, stack.connect(), owner, mallory, user_id, item)


def log_in(stack: Stack, server: str, name: str) -> httpx.Client:
    """Log in somebody whose password is bob's."""
    client = httpx.Client(base_url=stack.url(server), timeout=15)
    stack._clients.append(client)
    answer = client.post("/api/session", json={"username": name, "password": "demo-bob"})
    assert answer.status_code == 200, answer.text
    client.headers["X-CSRFToken"] = answer.json()["csrf_token"]
    return client


@pytest.fixture
def case(rough):
    made = case_of(rough)
    yield made
    made.connection.close()


def assert_ends_in_time(
    make: Callable[[], Case], take: Callable[[Case], None], status: int, *, seconds: float
) -> float:
    """Check the ends, and that they come in time, of a case of its own each time; return how long it took."""

    def took() -> float:
        with contextlib.closing((case := make()).connection):
            return assert_ends(case, take, status)

    found = at_best(took, lambda found: found < seconds)
    assert found < seconds
    return found


def assert_ends(
    case: Case, take: Callable[[Case], None], status: int, *, channel: str | None = None
) -> float:
    """Open streams, take the permission away, append; check the ends. Return the longest time it took."""
    channel = channel or case.channel
    path = f"/streams/?channel={channel}"
    with on_both(case.stack, case.mallory, path) as streams:
        append(case.connection, channel, data={"n": "before"})
        for stream in streams.values():
            stream.until(noted("before"))
        take(case)
        taken = time.perf_counter()
        append(case.connection, channel, data={"n": "secret"})
        slowest = 0.0
        for stream in streams.values():
            rest = stream.ended()
            assert "secret" not in str([got.data for got in stream.all])
            assert (rest[-1].event, rest[-1].data) == ("stream.end", {"reason": "revoked"})
            slowest = max(slowest, rest[-1].at - taken)
    for client in case.mallory.values():
        for header in ({}, {"Last-Event-ID": "earliest"}):
            answer = client.get(path, headers=header)
            assert answer.status_code == status
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json()["code"]
    return slowest


@pytest.mark.parametrize(
    ("take", "status"), TAKEN.items(), ids=lambda value: getattr(value, "__name__", None)
)
def test_promise_8_what_takes_access_away_ends_the_stream(rough, take, status, figure):
    took = assert_ends_in_time(lambda: case_of(rough), take, status, seconds=END_SECONDS + NOISE_SECONDS)
    figure(f"access: {take.__name__.replace('_', ' ')}: stream ended after {took * 1000:.0f} ms")


def test_promise_8_an_item_made_members_only_ends_the_streams_of_others(rough):
    def public() -> Case:
        case = case_of(rough, visibility="public")
        membership_removed(case)
        settle(rough)
        return case

    def close(case: Case) -> None:
        answer = case.owner.patch(f"/api/items/{case.item}", json={"visibility": "members"})
        assert answer.status_code == 200

    assert_ends_in_time(public, close, 403, seconds=END_SECONDS + NOISE_SECONDS)


def membership_of_the_group_removed(case: Case, group: int) -> None:
    case.sql("DELETE FROM auth_user_groups WHERE group_id = %s AND user_id = %s", group, case.user_id)


def group_deleted(case: Case, group: int) -> None:
    case.sql(
        "WITH members AS (DELETE FROM auth_user_groups WHERE group_id = %s)"
        " DELETE FROM auth_group WHERE id = %s",
        group,
        group,
    )


def group_renamed(case: Case, group: int) -> None:
    case.sql("UPDATE auth_group SET name = name || '-of-old' WHERE id = %s", group)


@pytest.mark.parametrize("take", [membership_of_the_group_removed, group_deleted, group_renamed])
def test_promise_8_who_is_no_longer_of_a_group_hears_it_no_more(case, take, figure):
    def ends() -> float:
        name = f"team{time.monotonic_ns()}"
        [group] = case.connection.execute(
            "WITH made AS (INSERT INTO auth_group (name) VALUES (%s) RETURNING id), member AS"
            " (INSERT INTO auth_user_groups (user_id, group_id) SELECT %s, id FROM made) SELECT id FROM made",
            [name, case.user_id],
        ).fetchone()
        settle(case.stack)
        return assert_ends(case, lambda case: take(case, group), 403, channel=f"group:{name}")

    took = at_best(ends, lambda found: found < END_SECONDS + NOISE_SECONDS)
    assert took < END_SECONDS + NOISE_SECONDS
    figure(f"access: {take.__name__.replace('_', ' ')}: stream ended after {took * 1000:.0f} ms")


def test_promise_8_staff_rights_taken_away_take_with_them_what_only_staff_may_read(rough):
    def of_staff() -> Case:
        case = case_of(rough)
        assert case.owner.delete(f"/api/items/{case.item}/members/{case.user_id}").status_code == 204
        case.connection.execute("UPDATE auth_user SET is_staff = true WHERE id = %s", [case.user_id])
        settle(case.stack)
        return case

    def take(case: Case) -> None:
        case.sql("UPDATE auth_user SET is_staff = false WHERE id = %s", case.user_id)

    assert_ends_in_time(of_staff, take, 403, seconds=END_SECONDS + NOISE_SECONDS)


def test_promise_8_a_logout_ends_its_own_sessions_streams_in_every_process_and_no_others(rough):
    def took() -> float:
        with contextlib.closing((case := case_of(rough)).connection):
            return assert_ends_where_it_was_left(case)

    seconds = END_SECONDS + NOISE_SECONDS
    assert at_best(took, lambda found: found < seconds) < seconds


def assert_ends_where_it_was_left(case: Case) -> float:
    """Leave one of two sessions; check which streams end, and return the longest time it took."""
    path = f"/streams/?channel={case.channel}"
    slowest = 0.0
    with contextlib.ExitStack() as opened:
        streams = {
            (session, server): opened.enter_context(
                listening(elsewhere(client, case.stack.url(server)), path)
            )
            for session, client in case.mallory.items()
            for server in SERVERS
        }
        assert case.mallory["daphne"].delete("/api/session").status_code == 204
        left = time.perf_counter()
        append(case.connection, case.channel, data={"n": "secret"})
        for (session, _), stream in streams.items():
            if session == "daphne":
                end = stream.ended()[-1]
                assert (end.event, end.data) == ("stream.end", {"reason": "revoked"})
                slowest = max(slowest, end.at - left)
                assert "secret" not in str([got.data for got in stream.all])
            else:
                stream.until(noted("secret"))
                assert [got.event for got in stream.all] == ["stream.open", "Noted"]
    return slowest


def elsewhere(client: httpx.Client, url: str) -> httpx.Client:
    """Return a client of the same session at another server."""
    return httpx.Client(base_url=url, cookies=client.cookies)


def test_promise_8_the_owner_is_not_sent_away_with_the_others(case):
    path = f"/streams/?channel={case.channel}"
    owners = {name: case.stack.login("alice", case.stack.url(name)) for name in SERVERS}
    with on_both(case.stack, owners, path) as streams:
        user_disabled_in_sql(case)
        for stream in streams.values():
            stream.until(noted("secret"))
            assert all(got.event != "stream.end" for got in stream.all)


def test_promise_8_what_went_past_the_verbs_is_found_by_the_recheck(rough):
    def took() -> float:
        with contextlib.closing((case := case_of(rough)).connection):
            path = f"/streams/?channel={case.channel}"
            with on_both(case.stack, case.mallory, path) as streams:
                case.connection.execute("DELETE FROM events_itemmember WHERE item_id = %s", [case.item])
                taken = time.perf_counter()
                ends = [stream.ended()[-1] for stream in streams.values()]
        assert [end.data for end in ends] == [{"reason": "revoked"}] * len(SERVERS)
        return max(end.at for end in ends) - taken

    seconds = float(HASTY["STREAMS_RECHECK_SECONDS"]) + 2
    assert at_best(took, lambda found: found < seconds) < seconds


def hub_knows(client, path: str, position: int) -> bool:
    """Tell whether a server's hub has come to a position of the log."""
    with listening(client, path) as stream:
        return stream.opened.event == "stream.open" and stream.opened.position >= position


def test_promise_8_a_session_that_expires_ends_its_streams(rough):
    def took() -> float:
        with contextlib.closing((case := case_of(rough)).connection):
            return assert_ends_with_its_session(case)

    assert at_best(took, lambda found: found < END_SECONDS) < END_SECONDS


def assert_ends_with_its_session(case: Case) -> float:
    """Have the sessions expire; check the ends, and return how long after it the last came."""
    expires = time.perf_counter() + 7
    case.connection.execute(
        "UPDATE django_session SET expire_date = now() + interval '7 seconds' WHERE session_key = ANY(%s)",
        [case.session_keys()],
    )
    slowest = 0.0
    path = f"/streams/?channel={case.channel}"
    # A session that is cut short ends the streams that it has already, at once.
    cut_short = int(settle(case.stack).rpartition("-")[2])
    for client in case.mallory.values():
        eventually(partial(hub_knows, client, path, cut_short))
    with on_both(case.stack, case.mallory, path) as streams:
        for stream in streams.values():
            end = stream.ended(seconds=30)[-1]
            assert (end.event, end.data) == ("stream.end", {"reason": "revoked"})
            assert end.at - expires > -END_SECONDS
            slowest = max(slowest, end.at - expires)
    for client in case.mallory.values():
        assert client.get(path).status_code == 401
    return slowest


def test_promise_8_a_reader_far_behind_is_cut_off_at_the_revocation(rough):
    def took() -> float:
        with contextlib.closing((case := case_of(rough)).connection):
            return assert_is_cut_off(case)

    seconds = END_SECONDS + NOISE_SECONDS
    assert at_best(took, lambda found: found < seconds) < seconds


def assert_is_cut_off(case: Case) -> float:
    """Take the access of a reader far behind away; check what it got, and return how long it took."""
    # It takes nothing just now: what was written for it before is not its to read either.
    marks = [f"<{number}>" for number in range(60)]
    with case.connection.transaction():
        for mark in marks:
            append(case.connection, case.channel, data={"n": mark + "x" * 20_000})
    settle(case.stack)
    path = f"/streams/?channel={case.channel}&last_event_id=earliest"
    with contextlib.ExitStack() as opened:
        wires = {}
        for server, client in case.mallory.items():
            wires[server] = opened.enter_context(Wire(client, path, receive_buffer=4_096))
            wires[server].until(marks[0].encode())
        membership_removed(case)
        taken = time.perf_counter()
        append(case.connection, case.channel, data={"n": "secret"})

        def cut() -> bool:
            """Both connections are closed by the server."""
            return all(wire.port not in unread(case.stack.ports[server]) for server, wire in wires.items())

        eventually(cut)
        took = time.perf_counter() - taken
        for wire in wires.values():
            body = wire.to_end()
            assert b"secret" not in body
            found = [mark for mark in marks if mark.encode() in body]
            assert found == marks[: len(found)] != marks
    return took


def test_promise_8_a_reader_that_keeps_up_a_little_is_told(case):
    with Wire(case.mallory["daphne"], f"/streams/?channel={case.channel}") as wire:
        wire.until(b"stream.open")
        append(case.connection, case.channel, data={"n": "x" * 50_000})
        wire.until(b"xxx")
        membership_removed(case)
        assert wire.to_end().endswith(b'event: stream.end\ndata: {"reason":"revoked"}\n\n')


def test_promise_8_a_grant_ends_the_stream_with_a_short_wait_and_is_then_heard(case):
    group = f"team{time.monotonic_ns()}"
    for name, client in case.mallory.items():
        with Wire(client, "/streams/me/") as wire:
            wire.until(b"stream.open")
            with case.connection.transaction():
                row = case.connection.execute(
                    "INSERT INTO auth_group (name) VALUES (%s) RETURNING id", [group + name]
                )
                case.connection.execute(
                    "INSERT INTO auth_user_groups (user_id, group_id) VALUES (%s, %s)",
                    [case.user_id, row.fetchone()[0]],
                )
            body = wire.to_end()
        assert b'{"reason":"revoked"}' in body
        assert retries(body)[-1] <= 1_000

        with Wire(client, "/streams/me/") as wire:
            wire.until(b"stream.open")
            append(case.connection, f"group:{group}{name}", data={"n": "for the team"})
            wire.until(b"for the team")


def test_promise_8_holds_without_redis(alone, figure):
    seconds = END_WITHOUT_REDIS_SECONDS + NOISE_SECONDS
    for take, status in ((membership_removed, 403), (user_disabled_in_sql, 401), (logged_out, 401)):

        def ends(take=take, status=status) -> float:
            with contextlib.closing((case := case_of(alone)).connection):
                alone.valkey.process.kill()
                alone.valkey.process.wait(5)
                try:
                    return assert_ends(case, take, status)
                finally:
                    alone.valkey.start()

        took = at_best(ends, lambda found: found < seconds)
        assert took < seconds
        figure(f"access without Redis: {take.__name__.replace('_', ' ')}: stream ended after {took:.2f} s")
    alice = alone.login("alice")
    eventually(lambda: alice.get("/readyz").json()["redis"])
