"""Who reads, and whether they may: a session's user, asked in a thread with the ORM."""

from collections.abc import Callable, Sequence

from asgiref.sync import sync_to_async
from django.contrib.auth import get_user
from django.contrib.auth.models import AbstractBaseUser
from django.contrib.sessions.backends.db import SessionStore
from django.contrib.sessions.models import Session
from django.db import close_old_connections
from django.http import HttpRequest

from events.access import session_digest
from events.channels import Channel, authorise
from events.errors import NotLoggedIn, TickertapeError
from streams.subscriber import Reader

Choose = Callable[[AbstractBaseUser], Sequence[Channel]]


def admit(request: HttpRequest, choose: Choose) -> tuple[Reader, frozenset[Channel]]:
    """Return the request's reader and channels; raise NotLoggedIn, or why a channel is refused.

    Synchronous: one hop to the request's thread for all that a stream asks of the database.
    """
    user = get_user(request)
    if not isinstance(user, AbstractBaseUser):
        raise NotLoggedIn
    channels = choose(user)
    authorise(user, channels)
    key = request.session.session_key
    reader = Reader(
        user_id=str(user.pk),
        session=session_digest(key) if key else None,
        session_key=key,
        expires_at=_expires_at(key),
        username=user.get_username(),
    )
    return reader, frozenset(channels)


def _expires_at(session_key: str | None) -> float | None:
    # As stored: the session's own `get_expiry_date` counts from now, so an old one would live on.
    dates = Session.objects.filter(session_key=session_key).values_list("expire_date", flat=True)
    expire_date = dates.first()
    return None if expire_date is None else expire_date.timestamp()


async def still_permitted(reader: Reader, channels: frozenset[Channel]) -> bool:
    """Ask anew what `admit` asked: the session lives, its user may log in and read the channels."""

    def ask() -> bool:
        request = HttpRequest()
        request.session = SessionStore(reader.session_key)
        try:
            return admit(request, lambda user: sorted(channels))[0].user_id == reader.user_id
        except TickertapeError:
            return False
        finally:
            close_old_connections()

    # Not the request's thread, which is long gone: one of the loop's few.
    return await sync_to_async(ask, thread_sensitive=False)()
