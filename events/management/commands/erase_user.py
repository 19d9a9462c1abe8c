"""`manage.py erase_user`: overwrite what a person wrote and is called by, everywhere, for good."""

import getpass
import re
import time
from argparse import ArgumentParser
from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.models import AbstractBaseUser
from django.core.management.base import BaseCommand, CommandError

from events import erasure, items

SAY_SECONDS = 1.0  # between two lines of progress
_ID = re.compile(r"[1-9][0-9]{0,17}")


class Command(BaseCommand):
    """Erase a user."""

    help = (
        "Erase a user: end their sessions, close and anonymise the account, and overwrite their texts, titles"
        " and names in the log, in all tables and in the memory of the running service. Positions and others'"
        " texts stay. Cannot be undone; can be run again."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Take whom, and what of theirs is to live on."""
        parser.add_argument("user", help="username, or id")
        parser.add_argument("--id", action="store_true", help="take the user for an id, whoever is called so")
        parser.add_argument(
            "--items-to", metavar="USERNAME", help="give their items, titles and all, to another"
        )
        parser.add_argument("--by", metavar="USERNAME", help="who erases; else the system's user")
        parser.add_argument("--yes", action="store_true", help="do not ask")
        parser.add_argument(
            "--no-vacuum", action="store_true", help="leave the rows' old versions to autovacuum"
        )

    def handle(self, **options: Any) -> None:
        """Erase, saying how far it is."""
        user = _find(options["user"], by_id=options["id"])
        heir = _named(options["items_to"], "--items-to") if options["items_to"] else None
        by = _named(options["by"], "--by") if options["by"] else None
        if heir == user:
            raise CommandError("--items-to must name another user.", returncode=2)
        owned = items.owned_by(user.pk)
        if not options["yes"]:
            self._confirm(user, owned=len(owned), heir=heir)
        for item_id in owned if heir else ():
            items.change_item(user, item_id, owner_id=heir.pk)  # type: ignore[union-attr]
        name = by.get_username() if by else f"{getpass.getuser()} (console)"
        erased = erasure.erase_user(
            user, by=name, actor_id=by.pk if by else None, progress=_Progress(self).tell
        )
        self._report(user, erased)
        if not options["no_vacuum"]:
            erasure.vacuum()
        if not erased.whole:
            raise CommandError(f"Something was still being written: run this again, with --id {user.pk}.")

    def _confirm(self, user: AbstractBaseUser, *, owned: int, heir: AbstractBaseUser | None) -> None:
        name = user.get_username()
        fate = f"go to {heir.get_username()}" if heir else "stay, without their titles"
        self.stdout.write(
            f"Erase {name} (id {user.pk}): the account, the texts, the name. Their {owned} items {fate}."
            " This cannot be undone."
        )
        try:
            answer = input("Type the username to go on: ")
        except EOFError:
            answer = ""
        if answer != name:
            raise CommandError("Not confirmed; nothing was erased.")

    def _report(self, user: AbstractBaseUser, erased: erasure.Erased) -> None:
        rows = ", ".join(f"{count} {name}" for name, count in erased.rows.items())
        self.stdout.write(f"Erased user {user.pk}: {erased.events} events; {rows}.")


class _Progress:
    """Says now and then how far it is."""

    def __init__(self, command: BaseCommand) -> None:
        self._command = command
        self._said = time.monotonic()

    def tell(self, position: int, head: int) -> None:
        if time.monotonic() - self._said > SAY_SECONDS:
            self._said = time.monotonic()
            self._command.stdout.write(f"Looked at {position} of {head} ...")
            self._command.stdout.flush()


def _find(given: str, *, by_id: bool) -> AbstractBaseUser:
    users = get_user_model()._default_manager
    named = None if by_id else users.filter(**{get_user_model().USERNAME_FIELD: given}).first()
    numbered = users.filter(pk=int(given)).first() if _ID.fullmatch(given) else None
    if named and numbered and named != numbered:
        raise CommandError(
            f"{given!r} is one user's name and another's id: add --id for the latter.", returncode=2
        )
    found = named or numbered
    if found is None:
        raise CommandError(f"There is no user {given!r}.")
    return found


def _named(name: str, option: str) -> AbstractBaseUser:
    active = get_user_model()._default_manager.filter(is_active=True)
    user = active.filter(**{get_user_model().USERNAME_FIELD: name}).first()
    if user is None:
        raise CommandError(f"{option}: there is no active user {name!r}.", returncode=2)
    return user
