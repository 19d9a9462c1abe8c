"""The streams as AsyncAPI 3 describes them: channels, events, and what a stream says of itself."""

from collections.abc import Mapping
from typing import Any

from django.conf import settings

from events import catalogue, channels
from events.catalogue import Declared, Schema
from streams import tokens
from streams.wire import CONTROLS, HEARTBEAT, Control, example_of

_ABOUT = f"""Events arrive as Server-Sent Events: `event:` is the message's name, `data:` its payload as one \
line of JSON, `id:` the client's place, opaque, to come back with as `Last-Event-ID`. A transient event \
has no id: the latest is all there is. {HEARTBEAT} Names that a client does not know are to be left out: \
types are added. The HTTP API is described at `/api/openapi.json`."""


def document(*, host: str, secure: bool) -> Schema:
    """Return the description; raise CatalogueIncomplete where a type lacks something."""
    types = catalogue.declared()
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "Tickertape", "version": "1", "description": _ABOUT},
        "defaultContentType": "application/json",
        "servers": {
            "here": {
                "host": host,
                "protocol": "https" if secure else "http",
                "security": [{"$ref": f"#/components/securitySchemes/{name}"} for name in _security()],
            }
        },
        "channels": {name: _channel(kind, types) for name, kind in channels.kinds().items()},
        "operations": {f"stream.{name}": _operation(name, types) for name in channels.kinds()},
        "components": {
            "messages": {
                **{name: _control(name, control) for name, control in CONTROLS.items()},
                **{each.name: _message(each) for each in types},
            },
            "schemas": _models(types),
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


def _operation(kind: str, types: tuple[Declared, ...]) -> Schema:
    query = {
        "type": "object",
        "required": ["channel"],
        "properties": {
            "channel": {"type": "array", "items": {"type": "string"}, "description": "Channels' addresses"},
            "last_event_id": {"type": "string", "description": "Go on from here; `earliest` is all there is"},
        },
    }
    return {
        "action": "send",
        "summary": "`GET /streams/?channel=…`, for many channels at once",
        "channel": {"$ref": f"#/channels/{kind}"},
        "messages": [{"$ref": f"#/channels/{kind}/messages/{name}"} for name in _names(kind, types)],
        "bindings": {"http": {"method": "GET", "query": query, "bindingVersion": "0.3.0"}},
    }


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
    return {
        "name": name,
        "title": name,
        "summary": schema.pop("description"),
        "payload": _payload(schema),
        "examples": [{"payload": example_of(control)}],
    }


def _models(types: tuple[Declared, ...]) -> Schema:
    return {name: _payload(model) for each in types for name, model in each.schema.get("$defs", {}).items()}


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
