"""What one user or one address may ask for in a minute."""

import contextlib
import hashlib
import time
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from django.conf import settings as django_settings
from django.db import connection
from django.test import Client, RequestFactory

from events import limits, logins, retention
from events.errors import RateLimited, Unavailable
from events.peer import address
from tests.events.support import code_of, events_on


@pytest.fixture
def few(settings):
    settings.EVENTS_POSTS_PER_MINUTE = 5
    settings.EVENTS_LOGINS_PER_MINUTE = 5
    return settings


def later(seconds):
    """Let so much time have passed for everyone who is counted."""
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE events_allowance SET spent_until = spent_until - make_interval(secs => %s)", [seconds]
        )


# --- Posts ---------------------------------------------------------------------------------------


def post(client, item, text="x", **headers):
    return client.post(f"/api/items/{item.pk}/comments", {"text": text}, **headers)


def test_a_user_posts_so_often_and_is_told_when_to_come_back(few, users, api, item):
    bob = api("bob")
    assert [post(bob, item).status_code for _ in range(5)] == [201] * 5

    refused = post(bob, item)

    assert code_of(refused, 429) == "rate_limited"
    assert 1 <= int(refused["Retry-After"]) <= 12  # a fifth of a minute
    assert len(events_on(f"item:{item.pk}")) == 1 + 5
    later(int(refused["Retry-After"]))
    assert post(bob, item).status_code == 201
    assert code_of(post(bob, item), 429) == "rate_limited"
    later(60)
    assert [post(bob, item).status_code for _ in range(6)] == [201] * 5 + [429]


def test_each_user_is_counted_alone_and_wherever_they_are_logged_in(few, users, api, item):
    one, other = api("bob"), api("bob")
    assert [post(client, item).status_code for client in (one, other) * 3] == [201] * 5 + [429]
    assert post(api("alice"), item).status_code == 201


def test_reading_and_logging_out_are_never_refused(few, users, api, item):
    bob = api("bob")
    for _ in range(6):
        post(bob, item)

    assert bob.get("/api/items").status_code == 200
    assert bob.get(f"/api/items/{item.pk}/comments").status_code == 200
    assert bob.delete("/api/session").status_code == 204


def test_who_is_not_let_in_spends_nothing(few, users, api, item):
    bob = api("bob")
    token = bob.headers.pop("X-CSRFToken")
    for _ in range(6):
        assert post(bob, item).status_code == 403
        assert post(api(), item).status_code == 401
    bob.headers["X-CSRFToken"] = token

    assert post(bob, item).status_code == 201


def test_0_is_no_limit(few, users, api, item):
    few.EVENTS_POSTS_PER_MINUTE = 0
    bob = api("bob")

    assert {post(bob, item).status_code for _ in range(12)} == {201}


def test_at_once_and_in_several_processes_no_more_get_through(few, users):
    # Processes meet in the database alone, and so do these threads: each has its own connection.
    def spend(_):
        try:
            limits.spend("posts:1", per_minute=20)
            return True
        except RateLimited:
            return False
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        taken = list(pool.map(spend, range(60)))

    # The oldest come back after three seconds each, if this machine is that slow.
    assert 20 <= sum(taken) <= 21


@pytest.mark.parametrize("per_minute", [1, 7, 120, 1_000_000])
def test_all_of_a_minutes_are_there_at_once(users, per_minute):
    for _ in range(min(per_minute, 200)):
        limits.spend("somebody", per_minute=per_minute)
    if per_minute <= 120:
        with pytest.raises(RateLimited) as refusal:
            for _ in range(5):
                limits.spend("somebody", per_minute=per_minute)
        assert 1 <= refusal.value.retry_seconds <= 60


def test_a_count_waits_for_no_disk_and_what_is_over_is_swept(few, users, api, item):
    with connection.cursor() as cursor:
        cursor.execute("SELECT relpersistence FROM pg_class WHERE relname = 'events_allowance'")
        assert cursor.fetchone() == ("u",)
        post(api("bob"), item)
        assert dict(retention.sweep())["allowances"] == 0
        later(61)
        assert dict(retention.sweep())["allowances"] == 1
        cursor.execute("SELECT count(*) FROM events_allowance")
        assert cursor.fetchone() == (0,)


