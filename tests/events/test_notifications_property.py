"""The inbox is what its events say: thousands of random acts, folded as a client folds them."""

import random
import threading
from contextlib import suppress

import pytest

from events import comments, items, log, notifications, preferences, watching
from events.cursor import Cursor
from events.errors import Invalid
from events.models import Comment, Notification
from tests.events.support import types_on, until_someone_waits
from tests.inbox import fold, react, shown, stream_of
from workers import reactions

ACTS = 2_000
ALL = {"NotificationRaised", "NotificationsRead", "NotificationUnread", "NotificationArchived"}
CALM = (  # each as often as it stands here
    ["comment"] * 8 + ["react"] * 4 + ["read"] * 4 + ["unread"] * 2 + ["archive"] * 3
    + ["read_all", "see", "see", "watch", "unwatch", "mute", "unmute", "choose"]
)  # fmt: skip


class Life:
    """People who comment, and look at what they are told, at random but from a seed."""

    def __init__(self, users, seed):
        self.chance = random.Random(seed)
        self.people = [users.alice, users.bob, users.carol]
        self.items = [items.create_item(self.chance.choice(self.people), title=f"Item {n}") for n in range(4)]

    def act(self, acts=CALM):
        who, item = self.chance.choice(self.people), self.chance.choice(self.items)
        match self.chance.choice(acts):
            case "comment":
                self._comment(who, item)
            case "react":
                log.place()
                reactions.run()
            case "read" | "unread" | "archive" as how:
                self._mark(who, how)
            case "read_all":
                notifications.read_all(who)
            case "see":
                notifications.see_item(who, item.pk)
            case "choose":
                way = self.chance.choice(["live", "live", "digest", "off"])
                preferences.change(who, types={self.chance.choice(["comment", "watch", "mention"]): way})
            case decision:
                getattr(watching, decision)(who, item.pk)

    def _comment(self, who, item):
        named = self.chance.choice(["", "", "@alice ", "@bob @carol "])
        answered = Comment.objects.filter(item_id=item.pk).order_by("-event_id").values_list("pk", flat=True)
        to = answered.first() if self.chance.random() < 0.3 else None
        with suppress(Invalid):  # what it answers may be gone by now
            comments.add_comment(who, item.pk, text=f"{named}hello", reply_to=to)

    def _mark(self, who, how):
        theirs = Notification.objects.filter(user_id=who.pk).values_list("pk", flat=True)
        if found := list(theirs):
            verb = {"read": "mark_read", "unread": "mark_unread", "archive": "archive"}[how]
            getattr(notifications, verb)(who, self.chance.choice(found))


def listed(client, query=""):
    """Return the whole list, page by page, and the cursor of its last page."""
    rows, after, cursor = [], "", ""
    while after is not None:
        answer = client.get(f"/api/notifications?limit=200{query}{after and f'&after={after}'}").json()
        rows, after, cursor = rows + answer["results"], answer["next"], answer["cursor"]
    return rows, Cursor.parse(cursor)


def assert_as_folded(api, user):
    client, folded = api(user.username), fold(stream_of(user))
    for query, wanted in (
        ("", [row for row in folded if not row["archived"]]),
        ("&archived=true", [row for row in folded if row["archived"]]),
        ("&unread=true", [row for row in folded if not row["read"]]),
    ):
        assert list(map(shown, listed(client, query)[0])) == list(map(shown, wanted))
    unread = client.get("/api/notifications/count").json()["unread"]
    assert unread == sum(not row["read"] for row in folded)


@pytest.mark.timeout(300)  # it is long, and this is no test of how long
def test_after_thousands_of_acts_the_stream_folds_to_what_the_api_says(users, api):
    life = Life(users, seed=1)
    for act in range(ACTS):
        life.act()
        if act % 500 == 499:
            for user in life.people:
                assert_as_folded(api, user)
    react()

    for user in life.people:
        assert_as_folded(api, user)
        happened = types_on(f"user:{user.pk}")
        assert {
            "NotificationRaised",
            "NotificationsRead",
            "NotificationUnread",
            "NotificationArchived",
        } <= set(happened), "a life in which too little happens proves nothing"


def test_many_who_act_at_once_and_who_looks_meanwhile(users, api, background):
    """Devices and workers at once; and each answer on the way is what the stream folds to at its cursor."""
    together, looked = threading.Barrier(4), []

    def live(seed):
        life = Life(users, seed)
        together.wait(20)
        for _ in range(150):
            life.act([*CALM, "read_all", "react"])

    def look():
        client = api("alice")
        together.wait(20)
        looked.extend(listed(client) for _ in range(40))

    running = [background(lambda seed=seed: live(seed)) for seed in (11, 12, 13)]
    running.append(background(look))
    for each in running:
        each.result(100)
    react()

    for user in (users.alice, users.bob, users.carol):
        assert_as_folded(api, user)
    for rows, cursor in looked:
        then = [row for row in fold(stream_of(users.alice, upto=cursor.position)) if not row["archived"]]
        assert list(map(shown, rows)) == list(map(shown, then))


@pytest.mark.parametrize("first", ["raise", "read-all"])
def test_a_raise_and_a_read_all_that_meet_take_turns(users, api, item, held, background, first):
    comments.add_comment(users.bob, item.pk, text="one")
    react()
    comments.add_comment(users.bob, item.pk, text="two")
    while log.place().count:
        pass
    acts = {"raise": reactions.run, "read-all": lambda: notifications.read_all(users.alice)}
    with held(acts.pop(first)):
        [other] = acts.values()
        waiting = background(other)
        until_someone_waits()
    waiting.result(20)

    assert_as_folded(api, users.alice)
    assert api("alice").get("/api/notifications/count").json()["unread"] == (0 if first == "raise" else 1)
