"""Python: pydantic models and typed iterators on httpx and httpx-sse; passes `mypy --strict`."""

import json
import keyword
import re
from collections.abc import Iterator

from pydantic import BaseModel

from project.generate.shapes import Either, Field, List, Model, Plain, Shape, Table, Words
from project.generate.source import PARTS, Kind, Record, Source, pascal

_PLAIN = {
    "string": "str",
    "integer": "int",
    "number": "float",
    "boolean": "bool",
    "null": "None",
    "any": "Any",
}
_TAKEN = {"Any", "AsyncIterator", "BaseModel", "ConfigDict", "Exception", "Field", "Generic", "Iterator"}
_TAKEN |= {
    "Literal",
    "Mapping",
    "Payload",
    "Received",
    "ServerSentEvent",
    "StreamRefused",
    "TypeVar",
    "Union",
    "UnknownEvent",
    "ValidationError",
}
_HEAD = '''"""The events of Tickertape, typed.

Written by `manage.py generate_client --lang python` from the catalogue of events: not to be edited.

    with httpx.Client(base_url="https://tickertape.example", cookies=…) as client:
        for received in item_events(client, "42"):
            if isinstance(received.data, CommentAdded):
                print(received.data.text)

Each iterator begins now, or behind `last_event_id`; comes back by itself to where it was; and hands on
what the stream says of itself too: on `StreamReset`, load anew. What is newer than this client is an
`UnknownEvent`, a field left out, a word any string. It raises StreamRefused where the answer would be the
same again, and ends where the stream is over.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar, Union

import httpx
from httpx_sse import ServerSentEvent, aconnect_sse, connect_sse
from pydantic import BaseModel, ConfigDict, Field, ValidationError

FIRST_WAIT_SECONDS = 1.0
LONGEST_WAIT_SECONDS = 30.0
TIMEOUT = httpx.Timeout(10, read=45)  # a heartbeat comes every 15 s: a connection without one is dead
PASSING = frozenset({408, 425, 429})  # of the 4xx; else all passes, also the page of a network to log in to

E = TypeVar("E", covariant=True)


class Payload(BaseModel):
    """What an event holds. A field that is newer than this client is left out."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True, protected_namespaces=())


class UnknownEvent(Payload):
    """An event of a type, or of a shape, that this client does not know; `data` is as it came."""

    data: Any
'''


def write(source: Source) -> dict[str, str]:
    """Return the files, by their names; raise CatalogueIncomplete for names that cannot be."""
    taken = {f"{pascal(kind.name)}Event" for kind in source.kinds}
    source.refuse(taken | _TAKEN | {each.name for each in source.controls.values()}, "Python")
    return {"tickertape_events.py": "\n".join(_module(source))}


def type_of(shape: Shape) -> str:
    """Return a shape as a type of Python's."""
    match shape:
        case Plain(name):
            return _PLAIN[name]
        case Words(values):
            return f"Literal[{', '.join(map(json.dumps, values))}] | str"  # one that is newer, too
        case List(of):
            return f"list[{type_of(of)}]"
        case Table(of):
            return f"dict[str, {type_of(of)}]"
        case Model(name):
            return name
        case Either(options):
            return " | ".join(map(type_of, options))


def _module(source: Source) -> Iterator[str]:
    yield _HEAD
    records = (*source.models, *source.events, *source.controls.values())
    for record in records:
        yield from _model(record)
    for record in records:  # what is named before it is declared is known only now
        if record.other is None:
            yield f"{record.name}.model_rebuild()"
    yield "\n_CONTROLS: Mapping[str, type[BaseModel]] = {"
    yield from (f'    "{name}": {each.name},' for name, each in source.controls.items())
    yield "}\n\n"
    yield (PARTS / "client.py.in").read_text()
    for kind in source.kinds:
        yield from _kind(kind, source)


def _model(record: Record) -> Iterator[str]:
    if record.other is not None:
        yield f"\n{record.name} = {type_of(record.other)}\n"
        return
    yield f"\nclass {record.name}(Payload):"
    yield f"    {_docstring(record.about or f'A {record.name}.')}"
    if record.fields:
        yield ""
    for field in record.fields:
        yield f"    {_field(field)}"
    yield ""


def _field(field: Field) -> str:
    name = re.sub(r"\W", "_", field.name).strip("_") or "field"
    if keyword.iskeyword(name) or hasattr(BaseModel, name):  # which it would hide
        name += "_"
    name = name if name.isidentifier() else f"n{name}"
    said = f"description={json.dumps(field.about, ensure_ascii=False)}"
    if name != field.name:
        said += f", alias={json.dumps(field.name)}"
    return f"{name}: {type_of(field.shape)} = Field({said})"


def _docstring(text: str) -> str:
    """Return a text as a docstring of a class or function at the top level."""
    first, *rest = text.replace("\\", "\\\\").replace('"', '\\"' if '"""' in text else '"').splitlines()
    if not rest:
        return f'"""{first}{" " * first.endswith(chr(34))}"""'
    return "\n".join([f'"""{first}', *(f"    {line}".rstrip() for line in rest), '    """'])


def _kind(kind: Kind, source: Source) -> Iterator[str]:
    name = pascal(kind.name)
    heard = [*kind.events, *(each.name for each in source.controls.values()), "UnknownEvent"]
    yield f"\n\n{name}Event = Union["
    yield from (f"    {each}," for each in heard)
    yield f"]\n_{kind.name.upper()}: Mapping[str, type[BaseModel]] = {{"
    yield from (f'    "{each}": {each},' for each in kind.events)
    yield "    **_CONTROLS,\n}"
    key = f"{kind.key}: str, " if kind.keyed else ""
    channel = f'f"{kind.name}:{{{kind.key}}}"' if kind.keyed else f'"{kind.name}"'
    for prefix, client, iterator in (("", "Client", "Iterator"), ("async_", "AsyncClient", "AsyncIterator")):
        yield f"\n\ndef {prefix}{kind.name}_events("
        yield f"    client: httpx.{client}, {key}*, last_event_id: str | None = None"
        yield f") -> {iterator}[Received[{name}Event]]:"
        about = f"Yield what comes on a channel `{kind.name}{':' * kind.keyed}`: {kind.about}"
        yield f"    {_docstring(about)}"
        yield f"    return _{prefix[:1]}stream(client, {channel}, last_event_id, _{kind.name.upper()})"
