"""The catalogue for people and for programs: `/events/` and `/api/asyncapi.json`.

Both say the same of every event type, and neither tells a secret: anyone may read them.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.views.decorators.http import require_safe

from events import catalogue, channels
from project.generate.shapes import fields
from project.generate.typescript import type_of
from project.pages import CONTENT_SECURITY_POLICY
from streams import asyncapi, wire


@dataclass(frozen=True, slots=True)
class Row:
    """A field of an event, in words."""

    name: str
    type: str
    about: SafeString


@dataclass(frozen=True, slots=True)
class Entry:
    """An event as the page shows it."""

    name: str
    about: list[SafeString]
    notes: list[str]
    channels: list[str]
    rows: list[Row]
    example: str


@dataclass(frozen=True, slots=True)
class Place:
    """A kind of channel, and what is heard there."""

    name: str
    address: str
    about: str
    events: list[str]


@require_safe
def page(request: HttpRequest) -> HttpResponse:
    """Answer with the catalogue as a page."""
    response = render(request, "project/catalogue.html", _said())
    response["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
    return response


@cache
def _said() -> dict[str, Any]:
    """Return what the page says: what the installed apps declare does not change in a process."""
    types = catalogue.declared()
    return {
        "places": [_place(kind, types) for kind in channels.kinds().values()],
        "models": [_model(name, schema) for each in types for name, schema in _models(each)],
        "events": [_entry(each) for each in types],
        "controls": [_control(name, control) for name, control in wire.CONTROLS.items()],
        "answers": [_control(name, control) for name, control in wire.OF_WEBSOCKETS.items()],
        "heartbeat": _marked(wire.HEARTBEAT),
    }


@require_safe
def describe(request: HttpRequest) -> HttpResponse:
    """Answer with the streams' AsyncAPI description."""
    return JsonResponse(asyncapi.document(host=request.get_host(), secure=request.is_secure()))


def _place(kind: channels.Kind, types: tuple[catalogue.Declared, ...]) -> Place:
    heard = [each.name for each in types if kind.name in each.channels]
    address = kind.name if kind.key is None else f"{kind.name}:<{'name' if kind.name == 'group' else 'id'}>"
    return Place(kind.name, address, kind.about, heard)


def _entry(each: catalogue.Declared) -> Entry:
    notes = [f"version {each.version}", *["transient"] * each.transient]
    return Entry(
        each.name, _text(each.about), notes, list(each.channels), _rows(each.schema), _pretty(each.example)
    )


def _control(name: str, control: type[wire.Control]) -> Entry:
    schema = catalogue.tidy(control.model_json_schema(mode="serialization"))
    about = _text(schema["description"])
    return Entry(name, about, [], [], _rows(schema), _pretty(wire.example_of(control)))


def _models(each: catalogue.Declared) -> Iterator[tuple[str, Mapping[str, Any]]]:
    yield from each.schema.get("$defs", {}).items()


def _model(name: str, schema: Mapping[str, Any]) -> Entry:
    return Entry(name, _text(schema.get("description", "")), ["in events"], [], _rows(schema), "")


def _rows(schema: Mapping[str, Any]) -> list[Row]:
    return [Row(field.name, type_of(field.shape), _marked(field.about)) for field in fields(schema)]


def _pretty(example: Mapping[str, Any]) -> str:
    return json.dumps(example, indent=2, ensure_ascii=False)


def _text(about: str) -> list[SafeString]:
    return [_marked(" ".join(paragraph.split())) for paragraph in about.split("\n\n")]


def _marked(text: str) -> SafeString:
    """Return a text as HTML, with what stands in backticks as code."""
    parts = text.split("`")
    return format_html_join(
        "", "{}", ((format_html("<code>{}</code>", part) if n % 2 else part,) for n, part in enumerate(parts))
    )
