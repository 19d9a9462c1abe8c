"""Where a stream stands and what to do next; does no input or output, so that both clients share it.

An id is kept as soon as the event that has it is handed out, never before: whatever breaks, the next
connection asks for what was not handed out yet, and nothing is told twice.
"""

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tickertape_client.errors import refusal
from tickertape_client.events import Event, Reset, State
from tickertape_client.requests import object_of, passes, retry_after
from tickertape_client.sse import Block, Decoder

EARLIEST = "earliest"
FIRST_SECONDS = 1.0  # until the service names a time of its own by `retry:`
MOST_SECONDS = 30.0
SILENCE = 2.5  # heartbeats: one may be late, two are not
CANCELLED = {"error": "The job was cancelled.", "error_type": "Cancelled"}


class Following:
    """One stream over all its connections."""

    def __init__(
        self, path: str, channels: Sequence[str], last_event_id: str | None, *, renewable: bool = False
    ) -> None:
        self.path = path
        self.params = [("channel", channel) for channel in channels]
        self.cursor = last_event_id
        self.state: State = "connecting"
        self.renew = False  # the token was refused, or ran out: connect with another one
        self._renewable = renewable  # there is somebody to ask for one
        self._renewed = False
        self._met = False  # the service itself has answered
        self._retry = FIRST_SECONDS
        self._failures = 0
        self._ended: str | None = None
        self._wait: float | None = None
        self._decoder = Decoder()

    @property
    def over(self) -> bool:
        """Tell whether there is nothing to come back for."""
        return self.state == "over"

    @property
    def ended(self) -> bool:
        """Tell whether the service has said the last word of this connection."""
        return self.over or self._ended is not None

    def headers(self) -> dict[str, str]:
        """Return what to ask with; a new connection begins."""
        self._decoder = Decoder()
        self._ended = self._wait = None
        return {} if self.cursor is None else {"Last-Event-ID": self.cursor}

    def answered(self, status: int, headers: Mapping[str, str], body: bytes) -> bool:
        """Return whether a stream follows; if not, wait and ask again, or it is over.

        Raises Refused for what would be refused again. The body is that of any status but 200. A page or a
        redirection in place of a stream is of a network to log in to, and passes; before the service was ever
        met, it is of a wrong address.
        """
        if status == 200 and headers.get("content-type", "").partition(";")[0].strip() == "text/event-stream":
            self._met = True
            return True
        if status == 204:
            self.state = "over"
        elif status == 401 and self._renewable and not self._renewed:
            self.renew, self._wait = True, 0.0
        elif passes(status) and (self._met or status >= 400):
            self._wait = retry_after(headers)
        else:
            self.state = "over"
            raise refusal(status, object_of(body))
        return False

    def renewed(self) -> None:
        """Note that a new token is used."""
        self.renew, self._renewed = False, True

    def feed(self, chunk: bytes) -> Iterator[Event | Reset | None]:
        """Yield what a piece of the stream brings; None where it is open."""
        for block in self._decoder.feed(chunk):
            self._failures = 0
            self._renewed = False
            if self._decoder.retry is not None:
                self._retry = self._decoder.retry / 1000
            yield from self._take(block)
            if self.ended:
                return

    def _take(self, block: Block) -> Iterator[Event | Reset | None]:
        data: Any = None if block.data is None else json.loads(block.data)
        # The id of an opening that resets counts when the reset is handed out, or nobody would hear of it.
        if block.id and not (block.event == "stream.open" and data["mode"] == "reset"):
            self.cursor = block.id
        if block.data is None:
            return
        match block.event:
            case "stream.open":
                self.state = "live" if data["mode"] == "live" else "catching-up"
                yield None
            case "stream.live":
                self.state = "live"
            case "stream.reset":
                self.state = "live"
                yield Reset(data["reason"], data["oldest"], block.id)
            case "stream.end":
                self._ended, self._wait = data["reason"], self._retry
                self.renew = data["reason"] == "revoked" and self._renewable
                if data["reason"] == "over":
                    self.state = "over"
                    yield from self.last()
            case _:
                yield from self.translate(Event(block.event, data, self.cursor or ""))

    def translate(self, event: Event) -> Iterator[Event]:
        """Yield an event of the log in the words of this stream."""
        yield event

    def last(self) -> Iterator[Event]:
        """Yield what the end of the stream itself says."""
        yield from ()

    def broke(self) -> float:
        """Note that the connection is over; return the seconds to wait before the next one.

        The service's own word where it gave one: that is jittered already. Else a time between nought and a
        bound that doubles, so that a crowd that was cut off together does not come back together.
        """
        self.state = "connecting" if self._ended else "offline"
        if self._wait is not None:
            return min(self._wait, MOST_SECONDS)
        bound = min(MOST_SECONDS, max(self._retry, 0.1) * 2 ** min(self._failures, 16))
        self._failures += 1
        return random.uniform(0, bound)  # noqa: S311 (not a secret)


class JobFollowing(Following):
    """A job's stream, from its beginning or where it stands, in the words of `POST /api/jobs/<name>`."""

    def __init__(self, job_id: str | None, last_event_id: str | None, *, renewable: bool = False) -> None:
        # Who asks for the job learns its id, and so the path, before the first connection.
        super().__init__(f"/streams/jobs/{job_id}/", [], last_event_id or EARLIEST, renewable=renewable)
        self._known: dict[str, Any] = {}  # the state that was told last

    def translate(self, event: Event) -> Iterator[Event]:
        """Yield progress, what the job sends, and last `complete` or `error`."""
        data = event.data
        match event.type:
            case "JobState":
                self._known = data
            case "JobProgressed":
                yield Event("progress", data, event.id)
            case "JobSent":
                yield Event(data["event"] or "message", data["data"], event.id)
            case "TaskComplete":
                self.state = "over"
                yield Event("complete", {"result": data["result"]}, event.id)
            case "JobFailed":
                self.state = "over"
                yield Event("error", {"error": data["error"], "error_type": data["error_type"]}, event.id)
            case "JobCancelled":
                self.state = "over"
                yield Event("error", CANCELLED, event.id)

    def last(self) -> Iterator[Event]:
        """Yield how a job ended whose last event is no longer kept."""
        match self._known.get("state"):
            case "complete":
                yield Event("complete", {"result": self._known["result"]}, self.cursor or "")
            case "failed":
                error = {"error": self._known["error"], "error_type": "Failed"}
                yield Event("error", error, self.cursor or "")
            case "cancelled":
                yield Event("error", CANCELLED, self.cursor or "")
