"""`manage.py demo`: the users, items and comments of the demo, made once.

Their passwords are known to everyone, so it refuses outside demo mode.
"""

from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AbstractBaseUser
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from events import comments, items

USERS = ("alice", "bob", "carol")
STAFF = "admin"

# Who said what about which item, and whose item it is; "members" are those who may read it.
ITEMS: tuple[dict[str, Any], ...] = (
    {
        "title": "Autumn menu",
        "owner": "alice",
        "comments": (
            ("alice", "Here is the draft for October. Pumpkin is in, the salmon is out."),
            ("bob", "The bakery can do the rye rolls from the 3rd on. Shall I order?"),
            ("carol", "Please do. And could the soup come without cream? Three guests asked last week."),
            ("alice", "Good point, Carol: coconut milk it is."),
        ),
    },
    {
        "title": "Van is making a noise",
        "owner": "bob",
        "comments": (
            (
                "bob",
                "It started on the bridge this morning. Only when turning left, sounds like a wheel bearing.",
            ),
            ("carol", "Garage has a slot on Thursday at 8:00, I have put us down for it."),
        ),
    },
    {
        "title": "Opening hours over the holidays",
        "owner": "carol",
        "comments": (("admin", "Whatever you decide: the website needs to know a week before."),),
    },
    {
        "title": "Surprise for Carol's tenth year with us",
        "owner": "alice",
        "members": ("bob",),
        "comments": (
            ("alice", "Only you and I can see this one. Cake, or a weekend by the sea?"),
            ("bob", "Why not both 🎂🌊"),
        ),
    },
)


class Command(BaseCommand):
    """Make the demo users and what they talk about."""

    help = "Make the demo users (password demo-<name>), items and comments; what is there is left alone."

    def handle(self, **_options: Any) -> None:
        """Refuse outside demo mode, else fill the database."""
        if settings.MODE != "demo":
            raise CommandError(f"The demo's passwords are public: not in {settings.MODE} mode.")
        fill()


@transaction.atomic
def fill() -> None:
    """Make what is missing of the users; items and comments only together with their first owner."""
    known = get_user_model()._default_manager.in_bulk([*USERS, STAFF], field_name="username")
    users = {name: known.get(name) or _user(name) for name in (*USERS, STAFF)}
    if USERS[0] not in known:
        for item in ITEMS:
            _item(item, users)


def _user(name: str) -> AbstractBaseUser:
    user = get_user_model()(username=name, is_staff=name == STAFF, is_superuser=name == STAFF)
    user.set_password(f"demo-{name}")
    user.save()
    return user


def _item(item: dict[str, Any], users: dict[str, AbstractBaseUser]) -> None:
    owner = users[item["owner"]]
    members = item.get("members", ())
    visibility = items.Visibility.MEMBERS if members else items.Visibility.PUBLIC
    made = items.create_item(owner, title=item["title"], visibility=visibility)
    for name in members:
        items.add_member(owner, made.pk, member_id=users[name].pk)
    for name, text in item["comments"]:
        comments.add_comment(users[name], made.pk, text=text)