def test_a_sweep_waits_for_nobody_who_is_being_counted(users):
    limits.charge(["a", "b"], per_minute=5)
    later(61)
    with contextlib.closing(psycopg.connect(django_settings.DATABASE_URL)) as other:
        other.execute("UPDATE events_allowance SET spent_until = clock_timestamp() WHERE subject = 'b'")
        with connection.cursor() as cursor:
            cursor.execute("SET lock_timeout = '1s'")  # a wait would fail
            try:
                assert limits.sweep() == 1
            finally:
                cursor.execute("RESET lock_timeout")
        other.rollback()
    assert limits.sweep() == 1


# --- Logins --------------------------------------------------------------------------------------


def test_guessing_at_a_user_is_refused_from_wherever_it_comes(few, users, api):
    few.SERVE_TRUSTED_PROXIES = limits_of("127.0.0.1")
    for number in range(5):
        answer = api().post(
            "/api/session", {"username": "bob", "password": "guess"}, X_Forwarded_For=f"192.0.2.{number}"
        )
        assert code_of(answer, 401) == "login_failed"

    refused = api().post(
        "/api/session", {"username": "bob", "password": "demo-bob"}, X_Forwarded_For="192.0.2.9"
    )

    assert code_of(refused, 429) == "rate_limited"
    assert 1 <= int(refused["Retry-After"]) <= 12
    assert api().log_in("alice").status_code == 200
    later(12)
    assert api().log_in("bob").status_code == 200


def test_guessing_at_users_from_one_address_is_refused(few, users, api):
    for number in range(5):
        assert code_of(api().log_in(f"user{number}", "guess"), 401) == "login_failed"

    assert code_of(api().log_in("alice"), 429) == "rate_limited"
    later(12)
    assert api().log_in("alice").status_code == 200


def test_those_who_know_their_password_are_not_counted(few, users, api):
    for _ in range(12):
        assert api().log_in("bob").status_code == 200


def test_guesses_at_once_are_counted_too(few, users):
    # As slow to check as in production, so that the others come before the first has failed.
    few.PASSWORD_HASHERS = ["django.contrib.auth.hashers.PBKDF2PasswordHasher"]
    users.bob.set_password("demo-bob")
    users.bob.save()

    def guess(_):
        try:
            client = Client()
            body = {"username": "bob", "password": "guess"}
            return client.post("/api/session", body, content_type="application/json").status_code
        finally:
            connection.close()

    with ThreadPoolExecutor(30) as pool:
        answers = list(pool.map(guess, range(40)))

    assert set(answers) == {401, 429}
    # Passwords are checked by few at a time, and those may be at it together.
    assert 5 <= answers.count(401) <= 5 + logins.AT_ONCE


def test_the_admins_login_counts_as_well_and_says_so(few, users):
    client = Client()
    form = {"username": "admin", "password": "guess"}
    for _ in range(5):
        assert b"correct username" in client.post("/admin/login/", form).content

    refused = client.post("/admin/login/", {**form, "password": "demo-admin"})

    assert refused.status_code == 200
    assert b"Too many" in refused.content
    assert "sessionid" not in refused.cookies
    later(12)
    assert client.post("/admin/login/", {**form, "password": "demo-admin"}).status_code == 302


def test_logins_without_a_limit(few, users, api):
    few.EVENTS_LOGINS_PER_MINUTE = 0
    for _ in range(12):
        assert code_of(api().log_in("bob", "guess"), 401) == "login_failed"


@pytest.fixture
def turns_taken(few):
    """Have others log in for long: as many as may at once."""
    for _ in range(logins.AT_ONCE):
        logins._turns.acquire()
    yield
    for _ in range(logins.AT_ONCE):
        logins._turns.release()


def test_a_login_waits_for_its_turn_no_longer_than_one_may_take(few, users, api, turns_taken):
    few.DATABASE_CONNECT_SECONDS, few.DATABASE_ANSWER_SECONDS = 0.1, 0.2
    began = time.monotonic()

    assert code_of(api().log_in("bob"), 503) == "unavailable"
    assert 0.3 <= time.monotonic() - began < 5
    form = {"username": "admin", "password": "demo-admin"}
    assert b"try again soon" in Client().post("/admin/login/", form).content


