"""The inbox is what its events say: thousands of random acts, folded as a client folds them."""

import random
import threading
import time
from contextlib import suppress
from datetime import timedelta

import pytest
from django.contrib.auth.models import Group
from django.utils import timezone

from events import broadcasts, comments, items, log, marks, notifications, preferences, watching
from events.broadcasts import BroadcastOver
from events.cursor import Cursor
from events.drafts import Draft
from events.errors import Invalid, NotFound
from events.models import Broadcast, Comment, Notification
from tests.events.support import types_on, until_someone_waits
from tests.inbox import fold, react, shown, stream_of
from workers import reactions

ACTS = 2_000
ALL = {"NotificationRaised", "NotificationsRead", "NotificationUnread", "NotificationArchived"}
CALM = (  # each as often as it stands here
    ["comment"] * 8 + ["react"] * 4 + ["read"] * 4 + ["unread"] * 2 + ["archive"] * 3
    + ["read_all", "see", "see", "watch", "unwatch", "mute", "unmute", "choose"]
)  # fmt: skip
LOUD = ["say"] * 2 + ["plan", "begin", "edit", "recall", "join", "dismiss"]


class Life:
    """People who comment, and look at what they are told, at random but from a seed."""

    def __init__(self, users, seed):
        self.chance = random.Random(seed)
        self.admin = users.admin
        self.people = [users.alice, users.bob, users.carol]
        self.groups = [Group.objects.get_or_create(name=name)[0] for name in ("crew", "guests")]
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
                kind = self.chance.choice(["comment", "watch", "mention", "broadcast"])
                preferences.change(who, types={kind: way})
            case "say" | "plan" | "begin" | "edit" | "recall" | "join" | "dismiss" as act:
                self._hear(act, who)
            case decision:
                getattr(watching, decision)(who, item.pk)

    def _comment(self, who, item):
        named = self.chance.choice(["", "", "@alice ", "@bob @carol "])
        answered = Comment.objects.filter(item_id=item.pk).order_by("-event_id").values_list("pk", flat=True)
        to = answered.first() if self.chance.random() < 0.3 else None
        with suppress(Invalid):  # what it answers may be gone by now
            comments.add_comment(who, item.pk, text=f"{named}hello", reply_to=to)

    def _mark(self, who, how):
        theirs = list(Notification.objects.filter(user_id=who.pk).values_list("pk", flat=True))
        theirs += list(broadcasts.meant_for(who).values_list("pk", flat=True)) * 3
        if theirs:
            verb = {"read": "mark_read", "unread": "mark_unread", "archive": "archive"}[how]
            with suppress(NotFound):  # a broadcast may be over by now
                getattr(notifications, verb)(who, self.chance.choice(theirs))

    def _hear(self, act, who):
        """Have an admin speak, or somebody hear of it."""
        said = list(broadcasts.unfinished().values_list("pk", flat=True))
        with suppress(BroadcastOver, NotFound):
            match act:
                case "say" | "plan":
                    broadcasts.send(self.admin, self._draft(planned=act == "plan"))
                case "begin":
                    for planned in Broadcast.objects.filter(alert_id=None, recalled_at=None)[:1]:
                        broadcasts.change(self.admin, planned.pk, starts_at=None)
                case "edit" if said:
                    severity = self.chance.choice(["info", "critical"])
                    pk = self.chance.choice(said)
                    broadcasts.change(self.admin, pk, severity=severity, title=str(self.chance.random()))
                case "recall" if len(said) > 4:
                    broadcasts.recall(self.admin, self.chance.choice(said))
                case "join":
                    group = self.chance.choice(self.groups)
                    self.chance.choice([who.groups.add, who.groups.remove])(group)
                case "dismiss" if said:
                    marks.dismiss(who, self.chance.choice(said))

    def _draft(self, *, planned):
        to = [("system",), ("group:crew",), ("group:crew", "group:guests"), (f"user:{self.people[0].pk}",)]
        now = timezone.now().replace(microsecond=0)
        return Draft(
            message=str(self.chance.random()),
            audience=self.chance.choice(to),
            severity=self.chance.choice(["info", "warning", "critical"]),
            link=self.chance.choice([None, "https://example.org/"]),
            starts_at=now + timedelta(hours=1) if planned else None,
            expires_at=self.chance.choice([None, now + timedelta(hours=2 if planned else 0, seconds=3)]),
        )


def listed(client, query=""):
    """Return the whole list, page by page, and the cursor of its last page."""
    rows, after, cursor = [], "", ""
    while after is not None:
        answer = client.get(f"/api/notifications?limit=200{query}{after and f'&after={after}'}").json()
        rows, after, cursor = rows + answer["results"], answer["next"], answer["cursor"]
    return rows, Cursor.parse(cursor)


def assert_as_folded(api, user):
    client, stream = api(user.username), stream_of(user)
    while True:  # what expires between the asking and the folding is neither's fault
        folded = fold(stream, at=time.time())
        found = [listed(client, query)[0] for query in ("", "&archived=true", "&unread=true")]
        unread = client.get("/api/notifications/count").json()["unread"]
        if fold(stream, at=time.time()) == folded:
            break
    wanted = [
        [row for row in folded if not row["archived"]],
        [row for row in folded if row["archived"]],
        [row for row in folded if not row["read"]],
    ]
    for rows, expected in zip(found, wanted, strict=True):
        assert list(map(shown, rows)) == list(map(shown, expected))
    assert unread == len(wanted[2])


@pytest.mark.timeout(300)  # it is long, and this is no test of how long
def test_after_thousands_of_acts_the_stream_folds_to_what_the_api_says(users, api):
    life = Life(users, seed=1)
    for act in range(ACTS):
        life.act([*CALM, *LOUD])
        if act % 500 == 499:
            for user in life.people:
                assert_as_folded(api, user)
    react()

    assert {"SystemAlert", "SystemAlertUpdated", "SystemAlertRecalled"} <= set(types_on("system"))
    for user in life.people:
        assert_as_folded(api, user)
        happened = types_on(f"user:{user.pk}")
        assert {
            "NotificationRaised",
            "NotificationsRead",
            "NotificationUnread",
            "NotificationArchived",
            "SystemAlertsRead",
            "SystemAlertUnread",
            "SystemAlertDismissed",
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
