"""Items: the rules of who may do what, and the events that tell of it."""

import pytest
from django.contrib.auth.models import AnonymousUser

from events import items
from events.channels import Channel, authorise
from events.errors import ChannelForbidden, ChannelUnknown, Invalid
from events.items import ItemForbidden, ItemUnknown, NotTheOwner, UserUnknown
from events.models import Item, ItemMember
from tests.events.support import access_changes, events_on, types_on, until_someone_waits


def test_creating_an_item_is_an_event(users):
    item = items.create_item(users.alice, title="Tickets")

    assert events_on(f"item:{item.pk}") == [
        (
            "ItemCreated",
            {
                "item_id": str(item.pk),
                "title": "Tickets",
                "owner_id": str(users.alice.pk),
                "visibility": "public",
                "timestamp": int(item.created_at.timestamp()),
            },
        )
    ]


@pytest.mark.parametrize("title", ["", "   ", "\t\n", "x" * 201, "a\x00b", "a\ud800"])
def test_a_title_that_cannot_be_shown_is_refused(users, title):
    with pytest.raises(Invalid) as refused:
        items.create_item(users.alice, title=title)

    assert {fault.field for fault in refused.value.errors} == {"title"}
    assert not Item.objects.exists()


def test_a_change_tells_all_properties(users, item):
    items.change_item(users.alice, item.pk, title="Seats")

    kind, data = events_on(f"item:{item.pk}")[-1]
    assert kind == "ItemChanged"
    assert data == {
        "item_id": str(item.pk),
        "title": "Seats",
        "owner_id": str(users.alice.pk),
        "visibility": "public",
    }


def test_a_change_of_nothing_is_no_event(users, item):
    items.change_item(users.alice, item.pk, title=item.title, visibility="public", owner_id=users.alice.pk)

    assert types_on(f"item:{item.pk}") == ["ItemCreated"]


@pytest.mark.parametrize("who", ["alice", "admin"])
def test_owner_and_staff_change_and_delete(users, item, who):
    items.change_item(getattr(users, who), item.pk, title="Seats")
    items.delete_item(getattr(users, who), item.pk)

    assert types_on(f"item:{item.pk}") == ["ItemCreated", "ItemChanged", "ItemDeleted"]
    assert not Item.objects.exists()


def test_nobody_else_changes_deletes_or_chooses_members(users, item):
    attempts = [
        lambda: items.change_item(users.bob, item.pk, title="Mine"),
        lambda: items.delete_item(users.bob, item.pk),
        lambda: items.add_member(users.bob, item.pk, member_id=users.bob.pk),
        lambda: items.remove_member(users.bob, item.pk, member_id=users.bob.pk),
    ]
    for attempt in attempts:
        with pytest.raises(NotTheOwner):
            attempt()

    assert types_on(f"item:{item.pk}") == ["ItemCreated"]


def test_members_only_is_read_by_owner_members_and_staff(users, secret):
    for reader in (users.alice, users.bob, users.admin):
        assert items.get_item(reader, secret.pk) == secret
        assert list(items.readable_by(reader)) == [secret]
    with pytest.raises(ItemForbidden):
        items.get_item(users.carol, secret.pk)
    assert not items.readable_by(users.carol).exists()


def test_a_stranger_may_not_even_try_to_change_what_they_cannot_read(users, secret):
    with pytest.raises(ItemForbidden):
        items.change_item(users.carol, secret.pk, title="Mine")


def test_the_channel_has_the_items_rule(users, item, secret):
    authorise(users.carol, [Channel(f"item:{item.pk}")])
    authorise(users.bob, [Channel(f"item:{secret.pk}")])
    with pytest.raises(ChannelForbidden):
        authorise(users.carol, [Channel(f"item:{secret.pk}")])
    with pytest.raises(ChannelUnknown):
        authorise(users.carol, [Channel("item:999999")])


def test_a_member_removed_is_told_and_sent_away(users, secret):
    items.remove_member(users.alice, secret.pk, member_id=users.bob.pk)

    told = {"item_id": str(secret.pk), "user_id": str(users.bob.pk)}
    assert events_on(f"user:{users.bob.pk}") == [("MemberAdded", told), ("MemberRemoved", told)]
    assert access_changes() == [
        {"reason": "member_removed", "user_id": str(users.bob.pk), "channel": f"item:{secret.pk}"}
    ]


def test_adding_and_removing_twice_is_as_once(users, secret):
    items.add_member(users.alice, secret.pk, member_id=users.bob.pk)
    items.remove_member(users.alice, secret.pk, member_id=users.bob.pk)
    items.remove_member(users.alice, secret.pk, member_id=users.bob.pk)

    assert types_on(f"item:{secret.pk}") == ["ItemCreated", "MemberAdded", "MemberRemoved"]
    assert not ItemMember.objects.exists()


def test_a_membership_needs_an_active_user(users, secret):
    users.carol.is_active = False
    users.carol.save()
    for nobody in (users.carol.pk, 999_999):
        with pytest.raises(UserUnknown):
            items.add_member(users.alice, secret.pk, member_id=nobody)


def test_becoming_members_only_sends_all_away_before_it_tells(users, item):
    items.change_item(users.alice, item.pk, visibility="members", title="Hidden now")

    everything = [name for name, _ in events_on("internal:access") + events_on(f"item:{item.pk}")]
    assert sorted(everything) == ["AccessChanged", "ItemChanged", "ItemCreated"]
    assert access_changes() == [{"reason": "visibility_changed", "channel": f"item:{item.pk}"}]
    assert _positions("AccessChanged") < _positions("ItemChanged")


def test_a_deleted_item_tells_before_it_sends_away(users, item):
    items.delete_item(users.alice, item.pk)

    assert access_changes() == [{"reason": "item_deleted", "channel": f"item:{item.pk}"}]
    assert _positions("ItemDeleted") < _positions("AccessChanged")


def test_becoming_public_sends_nobody_away(users, secret):
    items.change_item(users.alice, secret.pk, visibility="public")

    assert access_changes() == []


def test_a_new_owner_takes_over_and_the_old_one_is_sent_away(users, secret):
    items.change_item(users.alice, secret.pk, owner_id=users.carol.pk)

    assert items.get_item(users.carol, secret.pk).owner_id == users.carol.pk
    assert access_changes() == [
        {"reason": "owner_changed", "user_id": str(users.alice.pk), "channel": f"item:{secret.pk}"}
    ]
    with pytest.raises(Invalid):
        items.change_item(users.carol, secret.pk, owner_id=999_999)


def test_an_unknown_item_is_unknown_to_every_verb(users):
    for attempt in (
        lambda: items.get_item(users.admin, 2**63),
        lambda: items.change_item(users.admin, 7, title="x"),
        lambda: items.delete_item(users.admin, 7),
    ):
        with pytest.raises(ItemUnknown):
            attempt()


def test_changes_of_one_item_take_turns(users, item, held, background):
    with held(lambda: items.change_item(users.alice, item.pk, title="First")):
        second = background(lambda: items.change_item(users.admin, item.pk, title="Second"))
        until_someone_waits()
    second.result(20)

    assert Item.objects.get().title == "Second"
    assert [data["title"] for _, data in events_on(f"item:{item.pk}")] == ["Tickets", "First", "Second"]


def test_who_is_not_logged_in_reads_nothing_of_members(users, secret):
    assert not items.may_read(AnonymousUser(), secret)


def _positions(kind: str) -> int:
    from events import log

    return next(entry.position for entry in log.read(0).entries if entry.type == kind)
