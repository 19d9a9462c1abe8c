"""What an admin sees of failed reactions and can do: retry and drop, asked first, beside the workers."""

import threading
from datetime import timedelta

import psycopg
import pytest
from django.conf import settings as django_settings
from django.contrib.admin.models import DELETION, LogEntry
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.utils import timezone

from events import log, retention
from tests.stack import eventually
from tests.workers.conftest import WorkTested
from tests.workers.test_reactions import Echoed
from workers import parked, reactions, wake
from workers.models import Checkpoint, Delivery

LIST = "/admin/workers/delivery/"
LATER = timedelta(hours=1)


@pytest.fixture
def broken(start, monkeypatch, settings):
    """A reaction that fails for the `n` in a set, and echoes the others; one try parks it."""
    settings.WORKERS_REACTION_TRIES = 2
    monkeypatch.setattr(reactions, "_reactions", {})
    reactions.run()
    fails: set[int] = set()

    @reactions.reaction(WorkTested)
    def echo(cause):
        if cause.event.n in fails:
            raise ValueError(f"<b>{cause.event.n}</b> is broken")
        cause.append(Echoed(n=cause.event.n), target="all", channels=["item:2"])

    return fails


@pytest.fixture
def fail(broken, append):
    """Append events whose reactions fail until they are parked; return their deliveries."""

    def work(*ns, channel="item:1"):
        broken.update(ns)
        append(*ns, channel=channel)
        log.place()
        for _ in range(2 * len(ns)):
            reactions.run()
            due()
        found = list(Delivery.objects.exclude(parked_at=None).order_by("position"))[-len(ns) :]
        assert len(found) == len(ns)
        return found

    return work


@pytest.fixture
def as_user(database):
    """Return a client logged in as staff with some permissions of deliveries."""

    def log_in(*names):
        user = User.objects.create_user(f"staff-{'-'.join(names)}", is_staff=True)
        codenames = [f"{name}_delivery" for name in names]
        user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
        client = Client()
        client.force_login(user)
        return client

    return log_in


@pytest.fixture
def admin(as_user):
    return as_user("view", "change", "delete")


def due():
    Delivery.objects.filter(parked_at=None).update(due_at=timezone.now() - timedelta(seconds=1))


def echoes():
    log.place()
    return [
        Echoed.model_validate_json(e.data).n for e in log.read(0, limit=5000).entries if e.type == "Echoed"
    ]


def act(client, name, *rows, **more):
    return client.post(
        LIST, {"action": name, "_selected_action": [row.pk for row in rows], **more}, follow=True
    )


def said(answer):
    return " ".join(str(message) for message in answer.context["messages"])


def parked_ones():
    return Delivery.objects.exclude(parked_at=None).count()


# --- To see ------------------------------------------------------------------------------------


def test_the_list_shows_what_failed_to_what_why_and_when_next(admin, fail, append, broken):
    [row] = fail(1)
    broken.add(2)
    append(2, 3, channel="item:5")
    log.place()
    reactions.run()

    page = admin.get(LIST).content.decode()

    assert "test_parked_admin.broken" in page
    for shown in (str(row.position), "item:1", "item:5", "ValueError", "parked", "waiting", "never"):
        assert shown in page
    assert "waits behind an earlier one" in page
    assert "&lt;b&gt;1&lt;/b&gt;" in page
    assert "<b>1</b>" not in page
    only_parked = admin.get(LIST + "?state=parked").content.decode()
    assert "item:1" in only_parked
    assert "item:5" not in only_parked
    assert "item:1" not in admin.get(LIST + "?state=waiting").content.decode()
    assert admin.get(LIST + "?q=item:5").context["cl"].result_count == 2


def test_its_page_has_the_error_and_the_buttons(admin, fail):
    [row] = fail(1)
    page = admin.get(f"{LIST}{row.pk}/change/").content.decode()
    assert "is broken" in page
    assert f'href="{LIST}{row.pk}/retry/"' in page
    assert f'href="{LIST}{row.pk}/drop/"' in page


