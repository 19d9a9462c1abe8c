"""The streams as AsyncAPI 3 describes them: channels, events, and what a stream says of itself."""

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, get_args

from django.conf import settings

from events import catalogue, channels
from events.catalogue import Declared, Schema
from streams import tokens
from streams.conversation import Change
from streams.wire import CONTROLS, HEARTBEAT, OF_WEBSOCKETS, Control, ResetReason, example_of

_ABOUT = f"""Events arrive as Server-Sent Events: `event:` is the message's name, `data:` its payload as one \
line of JSON, `id:` the client's place, opaque, to come back with as `Last-Event-ID`. A transient event \
has no id: the latest is all there is. {HEARTBEAT} Names that a client does not know are to be left out: \
types are added. The HTTP API is described at `/api/openapi.json`."""


_WEBSOCKET, _POLL = "way.websocket", "way.poll"  # no kind of channel has a full stop in its name


def document(*, host: str, secure: bool) -> Schema:
    """Return the description; raise CatalogueIncomplete where a type lacks something."""
    here = {"host": host, "security": [_ref("securitySchemes", name) for name in _security()]}
    servers = {
        "here": {**here, "protocol": "https" if secure else "http"},
        "sockets": {**here, "protocol": "wss" if secure else "ws"},
    }
    return {**_document(), "servers": servers}


@cache
def _document() -> Schema:
    """Return all of it but where it is: what the installed apps declare does not change in a process."""
    types = catalogue.declared()
    controls = {**CONTROLS, **OF_WEBSOCKETS}
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "Tickertape", "version": "1", "description": _ABOUT},
        "defaultContentType": "application/json",
        "channels": {
            **{name: _channel(kind, types) for name, kind in channels.kinds().items()},
            **_other_ways(),
        },
        "operations": {
            **{f"stream.{name}": _operation(name, types) for name in channels.kinds()},
            **_asked_of_other_ways(),
        },
        "components": {
            "messages": {
                **{name: _control(name, control) for name, control in controls.items()},
                **{each.name: _message(each) for each in types},
                **_of_other_ways(),
            },
            "schemas": _models(types, controls.values()),
            "securitySchemes": _security(),
        },
    }


def _security() -> Schema:
    """Return the ways to say who one is; each is enough."""
    session = {"in": "cookie", "name": settings.SESSION_COOKIE_NAME}
    cookie, query = {"in": "cookie", "name": tokens.COOKIE}, {"in": "query", "name": "token"}
    token = "A stream token, as of `POST /api/tokens`"  # noqa: S105 (says what it is)
    return {
        "session": {"type": "httpApiKey", **session, "description": "`POST /api/session` sets it"},
        "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT", "description": token},
        "tokenQuery": {"type": "httpApiKey", **query, "description": token},
        "tokenCookie": {"type": "httpApiKey", **cookie, "description": token},
    }


def _names(kind: str, types: tuple[Declared, ...]) -> list[str]:
    return [*CONTROLS, *(each.name for each in types if kind in each.channels)]


def _channel(kind: channels.Kind, types: tuple[Declared, ...]) -> Schema:
    named = {name: _ref("messages", name) for name in _names(kind.name, types)}
    described: Schema = {"address": kind.name, "description": kind.about, "messages": named}
    if kind.key is not None:
        described["address"] = f"{kind.name}:{{key}}"
        described["parameters"] = {"key": {"description": f"Which: fits `{kind.key.pattern}`"}}
    return described


def _query(**more: Schema) -> Schema:
    properties = {
        "channel": {"type": "array", "items": {"type": "string"}, "description": "Channels' addresses"},
        "last_event_id": {"type": "string", "description": "Go on from here; `earliest` is all there is"},
    }
    return {"type": "object", "required": ["channel"], "properties": {**properties, **more}}


def _operation(kind: str, types: tuple[Declared, ...]) -> Schema:
    return {
        "action": "send",
        "summary": "`GET /streams/?channel=…`, for many channels at once",
        "channel": {"$ref": f"#/channels/{kind}"},
        "messages": [{"$ref": f"#/channels/{kind}/messages/{name}"} for name in _names(kind, types)],
        "bindings": {"http": {"method": "GET", "query": _query(), "bindingVersion": "0.3.0"}},
    }


# --- WebSockets and polls ----------------------------------------------------------------------------


def _other_ways() -> Schema:
    socket, poll = ["ask", "frame", *OF_WEBSOCKETS], ["answer"]
    return {
        _WEBSOCKET: {
            "address": "/ws/streams/",
            "description": "The events, order and cursor of the streams of any channels, which may change "
            "meanwhile. It closes with 1000, 1001 or 1013, or refuses with 4000 and the status of HTTP.",
            "servers": [{"$ref": "#/servers/sockets"}],
            "messages": {name: _ref("messages", name) for name in socket},
            "bindings": {"ws": {"method": "GET", "query": _query(), "bindingVersion": "0.1.0"}},
        },
        _POLL: {
            "address": "/streams/poll/",
            "description": "The same events one answer at a time. Ask again from `cursor`.",
            "servers": [{"$ref": "#/servers/here"}],
            "messages": {name: _ref("messages", name) for name in poll},
        },
    }


