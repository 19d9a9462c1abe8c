"""`manage.py broadcast`: say something to many, from a terminal or a script."""

from argparse import SUPPRESS, ArgumentParser, ArgumentTypeError
from datetime import datetime
from typing import Any
from uuid import UUID

from django.contrib.auth import get_user_model
from django.contrib.auth.models import AbstractBaseUser
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from events import audiences, broadcasts, edge, marks, terminal
from events.channels import SYSTEM, item_channel, parse, user_channel
from events.drafts import Draft
from events.errors import ChannelMalformed, TickertapeError
from events.models import Broadcast

SAID = ("message", "severity", "title", "link", "starts_at", "expires_at")  # of a draft, besides its audience
PAGE = 200  # broadcasts whose figures are asked for at once


class Command(BaseCommand):
    """Send, change, list and recall broadcasts; the same rules as in the API, and the same record of it."""

    help = "Send a broadcast to an audience, --edit one, --recall one, --estimate an audience, or --list all."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the arguments. What is not given is not there: an edit leaves it as it was."""
        parser.add_argument("message", nargs="?", default=SUPPRESS, help="what to say")
        parser.add_argument("--as", dest="sender", metavar="USER", required=True, help="who says it, by name")
        whom = parser.add_argument_group("audience (one kind)")
        whom.add_argument("--all", action="store_true", help="everyone")
        whom.add_argument("--group", action="append", default=[], metavar="NAME", help="a group (repeat it)")
        whom.add_argument("--user", action="append", default=[], metavar="NAME", help="a user (repeat it)")
        whom.add_argument("--item", type=_item, metavar="ID", help="whoever watches an item")
        said = parser.add_argument_group("what else it says")
        said.add_argument("--severity", default=SUPPRESS, choices=["info", "warning", "critical"])
        said.add_argument("--title", default=SUPPRESS, help='"" for none')
        said.add_argument("--link", default=SUPPRESS, help='https://…; "" for none')
        for name, none in (("starts", "now"), ("expires", "never")):
            said.add_argument(
                f"--{name}",
                dest=f"{name}_at",
                type=_moment,
                default=SUPPRESS,
                metavar="TIME",
                help=f"ISO 8601, or {none}, as without it",
            )
        other = parser.add_argument_group("instead of sending").add_mutually_exclusive_group()
        other.add_argument("--edit", type=UUID, metavar="ID", help="change what is given of a broadcast")
        other.add_argument("--recall", type=UUID, metavar="ID", help="take a broadcast back")
        other.add_argument("--estimate", action="store_true", help="say how many an audience has")
        other.add_argument("--list", action="store_true", help="show all, newest first")

    def handle(self, *args: Any, **options: Any) -> None:
        """Do what was asked."""
        other = next((name for name in ("edit", "recall", "estimate", "list") if options[name]), "send")
        if ("message" in options) != (other == "send") and other != "edit":
            raise CommandError("Give a message to send, or --edit ID, --recall ID, --estimate or --list.")
        try:
            sender = _user(options["sender"])
            with terminal.printing():
                getattr(self, f"_{other}")(sender, options)
        except TickertapeError as error:
            raise terminal.refused(error) from None
        except UnicodeError:
            raise CommandError("A name that was given is not UTF-8.") from None

    def _send(self, sender: AbstractBaseUser, options: dict[str, Any]) -> None:
        broadcast = broadcasts.send(sender, Draft(audience=_audience(options), **_said(options)))
        self._say(broadcast)

    def _edit(self, sender: AbstractBaseUser, options: dict[str, Any]) -> None:
        audience = _audience(options)
        changes = {**_said(options), **({"audience": audience} if audience else {})}
        if not changes:
            raise CommandError("Say what to change: a message, an audience, --title, --expires, …")
        self._say(broadcasts.change(sender, options["edit"], **changes))

    def _recall(self, sender: AbstractBaseUser, options: dict[str, Any]) -> None:
        broadcasts.recall(sender, options["recall"])
        self.stdout.write(f"Recalled {options['recall']}.")

    def _estimate(self, sender: AbstractBaseUser, options: dict[str, Any]) -> None:
        self.stdout.write(str(broadcasts.estimate(sender, _audience(options))))

    def _list(self, sender: AbstractBaseUser, options: dict[str, Any]) -> None:
        rows = list(broadcasts.listed(sender))
        for first in range(0, len(rows), PAGE):
            some = rows[first : first + PAGE]
            ids = [broadcast.pk for broadcast in some]
            delivered, dismissed = edge.delivered(ids), marks.dismissals(ids)
            for broadcast in some:
                handed = "?" if delivered is None else delivered[broadcast.pk]
                text = terminal.shown((broadcast.title or broadcast.message).splitlines()[0][:60])
                self.stdout.write(
                    f"{broadcast.pk}  {broadcasts.state(broadcast):<9}  {broadcast.severity:<8}"
                    f"  {broadcast.starts_at:%Y-%m-%d %H:%M}"
                    f"  {handed} delivered, {dismissed[broadcast.pk]} dismissed  {text}"
                )

    def _say(self, broadcast: Broadcast) -> None:
        reach = audiences.reach(broadcast.audience)
        self.stdout.write(f"{broadcast.pk} is {broadcasts.state(broadcast)}, for {reach} users.")


def _said(options: dict[str, Any]) -> dict[str, Any]:
    """Return what was given of a draft."""
    given = {name: options[name] for name in SAID if name in options}
    return {**given, **({"link": given["link"] or None} if "link" in given else {})}


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


def _moment(text: str) -> datetime | None:
    if text in ("now", "never"):
        return None
    try:
        moment = datetime.fromisoformat(text).replace(microsecond=0)
    except ValueError:
        raise ArgumentTypeError("a time is ISO 8601, as 2030-01-31T12:00Z") from None
    return moment if moment.tzinfo else timezone.make_aware(moment)