def test_nobody_adds_changes_or_deletes_past_the_buttons(admin, fail):
    [row] = fail(1)
    assert admin.get(LIST + "add/").status_code == 403
    assert admin.post(f"{LIST}{row.pk}/change/", {"tries": 0}).status_code == 403
    assert admin.post(f"{LIST}{row.pk}/delete/", {"post": "yes"}).status_code == 403
    act(admin, "delete_selected", row, post="yes")
    assert parked_ones() == 1


# --- To ask -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["retry", "drop"])
def test_it_is_asked_first(admin, fail, name):
    [row] = fail(1)
    before = Delivery.objects.values().get()

    from_list = act(admin, name, row)
    from_page = admin.get(f"{LIST}{row.pk}/{name}/")
    unsure = admin.post(f"{LIST}{row.pk}/{name}/")

    for asked in (from_list, from_page, unsure):
        assert asked.status_code == 200
        page = asked.content.decode()
        assert f"of position {row.position}" in page
        assert 'name="sure"' in page
        assert "csrfmiddlewaretoken" in page
    assert Delivery.objects.values().get() == before


@pytest.mark.parametrize("name", ["retry", "drop"])
def test_a_request_from_elsewhere_is_refused(admin, fail, name):
    [row] = fail(1)
    elsewhere = Client(enforce_csrf_checks=True)
    elsewhere.cookies = admin.cookies
    assert elsewhere.post(f"{LIST}{row.pk}/{name}/", {"sure": "yes"}).status_code == 403
    assert parked_ones() == 1


@pytest.mark.parametrize(
    ("permissions", "name", "allowed"),
    [
        (["view"], "retry", False),
        (["view"], "drop", False),
        (["view", "change"], "retry", True),
        (["view", "change"], "drop", False),
        (["view", "delete"], "drop", True),
        (["view", "delete"], "retry", False),
        ([], "retry", False),
    ],
)
@pytest.mark.parametrize("way", ["list", "page"])
def test_only_who_may(as_user, fail, permissions, name, allowed, way):
    [row] = fail(1)
    client = as_user(*permissions)

    if way == "list":
        answer = act(client, name, row, sure="yes")
    else:
        answer = client.post(f"{LIST}{row.pk}/{name}/", {"sure": "yes"}, follow=True)

    assert (parked_ones() == 0) == allowed
    assert answer.status_code == (200 if allowed or (way == "list" and permissions) else 403)
    if permissions:
        page = client.get(f"{LIST}{row.pk}/change/").content.decode() if not allowed else ""
        assert f"/{name}/" not in page


def test_nobody_without_a_login(fail):
    [row] = fail(1)
    assert Client().post(f"{LIST}{row.pk}/drop/", {"sure": "yes"}).status_code == 302
    assert parked_ones() == 1


# --- To do ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["list", "page"])
def test_retry_runs_it_again_with_all_its_tries(admin, fail, broken, way):
    [row] = fail(1)
    broken.clear()

    if way == "list":
        answer = act(admin, "retry", row, sure="yes")
    else:
        answer = admin.post(f"{LIST}{row.pk}/retry/", {"sure": "yes"}, follow=True)

    assert "1 of 1" in said(answer)
    again = Delivery.objects.get()
    assert (again.parked_at, again.tries) == (None, 0)
    assert again.due_at <= timezone.now()
    reactions.run()
    assert echoes() == [1]
    assert not Delivery.objects.exists()


def test_retry_of_one_that_still_fails_parks_it_again_with_the_new_error(admin, fail):
    [row] = fail(1)
    Delivery.objects.update(error="old")
    act(admin, "retry", row, sure="yes")
    for _ in range(3):
        reactions.run()
        due()
    again = Delivery.objects.get()
    assert again.parked_at is not None
    assert "is broken" in again.error


