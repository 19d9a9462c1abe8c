"""What is to be recorded: an event with its channels, found to be in order."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from django.conf import settings

from events.channels import Channel, check_names, kind_of, kinds
from events.errors import FieldError, PayloadInvalid, PayloadTooLarge
from events.pages import EventId
from events.registry import EventType, encode


class New(NamedTuple):
    """An event that is to be recorded: what `append` takes, found to be in order."""

    type: str
    version: int
    data: str
    channels: list[Channel]
    actor_id: int | None
    caused_by: EventId | None
    unique_key: str | None


def new(
    event: EventType,
    *,
    channels: Sequence[Channel],
    actor_id: int | None = None,
    caused_by: EventId | None = None,
    unique_key: str | None = None,
) -> New:
    """Return an event as `append_all` takes it; raise what `append` raises."""
    if event.transient:
        raise TypeError(f"{event.name()} is transient: it is sent, not recorded")
    # Who may read a channel relies on what the catalogue says of it; one that nobody may takes anything.
    elsewhere = {kind_of(channel) for channel in channels} & (kinds().keys() - event.sent_on)
    if event.sent_on and elsewhere:
        raise TypeError(f"{event.name()} is not declared to be sent on channels of the kind {min(elsewhere)}")
    return new_raw(
        event.name(),
        event.model_dump(mode="json"),
        version=event.version,
        channels=channels,
        actor_id=actor_id,
        caused_by=caused_by,
        unique_key=unique_key,
    )


def new_raw(
    name: str,
    payload: dict[str, Any],
    *,
    channels: Sequence[Channel],
    version: int = 1,
    actor_id: int | None = None,
    caused_by: EventId | None = None,
    unique_key: str | None = None,
) -> New:
    """Return an event whose type is known by name only; else as `new`."""
    data = encode(payload)
    size = len(data.encode())
    if size > settings.EVENTS_MAX_PAYLOAD_BYTES:
        raise PayloadTooLarge(f"{name} holds {size} bytes; {settings.EVENTS_MAX_PAYLOAD_BYTES} is the most.")
    addressed = sorted(set(channels))
    check_names(addressed)
    if not 1 <= len(addressed) <= settings.EVENTS_MAX_CHANNELS:
        message = f"an event has 1 to {settings.EVENTS_MAX_CHANNELS} channels, not {len(addressed)}"
        raise PayloadInvalid(errors=(FieldError("channels", message),))
    return New(name, version, data, addressed, actor_id, caused_by, unique_key)
