"""TypeScript: one module on the JavaScript client; passes `tsc --strict`."""

import json
from collections.abc import Iterator

from project.generate.shapes import Either, List, Model, Plain, Shape, Table, Words
from project.generate.source import PARTS, Kind, Record, Source, camel, pascal

_PLAIN = {"integer": "number", "any": "unknown"}
_TAKEN = {"AnyEvent", "Client", "ClientOptions", "Event", "EventOf", "Handlers", "Options", "Payloads"}
_TAKEN |= {"Record", "Subscription", "SubscriptionOptions"}
_HEAD = """// Written by `manage.py generate_client --lang typescript` from the catalogue of events.
// Not to be edited.

import { Client } from "tickertape-client";
import type { ClientOptions, Subscription, SubscriptionOptions } from "tickertape-client";
"""


def write(source: Source) -> dict[str, str]:
    """Return the files, by their names; raise CatalogueIncomplete for names that cannot be."""
    taken = {f"{pascal(kind.name)}Event" for kind in source.kinds}
    source.refuse(taken | _TAKEN, "TypeScript")
    return {"tickertape.ts": "\n".join(_module(source))}


def type_of(shape: Shape) -> str:
    """Return a shape as a TypeScript type."""
    match shape:
        case Plain(name):
            return _PLAIN.get(name, name)
        case Words(values):
            return " | ".join(map(json.dumps, values))
        case List(of):
            inner = type_of(of)
            return f"({inner})[]" if " | " in inner else f"{inner}[]"
        case Table(of):
            return f"Record<string, {type_of(of)}>"
        case Model(name):
            return name
        case Either(options):
            return " | ".join(map(type_of, options))


def _module(source: Source) -> Iterator[str]:
    yield _HEAD
    for record in (*source.models, *source.events):
        yield from _interface(record)
    yield "/** What each event holds, by its name. */\nexport interface Payloads {"
    yield from (f"  readonly {each.name}: {each.name};" for each in source.events)
    yield "}\n"
    yield (PARTS / "client.ts").read_text()
    yield "/** Any event there is. */\nexport type AnyEvent = EventOf<keyof Payloads>;\n"
    for kind in source.kinds:
        yield from _kind(kind)


def _interface(record: Record) -> Iterator[str]:
    yield from _comment(record.about, "")
    if record.other is not None:
        yield f"export type {record.name} = {type_of(record.other)};\n"
        return
    yield f"export interface {record.name} {{"
    for field in record.fields:
        yield from _comment(field.about, "  ")
        name = field.name if field.name.isidentifier() else json.dumps(field.name)
        yield f"  readonly {name}: {type_of(field.shape)};"
    yield "}\n"


def _kind(kind: Kind) -> Iterator[str]:
    name, key = pascal(kind.name), camel(kind.key)
    names = f"{kind.name.upper()}_EVENTS"
    listed = "".join(f"  {json.dumps(event)},\n" for event in kind.events)
    yield f"const {names} = [\n{listed}] as const satisfies readonly (keyof Payloads)[];\n"
    address = f"`{kind.name}{':' * kind.keyed}`"
    yield from _comment(f"An event of a channel {address}: {kind.about}", "")
    yield f"export type {name}Event = EventOf<(typeof {names})[number]>;\n"
    yield from _comment(f"Hear a channel {address} until what this returns is closed.", "")
    yield f"export function subscribeTo{name}("
    if kind.keyed:
        yield f"  {key}: string,"
    yield f"  handlers: Handlers<(typeof {names})[number]>,"
    yield "  options?: Options,\n): Subscription {"
    channel = f"`{kind.name}:${{{key}}}`" if kind.keyed else json.dumps(kind.name)
    yield f"  return subscribe({channel}, {names}, handlers, options);\n}}\n"


def _comment(text: str, indent: str) -> Iterator[str]:
    lines = text.replace("*/", "* /").splitlines()
    if len(lines) == 1:
        yield f"{indent}/** {lines[0]} */"
    elif lines:
        yield f"{indent}/**"
        yield from (f"{indent} * {line}".rstrip() for line in lines)
        yield f"{indent} */"
