"""The HTTP API of the live edge: who has an item open."""

from django.http import HttpRequest
from ninja import Router
from pydantic import BaseModel, Field

from events import items
from events.channels import item_channel
from events.rest import Problem, user_of
from streams.presence import SHOWN_MOST, Person, present

_ERRORS = frozenset({400, 401, 403, 404, 503})

router = Router(tags=["items"])


class PresenceOut(BaseModel):
    """Who has an item open, on however many tabs and devices each."""

    users: list[Person] = Field(description=f"{SHOWN_MOST} of them at the most")
    total: int | None = Field(description="How many they are; null while nobody knows, as without Redis")


@router.get("/items/{id:item_id}/presence", response={200: PresenceOut, _ERRORS: Problem})
def list_present(request: HttpRequest, item_id: int) -> PresenceOut:
    """Return who has the item open, oneself included. The item's stream says `PresenceChanged` after that."""
    found = present(item_channel(items.get_item(user_of(request), item_id).pk))
    if found is None:
        return PresenceOut(users=[], total=None)
    return PresenceOut(users=list(found.users), total=found.total)
