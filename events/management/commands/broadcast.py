"""`manage.py broadcast`: say something to many, from a terminal or a script."""

from argparse import ArgumentParser, ArgumentTypeError
from datetime import datetime
from typing import Any
from uuid import UUID

from django.contrib.auth import get_user_model
from django.contrib.auth.models import AbstractBaseUser
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from events import audiences, broadcasts
from events.channels import SYSTEM, item_channel, parse, user_channel
from events.drafts import Draft
from events.errors import ChannelMalformed, TickertapeError


class Command(BaseCommand):
    """Send, list and recall broadcasts; the same rules as in the API, and the same record of who did it."""

    help = "Send a broadcast to an audience, or --list them, or --recall one."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the arguments."""
        parser.add_argument("message", nargs="?", help="what to say")
        parser.add_argument("--as", dest="sender", metavar="USER", required=True, help="who says it, by name")
        whom = parser.add_argument_group("audience (one kind)")
        whom.add_argument("--all", action="store_true", help="everyone")
        whom.add_argument("--group", action="append", default=[], metavar="NAME", help="a group (repeat it)")
        whom.add_argument("--user", action="append", default=[], metavar="NAME", help="a user (repeat it)")
        whom.add_argument("--item", type=_item, metavar="ID", help="whoever watches an item")
        parser.add_argument("--severity", default="info", choices=["info", "warning", "critical"])
        parser.add_argument("--title", default="")
        parser.add_argument("--link", help="https://…")
        parser.add_argument("--starts", type=_moment, metavar="TIME", help="ISO 8601; without it, at once")
        parser.add_argument("--expires", type=_moment, metavar="TIME", help="ISO 8601; else when recalled")
        parser.add_argument("--recall", type=UUID, metavar="ID", help="take a broadcast back")
        parser.add_argument("--list", action="store_true", help="show all, newest first")

    def handle(self, *args: Any, **options: Any) -> None:
        """Do what was asked."""
        if [bool(options["message"]), options["list"], bool(options["recall"])].count(True) != 1:
            raise CommandError("Give a message to send, or --list, or --recall ID.")
        sender = _user(options["sender"])
        try:
            if options["list"]:
                self._list(sender)
            elif options["recall"]:
                broadcasts.recall(sender, options["recall"])
                self.stdout.write(f"Recalled {options['recall']}.")
            else:
                self._send(sender, options)
        except TickertapeError as error:
            faults = "".join(f"\n  {fault.field}: {fault.message}" for fault in error.errors)
            raise CommandError(f"{error.detail}{faults}") from None

    def _send(self, sender: AbstractBaseUser, options: dict[str, Any]) -> None:
        draft = Draft(
            message=options["message"],
            audience=_audience(options),
            severity=options["severity"],
            title=options["title"],
            link=options["link"],
            starts_at=options["starts"],
            expires_at=options["expires"],
        )
        broadcast = broadcasts.send(sender, draft)
        reach = audiences.reach(broadcast.audience)
        self.stdout.write(f"{broadcast.pk} is {broadcasts.state(broadcast)}, for {reach} users.")

    def _list(self, sender: AbstractBaseUser) -> None:
        for broadcast in broadcasts.listed(sender):
            text = (broadcast.title or broadcast.message).splitlines()[0][:60]
            self.stdout.write(
                f"{broadcast.pk}  {broadcasts.state(broadcast):<9}  {broadcast.severity:<8}"
                f"  {broadcast.starts_at:%Y-%m-%d %H:%M}  {text}"
            )


def _audience(options: dict[str, Any]) -> tuple[str, ...]:
    everyone = [SYSTEM] if options["all"] else []
    groups = [f"group:{name}" for name in options["group"]]
    users = [user_channel(_user(name).pk) for name in options["user"]]
    items = [item_channel(options["item"])] if options["item"] else []
    return (*everyone, *groups, *users, *items)


def _user(name: str) -> AbstractBaseUser:
    users = get_user_model()._default_manager
    user: AbstractBaseUser | None = users.filter(username=name, is_active=True).first()
    if user is None:
        raise CommandError(f"There is no active user {name}.")
    return user


def _item(text: str) -> str:
    try:
        parse(item_channel(text))
    except ChannelMalformed:
        raise ArgumentTypeError("an item's id is a number") from None
    return text


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text).replace(microsecond=0)
    return moment if moment.tzinfo else timezone.make_aware(moment)