def _asked_of_other_ways() -> Schema:
    after = {"type": "string", "description": "Go on from here: the `cursor` of the answer before"}
    wait = {"type": "number", "minimum": 0, "maximum": 60, "default": 25, "description": "Seconds to wait"}
    return {
        "websocket.hear": _way("send", _WEBSOCKET, "frame", *OF_WEBSOCKETS),
        "websocket.ask": {
            **_way("receive", _WEBSOCKET, "ask"),
            "summary": "Add and drop channels; the answer is a message of its own",
            "reply": {
                "channel": {"$ref": f"#/channels/{_WEBSOCKET}"},
                "messages": [{"$ref": f"#/channels/{_WEBSOCKET}/messages/{name}"} for name in OF_WEBSOCKETS],
            },
        },
        "poll.hear": {
            **_way("send", _POLL, "answer"),
            "summary": "`GET /streams/poll/?channel=…&after=…`, for many channels at once",
            "bindings": {
                "http": {"method": "GET", "query": _query(after=after, wait=wait), "bindingVersion": "0.3.0"}
            },
        },
    }


def _way(action: str, channel: str, *names: str) -> Schema:
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{channel}"},
        "messages": [{"$ref": f"#/channels/{channel}/messages/{name}"} for name in names],
    }


def _of_other_ways() -> Schema:
    """Return the messages that only the other ways have: what carries the others, and what one may say."""
    place = {"type": ["string", "null"], "description": "The place to go on from, if it moves"}
    name = {"type": ["string", "null"], "description": "The message's name; null where only the place moves"}
    frame = {
        "type": "object",
        "required": ["id", "event", "data"],
        "properties": {
            "id": place,
            "event": name,
            "data": {"description": "The message's payload"},
            "retry": {"type": "integer", "description": "Milliseconds to wait before coming back"},
        },
    }
    answer = {
        "type": "object",
        "required": ["events", "cursor", "reset"],
        "properties": {
            "events": {"type": "array", "items": frame},
            "cursor": {"type": "string", "description": "Where to ask from next"},
            "reset": {
                "enum": [None, *get_args(ResetReason)],
                "description": "Why the log could not go on from `after`: load the state anew",
            },
        },
    }
    change = catalogue.tidy(Change.model_json_schema())
    about = change.pop("description")
    asked = {name: field.examples[0] for name, field in Change.model_fields.items() if field.examples}
    framed = {"id": "2438c2e6ea-42", "event": "stream.live", "data": {}}
    polled: Schema = {"events": [], "cursor": "2438c2e6ea-42", "reset": None}
    return {
        "ask": _plain("ask", about, change, asked),
        "frame": _plain("frame", "An event, or what a stream says of itself.", frame, framed),
        "answer": _plain("answer", "What there is behind `after`, oldest first.", answer, polled),
    }


def _plain(name: str, about: str, payload: Schema, example: Mapping[str, Any]) -> Schema:
    return {
        "name": name,
        "title": name,
        "summary": about,
        "payload": _payload(payload),
        "examples": [{"payload": example}],
    }


# --- Messages ----------------------------------------------------------------------------------------


def _message(each: Declared) -> Schema:
    summary, _, rest = each.about.partition("\n")
    notes = [
        rest.strip(),
        f"Version {each.version}.",
        "Transient: without an id, the latest is all there is." * each.transient,
    ]
    return {
        "name": each.name,
        "title": each.name,
        "summary": summary,
        "description": "\n\n".join(filter(None, notes)),
        "payload": _payload(each.schema),
        "examples": [{"payload": each.example}],
        "x-version": each.version,
        "x-transient": each.transient,
    }


def _control(name: str, control: type[Control]) -> Schema:
    schema = catalogue.tidy(control.model_json_schema(mode="serialization"))
    return _plain(name, schema.pop("description"), schema, example_of(control))


def _models(types: tuple[Declared, ...], controls: Iterable[type[Control]]) -> Schema:
    told = [each.schema for each in types]
    told += [catalogue.tidy(control.model_json_schema(mode="serialization")) for control in controls]
    return {name: _payload(model) for schema in told for name, model in schema.get("$defs", {}).items()}


def _payload(schema: Mapping[str, Any]) -> Schema:
    """Return a schema as it stands in the document: models have a place of their own there."""
    moved: Schema = _moved({key: value for key, value in schema.items() if key != "$defs"})
    return moved


def _moved(value: Any) -> Any:
    match value:
        case {"$ref": str(name), **rest}:
            return {**rest, **_ref("schemas", name.rpartition("/")[2])}
        case dict():
            return {key: _moved(inner) for key, inner in value.items()}
        case list():
            return [_moved(inner) for inner in value]
        case _:
            return value


def _ref(place: str, name: str) -> Schema:
    return {"$ref": f"#/components/{place}/{name}"}