def test_retry_of_a_waiting_one_is_now_and_keeps_its_tries(admin, broken, append):
    broken.add(1)
    append(1)
    log.place()
    reactions.run()
    Delivery.objects.update(due_at=timezone.now() + LATER)
    row = Delivery.objects.get()
    broken.clear()

    act(admin, "retry", row, sure="yes")
    assert Delivery.objects.get().tries == 1
    reactions.run()

    assert echoes() == [1]


def test_several_of_a_subject_are_retried_in_their_order(admin, fail, broken):
    rows = fail(1, 2, 3)
    broken.clear()
    act(admin, "retry", *reversed(rows), sure="yes")
    reactions.run()
    assert echoes() == [1, 2, 3]


def test_new_events_of_the_subject_wait_for_one_that_is_retried(admin, fail, broken, append):
    [row] = fail(1)
    act(admin, "retry", row, sure="yes")
    append(2)
    append(3, channel="item:9")
    log.place()
    reactions.run()
    assert echoes() == [3], "it fails again, and what is behind it waits"

    broken.clear()
    due()
    reactions.run()
    assert echoes() == [3, 1, 2]


def test_drop_lets_it_go_for_good_and_its_subject_on(admin, broken, append):
    broken.add(1)
    append(1, 2)
    log.place()
    reactions.run()
    Delivery.objects.update(due_at=timezone.now() + LATER)
    first, second = Delivery.objects.order_by("position")

    answer = act(admin, "drop", first, sure="yes")

    assert "Dropped. 1 of 1" in said(answer)
    assert list(Delivery.objects.all()) == [second]
    due()
    reactions.run()
    assert echoes() == [2]
    assert not Delivery.objects.exists()


def test_what_was_done_is_in_the_admins_history(admin, fail):
    first, second = fail(1, 2)
    act(admin, "retry", first, sure="yes")
    act(admin, "drop", second, sure="yes")
    entries = LogEntry.objects.order_by("pk")
    assert [(e.object_id, e.get_change_message()) for e in entries] == [
        (str(first.pk), "Told to run again."),
        (str(second.pk), "Dropped."),
    ]
    assert entries[1].action_flag == DELETION
    assert str(second.position) in entries[1].object_repr


def test_one_that_is_no_longer_there_is_said_so(admin, fail):
    [row] = fail(1)
    Delivery.objects.all().delete()
    answer = admin.post(f"{LIST}{row.pk}/retry/", {"sure": "yes"}, follow=True)
    assert "no longer there" in said(answer)
    assert admin.get(f"{LIST}abc/drop/", follow=True).status_code == 200


def test_retry_wakes_the_workers(admin, fail, monkeypatch):
    woken = []
    monkeypatch.setattr(wake.Waker, "wake", lambda self, task: woken.append(task))
    [row] = fail(1)
    woken.clear()
    act(admin, "retry", row, sure="yes")
    assert woken == [wake.REACT]


# --- Beside the workers ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["retry", "drop"])
def test_one_that_is_being_tried_is_left_alone(admin, broken, append, in_thread, name, monkeypatch):
    trying, go_on = threading.Event(), threading.Event()
    broken.add(1)
    append(1)
    log.place()
    reactions.run()
    due()
    row = Delivery.objects.get()
    attempt = reactions._attempt

    def slowly(each, entry):
        trying.set()
        assert go_on.wait(20)
        attempt(each, entry)

    monkeypatch.setattr(reactions, "_attempt", slowly)
    broken.clear()
    thread = in_thread(reactions.run)
    assert trying.wait(10)
    try:
        answer = act(admin, name, row, sure="yes")
    finally:
        go_on.set()
        thread.join(20)

    assert "1 left alone" in said(answer)
    assert echoes() == [1]
    assert not Delivery.objects.exists()


def test_many_clicks_and_many_workers_make_one_effect(admin, fail, broken, in_thread):
    rows = fail(1, 2, 3, 4)
    broken.clear()
    barrier = threading.Barrier(6)

    def click():
        barrier.wait(10)
        parked.retry([row.pk for row in rows])

    def work():
        barrier.wait(10)
        for _ in range(20):
            reactions.run()

    threads = [in_thread(click) for _ in range(3)] + [in_thread(work) for _ in range(3)]
    for thread in threads:
        thread.join(30)
    parked.retry([row.pk for row in rows])
    reactions.run()

    assert echoes() == [1, 2, 3, 4]
    assert not Delivery.objects.exists()


