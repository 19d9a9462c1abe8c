"""Idempotency keys: a POST that is sent again has one effect and gets the same answer.

The key is claimed in the transaction that makes the effect, so both are there or neither
is; of two requests at once, the second waits for the first and then repeats its answer.
"""

import re
from collections.abc import Callable
from datetime import timedelta
from hashlib import sha256
from typing import Any, TypeVar

from django.db import connection, transaction
from django.http import HttpRequest
from django.utils import timezone
from ninja import Status
from pydantic import BaseModel

from events.errors import BadRequest, FieldError, Invalid
from events.models import IdempotencyKey
from events.rest import user_of

HEADER = "Idempotency-Key"
KEPT = timedelta(hours=24)  # longer than any client goes on trying
# For the API's description of a POST that takes a key.
DESCRIBED: dict[str, Any] = {
    "parameters": [
        {
            "in": "header",
            "name": HEADER,
            "required": False,
            "schema": {"type": "string", "maxLength": 255},
            "description": "Sent again with the same key, a request has one effect and gets the same answer.",
        }
    ]
}
_KEY = re.compile(r"[\x21-\x7e]{1,255}")

Answer = TypeVar("Answer", bound=BaseModel)


class KeyMalformed(BadRequest):
    """An Idempotency-Key has 1 to 255 visible ASCII characters."""

    code = "idempotency_key_malformed"


class KeyReused(Invalid):
    """The Idempotency-Key was used for another request."""

    code = "idempotency_mismatch"


def once(
    request: HttpRequest, kind: type[Answer], effect: Callable[[], Answer], *, status: int = 201
) -> Status[Answer]:
    """Make the effect and return its answer; or, for a key seen before, only the answer it got then."""
    key = request.headers.get(HEADER)
    if key is None:
        return Status(status, effect())
    if not _KEY.fullmatch(key):
        raise KeyMalformed(errors=(FieldError(HEADER, "use 1 to 255 visible ASCII characters"),))
    user_id = user_of(request).pk
    digest = sha256(b"\n".join((str(request.method).encode(), request.path.encode(), request.body))).digest()
    with transaction.atomic():
        if _claim(user_id, key, digest):
            answer = effect()
            IdempotencyKey.objects.filter(user_id=user_id, key=key).update(
                status=status, body=answer.model_dump(mode="json")
            )
            return Status(status, answer)
        earlier = IdempotencyKey.objects.get(user_id=user_id, key=key)
    if bytes(earlier.digest) != digest:
        raise KeyReused(errors=(FieldError(HEADER, "was used for another request"),))
    return Status(earlier.status or status, kind.model_validate(earlier.body))


class _Done(BaseModel):
    """The answer that says nothing."""


def once_done(request: HttpRequest, effect: Callable[[], None]) -> Status[None]:
    """Make an effect that has no answer, unless the request's key was seen before."""

    def then_nothing() -> _Done:
        effect()
        return _Done()

    once(request, _Done, then_nothing, status=204)
    return Status(204, None)


def _claim(user_id: int, key: str, digest: bytes) -> bool:
    """Tell whether the key is ours now; waits for a transaction that is claiming the same."""
    # The user's own old keys go here, so that nothing else need ever clean up.
    IdempotencyKey.objects.filter(user_id=user_id, created_at__lt=timezone.now() - KEPT).delete()
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO events_idempotencykey (user_id, key, digest, created_at)"
            " VALUES (%s, %s, %s, now()) ON CONFLICT DO NOTHING",
            [user_id, key, digest],
        )
        return bool(cursor.rowcount)
