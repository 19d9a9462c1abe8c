"""Logging in by name and password, whatever asks for it: who guesses is refused for a while.

Counted are failures, by address and by name. A name is counted wherever it is tried from, so
somebody who guesses at a name all the time keeps its user from logging in: the other way round they
would, sooner or later, be that user.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from threading import BoundedSemaphore
from typing import Any

from django.conf import settings
from django.contrib.admin.forms import AdminAuthenticationForm
from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import connection
from django.http import HttpRequest

from events import limits
from events.errors import RateLimited, Unavailable
from events.peer import address

AT_ONCE = os.cpu_count() or 1  # checking a password is all work: more at once would only be later
_turns = BoundedSemaphore(AT_ONCE)


class Backend(ModelBackend):
    """Django's own, for who has not failed too often."""

    def authenticate(
        self,
        request: HttpRequest | None,
        username: str | None = None,
        password: str | None = None,
        **more: Any,
    ) -> User | None:
        """Return the user that name and password are of, or None; raise RateLimited or Unavailable."""
        if request is None or username is None:  # nobody at a distance
            return super().authenticate(request, username, password, **more)
        most = settings.EVENTS_LOGINS_PER_MINUTE
        subjects = [f"name:{sha256(username.encode()).hexdigest()[:32]}", f"address:{address(request)}"]
        limits.check(subjects, per_minute=most)  # who is refused anyway need not wait
        # In turns: of guesses that all came at once, no more than these would be unknown to the check.
        with _turn():
            limits.check(subjects, per_minute=most)
            user = super().authenticate(request, username, password, **more)
            if user is None:
                limits.charge(subjects, per_minute=most)
        return user


@contextmanager
def _turn() -> Iterator[None]:
    """Wait for a turn no longer than a database that hangs lets somebody have one."""
    if not _turns.acquire(blocking=False):
        if not connection.in_atomic_block:
            connection.close()  # back to its pool: who only waits must not keep it from others
        if not _turns.acquire(timeout=settings.DATABASE_CONNECT_SECONDS + settings.DATABASE_ANSWER_SECONDS):
            raise Unavailable("Too many are logging in; try again soon.")
    try:
        yield
    finally:
        _turns.release()


class LoginForm(AdminAuthenticationForm):
    """The admin's, which says so where somebody failed too often, or too many come at once."""

    def clean(self) -> dict[str, Any]:
        """Log in; raise ValidationError."""
        try:
            return super().clean()
        except (RateLimited, Unavailable) as refusal:
            raise ValidationError(refusal.detail, code=refusal.code) from None
