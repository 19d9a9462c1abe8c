"""What a stream says of itself, besides the events it carries: declared, for the catalogue.

These frames are no events of the log. `streams.sse` makes them; tests hold that what is sent is
what stands here.
"""

from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

ResetReason = Literal["pruned", "epoch", "ahead", "malformed"]
EndReason = Literal["database", "capacity", "drain", "max_age", "revoked", "over"]


class Control(BaseModel):
    """What a stream says of itself."""

    model_config = ConfigDict(extra="forbid", json_schema_serialization_defaults_required=True)


class StreamOpen(Control):
    """The first frame of every connection: whether it goes on from where the client was."""

    mode: Literal["live", "resumed", "reset"] = Field(
        description="`live`: from now on. `resumed`: from the last id. `reset`: `stream.reset` follows",
        examples=["resumed"],
    )
    cursor: str = Field(description="The place that the stream begins at", examples=["2438c2e6ea-42"])
    missed: int | None = Field(
        description="How many events the client missed, which come first; null where that is not known",
        examples=[3],
    )


class StreamLive(Control):
    """What the client missed has come; from here on events come as they happen."""


class StreamReset(Control):
    """The log cannot go on from the client's last id: load the state anew. The stream goes on live."""

    reason: ResetReason = Field(
        description="Why: it was pruned, is of another epoch, lies ahead, or is no id", examples=["pruned"]
    )
    oldest: str = Field(description="The oldest place that can be gone on from", examples=["2438c2e6ea-17"])


class StreamEnd(Control):
    """The last frame of a stream that the server ends. It comes with a `retry:`, the time to wait."""

    reason: EndReason = Field(
        description="Why: a passing fault (`database`, `capacity`), the server's end (`drain`), the stream's "
        "greatest age, access that was taken away, or `over`: nothing follows",
        examples=["drain"],
    )


CONTROLS: Mapping[str, type[Control]] = {
    "stream.open": StreamOpen,
    "stream.live": StreamLive,
    "stream.reset": StreamReset,
    "stream.end": StreamEnd,
}


class StreamChannels(Control):
    """What is read has changed, as the client asked. Its id is where to go on from with all of `channels`.

    Where the log cannot go on from the client's `after`, a `stream.reset` comes before it that has the
    names of what was added, as `channels`: load the state of these anew.
    """

    channels: list[str] = Field(description="All that is read from here on", examples=[["item:7", "user:1"]])
    added: list[str] = Field(
        description="What these missed since the client's `after` follows, and `stream.live`",
        examples=[["item:7"]],
    )
    dropped: list[str] = Field(description="Nothing of these follows", examples=[["item:3"]])
    cursor: str = Field(description="The place of the change", examples=["2438c2e6ea-42"])


class Fault(Control):
    """One field of a message that was refused, and why."""

    field: str
    message: str


class StreamError(Control):
    """What the client asked cannot be done, and changes nothing; or the WebSocket is refused, and closes.

    It says what problem+json would (RFC 9457); of 429 also when a message is heard again.
    """

    type: str = Field(examples=["urn:tickertape:error:rate_limited"])
    title: str = Field(examples=["Too many of these in a minute; try again later."])
    status: int = Field(description="As HTTP would have it", examples=[429])
    code: str = Field(description="For programs: it does not change", examples=["rate_limited"])
    detail: str = Field(examples=["Too many of these in a minute; try again in 1 second."])
    errors: list[Fault] = Field(examples=[[]])
    retry_after: int | None = Field(
        None, description="Seconds for which nothing more is read of the client", examples=[1]
    )


# Answers to what a reader asks over a WebSocket.
OF_WEBSOCKETS: Mapping[str, type[Control]] = {"stream.channels": StreamChannels, "stream.error": StreamError}

HEARTBEAT = (
    "A heartbeat is a comment and an `id:` in one block without data: no client sees an event, but the "
    "place that it would come back to moves on."
)


def example_of(control: type[Control]) -> dict[str, object]:
    """Return an example of what a control event holds."""
    return {name: field.examples[0] for name, field in control.model_fields.items() if field.examples}