def test_who_failed_too_often_is_told_so_without_a_turn(few, users, api):
    for _ in range(5):
        assert code_of(api().log_in("bob", "guess"), 401) == "login_failed"
    with contextlib.ExitStack() as others:
        for _ in range(logins.AT_ONCE):
            others.enter_context(logins._turns)
        assert code_of(api().log_in("bob"), 429) == "rate_limited"


def test_who_waits_for_a_turn_keeps_no_connection_from_others(few, users, turns_taken):
    few.DATABASE_CONNECT_SECONDS, few.DATABASE_ANSWER_SECONDS = 0.1, 0.2
    request = RequestFactory().post("/api/session", REMOTE_ADDR="192.0.2.1")

    with pytest.raises(Unavailable):
        logins.Backend().authenticate(request, "bob", "demo-bob")

    assert connection.connection is None


def test_no_name_that_was_tried_is_kept(few, users, api):
    api().log_in("bob", "guess")
    with connection.cursor() as cursor:
        cursor.execute("SELECT string_agg(subject, ' ') FROM events_allowance")
        kept = cursor.fetchone()[0]

    assert "bob" not in kept
    assert hashlib.sha256(b"bob").hexdigest()[:32] in kept


def limits_of(*networks):
    from ipaddress import ip_network

    return [ip_network(each) for each in networks]


# --- Addresses -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("trusted", "peer", "forwarded", "expected"),
    [
        # Nobody is trusted unless said so.
        ([], "192.0.2.1", "198.51.100.7", "192.0.2.1"),
        (["10.0.0.0/8"], "192.0.2.1", "198.51.100.7", "192.0.2.1"),
        # The first from the right that is no proxy of ours; what is left of it, it may have made up.
        (["10.0.0.0/8"], "10.0.0.1", "198.51.100.7", "198.51.100.7"),
        (["10.0.0.0/8"], "10.0.0.1", "203.0.113.1, 198.51.100.7", "198.51.100.7"),
        (["10.0.0.0/8"], "10.0.0.1", "203.0.113.1,198.51.100.7 , 10.2.3.4", "198.51.100.7"),
        (["10.0.0.1", "192.0.2.0/24"], "10.0.0.1", "198.51.100.7, 192.0.2.5", "198.51.100.7"),
        # All are proxies, or no address: the last that is known.
        (["10.0.0.0/8"], "10.0.0.1", "10.0.0.9, 10.0.0.8", "10.0.0.9"),
        (["10.0.0.0/8"], "10.0.0.1", "", "10.0.0.1"),
        (["10.0.0.0/8"], "10.0.0.1", "198.51.100.7, unknown", "10.0.0.1"),
        (["10.0.0.0/8"], "10.0.0.1", "198.51.100.7, <script>, 10.0.0.3", "10.0.0.3"),
        # With the port, as some proxies write it.
        (["10.0.0.0/8"], "10.0.0.1", "198.51.100.7:5678", "198.51.100.7"),
        (["10.0.0.0/8"], "10.0.0.1", "203.0.113.1, 198.51.100.7:80, 10.2.3.4:5678", "198.51.100.7"),
        (["10.0.0.0/8"], "10.0.0.1", "[2001:db8:1:2::7]:5678", "2001:db8:1:2::"),
        (["10.0.0.0/8"], "10.0.0.1", "[2001:db8:1:2::7]", "2001:db8:1:2::"),
        (["10.0.0.0/8"], "10.0.0.1", "[unknown]:5678", "10.0.0.1"),
        # A host has a /64 of IPv6 to choose from, so that is who it is.
        ([], "2001:db8:1:2:aaaa::1", "", "2001:db8:1:2::"),
        (["::1"], "::1", "2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ([], "::ffff:192.0.2.1", "", "192.0.2.1"),
        (["192.0.2.0/24"], "::ffff:192.0.2.1", "198.51.100.7", "198.51.100.7"),
        # A socket without addresses.
        ([], "", "198.51.100.7", ""),
    ],
)
def test_whose_address_counts(settings, trusted, peer, forwarded, expected):
    settings.SERVE_TRUSTED_PROXIES = limits_of(*trusted)
    headers = {"X-Forwarded-For": forwarded} if forwarded else {}
    request = RequestFactory().get("/", headers=headers, REMOTE_ADDR=peer)

    assert address(request) == expected