def test_retry_waits_for_the_reactions_turn_and_not_for_ever(admin, fail, monkeypatch):
    monkeypatch.setattr(parked, "TURN_SECONDS", 0.2)
    [row] = fail(1)
    with psycopg.connect(django_settings.DATABASE_URL) as other:
        other.execute("SELECT FROM workers_checkpoint FOR UPDATE")
        answer = act(admin, "retry", row, sure="yes")
        assert "1 left alone" in said(answer)
        assert parked_ones() == 1
    act(admin, "retry", row, sure="yes")
    assert parked_ones() == 0


def test_one_that_is_retried_in_the_middle_of_a_batch_goes_before_the_next(
    fail, broken, append, in_thread, monkeypatch
):
    """The batch under way does not know that it waits: so it is not given back before that has ended."""
    [row] = fail(1)
    broken.clear()
    reading, go_on = threading.Event(), threading.Event()
    waiting = reactions._waiting

    def slowly():
        found = waiting()
        reading.set()
        assert go_on.wait(20)
        return found

    monkeypatch.setattr(reactions, "_waiting", slowly)
    append(2)
    log.place()
    batch = in_thread(reactions._react_to_new)
    assert reading.wait(10)
    clicking = in_thread(lambda: parked.retry([row.pk]))
    with psycopg.connect(django_settings.DATABASE_URL, autocommit=True) as watcher:
        query = (
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        eventually(lambda: watcher.execute(query).fetchone()[0])
    assert parked_ones() == 1
    go_on.set()
    batch.join(20)
    clicking.join(20)
    reactions.run()

    assert echoes() == [2, 1]


# --- What retention may not take -------------------------------------------------------------------


def test_the_log_keeps_what_no_reaction_has_read_and_what_waits(broken, append, start):
    append(1)
    log.place()
    assert parked.read_to() == Checkpoint.objects.get().position
    assert retention.horizon(timedelta(0)).upto == parked.read_to()

    broken.update([1, 2])
    append(2, channel="item:9")
    log.place()
    reactions.run()
    assert Delivery.objects.filter(parked_at=None).count() == 2
    assert parked.read_to() == Delivery.objects.order_by("position")[0].position - 1
    assert retention.horizon(timedelta(0)).held


def test_what_is_parked_does_not_hold_the_log_and_goes_with_it(fail):
    [row] = fail(1)
    end = retention.horizon(timedelta(0))
    assert not end.held
    log.prune(row.position - 1)
    retention.keep(None, seconds=1)
    assert Delivery.objects.exists(), "its event is there"

    log.prune(row.position)
    retention.keep(None, seconds=1)
    assert not Delivery.objects.exists()


def test_without_reactions_nothing_is_held(database, monkeypatch):
    monkeypatch.setattr(reactions, "_reactions", {})
    assert parked.read_to() is None


def test_erasing_somebody_leaves_only_the_kind_of_a_failure(fail, users):
    from events import erasure

    fail(1)
    erasure.erase_user(users.bob, by="test")
    assert Delivery.objects.get().error == "ValueError"


def test_the_wait_between_tries_is_jittered():
    waits = [(reactions._due(3) - timezone.now()).total_seconds() for _ in range(400)]
    assert min(waits) < 2.4, "half of four seconds"
    assert max(waits) > 5.6, "one and a half times four"
    quarters = [sum(2 + n <= wait < 3 + n for wait in waits) for n in range(4)]
    assert all(count > 50 for count in quarters), quarters


def test_the_lists_query_is_bounded(admin, fail, django_assert_max_num_queries):
    fail(1, 2, 3)
    with django_assert_max_num_queries(12):
        admin.get(LIST)
    connection.close()
