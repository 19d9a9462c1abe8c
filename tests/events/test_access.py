"""Access taken away is an event, in the transaction that takes it, whoever takes it and however."""

from datetime import timedelta
from importlib import import_module

import pytest
from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.contrib.sessions.models import Session
from django.db import connection, transaction
from django.test import Client
from django.utils import timezone

from events import access, log
from events.access import AccessChanged, session_digest
from tests.events.support import access_changes

User = get_user_model()


@pytest.fixture
def announced(database):
    """Count the hints that placing has work."""
    heard = []

    def hear(**kwargs):
        heard.append(1)

    log.appended.connect(hear)
    yield heard
    log.appended.disconnect(hear)


def ways_to_disable(user):
    user.is_active = False
    yield user.save
    yield lambda: user.save(update_fields=["is_active"])
    yield lambda: User.objects.filter(pk=user.pk).update(is_active=False)
    yield lambda: raw("UPDATE auth_user SET is_active = false WHERE id = %s", user.pk)


@pytest.mark.parametrize("way", range(4), ids=["save", "update_fields", "bulk", "sql"])
def test_a_disabled_user_is_sent_away(users, way):
    list(ways_to_disable(users.bob))[way]()

    assert access_changes() == [{"user_id": str(users.bob.pk), "reason": "user_disabled"}]


def test_a_deleted_user_is_sent_away(users):
    gone = str(users.bob.pk)
    users.bob.delete()

    assert access_changes() == [{"user_id": gone, "reason": "user_deleted"}]


def test_a_new_password_sends_away(users):
    users.bob.set_password("other")
    users.bob.save()

    assert access_changes() == [{"user_id": str(users.bob.pk), "reason": "password_changed"}]


def test_staff_rights_given_or_taken_send_away(users):
    User.objects.filter(pk=users.admin.pk).update(is_staff=False)

    assert access_changes() == [{"user_id": str(users.admin.pk), "reason": "staff_changed"}]


def test_what_is_no_matter_of_access_sends_nobody_away(users):
    users.bob.first_name = "Bob"
    users.bob.last_login = timezone.now()
    users.bob.save()
    User.objects.filter(pk=users.bob.pk).update(is_active=True)

    assert access_changes() == []


def ways_to_change_groups(user, group):
    yield lambda: user.groups.add(group), 1
    yield lambda: (user.groups.add(group), user.groups.remove(group)), 2
    yield lambda: (group.user_set.add(user), group.user_set.clear()), 2
    yield lambda: (user.groups.set([group]), group.delete()), 2


@pytest.mark.parametrize("way", range(4), ids=["added", "removed", "cleared", "group deleted"])
def test_another_membership_of_a_group_sends_away(users, way):
    change, times = list(ways_to_change_groups(users.bob, Group.objects.create(name="ops")))[way]
    change()

    assert access_changes() == [{"user_id": str(users.bob.pk), "reason": "groups_changed"}] * times


def test_a_renamed_group_sends_away_who_reads_it_by_its_old_name(users):
    group = Group.objects.create(name="ops")
    Group.objects.filter(pk=group.pk).update(name="operations")

    assert access_changes() == [{"channel": "group:ops", "reason": "group_renamed"}]


def test_a_logout_ends_the_streams_of_that_session_alone(users, api):
    client = api("bob")
    key = client.client.session.session_key
    other = api("bob").client.session.session_key
    assert client.delete("/api/session").status_code == 204

    assert access_changes() == [{"session": session_digest(key), "reason": "session_ended"}]
    assert session_digest(key) != session_digest(other)


def test_a_session_deleted_by_any_hand_ends_its_streams(users, api):
    key = api("bob").client.session.session_key
    Session.objects.filter(pk=key).delete()

    assert access_changes() == [{"session": session_digest(key), "reason": "session_ended"}]


@pytest.mark.parametrize(
    ("left", "told"),
    [(-1, ["session_cut_short"]), (24 * 3600, ["session_cut_short"]), (14 * 24 * 3600 - 30, []), (10**7, [])],
    ids=["to the past", "by days", "by what clocks differ", "longer"],
)
def test_a_session_cut_short_ends_its_streams(users, api, left, told):
    key = api("bob").client.session.session_key
    Session.objects.filter(pk=key).update(expire_date=timezone.now() + timedelta(seconds=left))

    assert [(change["session"], change["reason"]) for change in access_changes()] == [
        (session_digest(key), reason) for reason in told
    ]


def test_a_login_over_another_session_ends_that_one(users, api):
    client = api("bob")
    old = client.client.session.session_key
    assert client.log_in("bob").status_code == 200
    assert client.client.session.session_key != old

    assert {"session": session_digest(old), "reason": "session_ended"} in access_changes()


def test_another_user_logging_in_through_another_page_ends_the_old_session(users):
    client = Client()
    client.force_login(users.bob)
    old = client.session.session_key
    client.post("/admin/login/", {"username": "admin", "password": "demo-admin"})
    assert client.session.session_key != old

    assert {"session": session_digest(old), "reason": "session_ended"} in access_changes()


def test_a_clean_up_of_old_sessions_tells_nothing(users, api):
    key = api("bob").client.session.session_key
    Session.objects.filter(pk=key).update(expire_date=timezone.now() - timedelta(days=1))
    told = access_changes()
    import_module(settings.SESSION_ENGINE).SessionStore.clear_expired()

    assert not Session.objects.filter(pk=key).exists()
    assert access_changes() == told


def test_a_change_rolled_back_sends_nobody_away(users):
    with transaction.atomic():
        users.bob.is_active = False
        users.bob.save()
        transaction.set_rollback(True)

    assert access_changes() == []


def test_the_databases_events_are_read_as_the_declared_type(users):
    User.objects.filter(pk=users.bob.pk).update(is_active=False)
    Group.objects.create(name='o"ps')
    Group.objects.update(name="x")
    with transaction.atomic():
        access.access_changed("by hand", user_id=1, channel=None)

    log.place()
    entries = [entry for entry in log.read(0).entries if entry.type == AccessChanged.name()]
    events = [AccessChanged.model_validate_json(entry.data) for entry in entries]
    assert [event.reason for event in events] == ["user_disabled", "group_renamed", "by hand"]
    assert {entry.version for entry in entries} == {AccessChanged.version}
    assert events[1].channel == 'group:o"ps'


def test_the_log_never_holds_a_sessions_key(users, api):
    client = api("bob")
    key = client.client.session.session_key
    client.delete("/api/session")

    log.place()
    assert all(key not in entry.data for entry in log.read(0).entries)


@pytest.mark.parametrize(
    "change",
    [
        lambda users: users.bob.delete(),
        lambda users: setattr(users.bob, "is_active", False) or users.bob.save(),
        lambda users: users.bob.groups.add(Group.objects.create(name="ops")),
        lambda users: Session.objects.all()[0].delete(),
    ],
    ids=["deleted", "disabled", "group", "logout"],
)
def test_what_the_database_appends_is_announced(users, api, announced, change):
    api("bob")
    announced.clear()
    change(users)

    assert announced


def test_a_login_announces_nothing(users, api, announced):
    api("bob")

    assert not announced


def raw(statement, *parameters):
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
