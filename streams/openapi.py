"""The streams as OpenAPI describes them: addresses and answers. What they say, `streams.asyncapi` does."""

from typing import Any, get_args

from events.catalogue import Schema
from streams.poll import MOST_SECONDS, USUAL_SECONDS
from streams.sse import CONTENT_TYPE
from streams.wire import ResetReason

_REFUSALS = {
    "400": "A channel's name is malformed, or there are too many",
    "401": "Nobody is logged in, or the token is over",
    "403": "A channel may not be read",
    "404": "There is no such item or job",
}
_STREAM = "Server-Sent Events, as `/api/asyncapi.json` describes them; a passing fault is a `stream.end`"


def paths() -> Schema:
    """Return the paths of the streams and of polls."""
    several = [_channel(required=True), *_place(), _token()]
    return {
        "/streams/": _get("Stream several channels", "streams", _stream(), [*several, _render()]),
        "/streams/me/": _get(
            "Stream what concerns oneself: one's own channel, one's groups' and `system`; and others",
            "stream_me",
            _stream(),
            [_channel(required=False), *_place(), _token(), _render()],
        ),
        "/streams/items/{item_id}/": _get(
            "Stream an item", "stream_item", _stream(), [_id("item_id"), *_place(), _token(), _render()]
        ),
        "/streams/jobs/{job_id}/": _get(
            "Stream a job, where it stands first, to its end",
            "stream_job",
            {**_stream(), "204": {"description": "It is over, and all of it was read: do not come back"}},
            [_id("job_id"), *_place(), _token(), _render()],
        ),
        "/streams/poll/": _get(
            "Ask for what there is behind a place, and wait for it",
            "poll",
            {
                "200": _json(_POLLED, "What there is, oldest first"),
                "422": _problem("`wait` is no such number"),
            }
            | {"503": _problem("A fault that will pass; `Retry-After` says when")},
            [*several, _wait()],
        ),
    }


_EVENT: Schema = {
    "type": "object",
    "required": ["id", "event", "data"],
    "properties": {"id": {"type": ["string", "null"]}, "event": {"type": "string"}, "data": {}},
}
_POLLED: Schema = {
    "type": "object",
    "required": ["events", "cursor", "reset"],
    "properties": {
        "events": {"type": "array", "items": _EVENT},
        "cursor": {"type": "string", "description": "The `after` to ask with next"},
        "reset": {
            "enum": [None, *get_args(ResetReason)],
            "description": "Why the state is to be loaded anew",
        },
    },
}


def _get(summary: str, name: str, answers: Schema, parameters: list[Schema]) -> Schema:
    refusals = {status: _problem(why) for status, why in _REFUSALS.items()}
    return {
        "get": {
            "operationId": name,
            "summary": summary,
            "tags": ["streams"],
            "parameters": parameters,
            "responses": {**refusals, **answers},
            "security": [{"Session": []}, {}],
        }
    }


def _stream() -> Schema:
    content = {CONTENT_TYPE.partition(";")[0]: {"schema": {"type": "string"}}}
    return {"200": {"description": _STREAM, "content": content}}


def _json(schema: Schema, about: str) -> Schema:
    return {"description": about, "content": {"application/json": {"schema": schema}}}


def _problem(about: str) -> Schema:
    schema = {"$ref": "#/components/schemas/Problem"}
    return {"description": about, "content": {"application/problem+json": {"schema": schema}}}


def _query(name: str, about: str, schema: Schema, **more: Any) -> Schema:
    return {"in": "query", "name": name, "description": about, "schema": schema, "required": False, **more}


def _channel(*, required: bool) -> Schema:
    names = {"type": "array", "items": {"type": "string"}}
    return _query("channel", "As in `?channel=item:42&channel=system`", names, required=required)


def _place() -> list[Schema]:
    text = {"type": "string"}
    header = "Go on from here, an id or a `cursor`; `earliest` is all there is. It beats the query"
    return [
        {"in": "header", "name": "Last-Event-ID", "description": header, "schema": text, "required": False},
        _query("last_event_id", "The same, for who can send no header", text),
        _query("after", "The same, as a poll is asked", text),
    ]


def _token() -> Schema:
    return _query("token", "A stream token, in place of a session; also as a bearer", {"type": "string"})


def _render() -> Schema:
    return _query("render", "Events as HTML, by their templates", {"type": "string", "enum": ["html"]})


def _wait() -> Schema:
    seconds = {"type": "number", "minimum": 0, "maximum": MOST_SECONDS, "default": USUAL_SECONDS}
    return _query("wait", "Seconds to wait where there is nothing", seconds)


def _id(name: str) -> Schema:
    return {"in": "path", "name": name, "schema": {"type": "string"}, "required": True}
