"""The catalogue: what every event type is, for people and for the programs that are generated from it.

It holds the types of the installed apps, in the order of their names. What it says of one comes
from the declaration alone: docstring, version, fields, `sent_on`, and an example put together of the
fields' own, of the vocabulary and of the type's `example`. A system check refuses a type that lacks
one of these, and `declared` raises what the check says.
"""

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from django.apps import apps
from pydantic import ValidationError
from pydantic.json_schema import JsonSchemaMode

from events import channels, registry
from events.channels import INTERNAL
from events.errors import TickertapeError
from events.registry import EventType
from events.vocabulary import VOCABULARY

_MODE: JsonSchemaMode = "serialization"  # what is on the wire: every field is there
Schema = dict[str, Any]


class CatalogueIncomplete(TickertapeError):
    """The catalogue is not complete."""

    code = "catalogue_incomplete"


@dataclass(frozen=True, slots=True)
class Declared:
    """An event type as others see it. Its schema names other models as `#/$defs/<name>`."""

    name: str
    version: int
    about: str
    topic: str
    channels: tuple[str, ...]
    transient: bool
    schema: Schema
    example: Mapping[str, Any]


def declared() -> tuple[Declared, ...]:
    """Return every type that somebody can listen to, by name; raise CatalogueIncomplete."""
    if wrong := list(all_faults()):
        raise CatalogueIncomplete(" ".join(wrong))
    return tuple(_declared(kind) for kind in ours() if set(kind.sent_on) != {INTERNAL})


def all_faults() -> Iterator[str]:
    """Yield what is wrong with the catalogue."""
    found = ours()
    for kind in found:
        yield from faults(kind)
    yield from _clashes(found)


def ours() -> list[type[EventType]]:
    """Return the types that the installed apps declare, by name."""
    found = registry.types().items()
    return [kind for _, kind in sorted(found) if apps.get_containing_app_config(kind.__module__)]


def heard_on(kind: str) -> tuple[Declared, ...]:
    """Return what is heard on a kind of channel."""
    return tuple(each for each in declared() if kind in each.channels)


def faults(kind: type[EventType]) -> Iterator[str]:
    """Yield what a type lacks for the catalogue."""
    if not (kind.__doc__ or "").strip():
        yield f"{kind.name()} has no docstring."
    if not kind.sent_on:
        yield f"{kind.name()} does not say on which kinds of channels it is sent: declare `sent_on`."
    for name in kind.sent_on:
        if name != INTERNAL and name not in channels.kinds():
            yield f"{kind.name()} is sent on {name!r}, which is no kind of channel."
    try:
        kind.model_validate(example_of(kind))
    except ValidationError as error:
        for fault in error.errors():
            where = ".".join(map(str, fault["loc"]))
            yield f"{kind.name()} has no valid example of `{where}`: {fault['msg']}."


def example_of(kind: type[EventType]) -> dict[str, Any]:
    """Return an example of a payload, as it is on the wire where it is valid."""
    given: dict[str, Any] = {}
    for name, field in kind.model_fields.items():
        if name in kind.example:
            given[name] = kind.example[name]
        elif field.examples:
            given[name] = field.examples[0]
        elif name in VOCABULARY:
            given[name] = VOCABULARY[name].example
    try:
        return kind.model_validate(given).model_dump(mode="json")
    except ValidationError:
        return given


def schema_of(kind: type[EventType]) -> Schema:
    """Return the JSON schema of a payload as it is on the wire, with the meaning of each field."""
    schema = tidy(kind.model_json_schema(mode=_MODE))
    for model in (schema, *schema.get("$defs", {}).values()):
        for name, field in model.get("properties", {}).items():
            if name in VOCABULARY:
                field.setdefault("description", VOCABULARY[name].about)
    return schema


def tidy(schema: Schema) -> Schema:
    """Return a model's schema without the titles that pydantic makes of names.

    Nor does it forbid fields that it does not name: a later version may have more.
    """
    for model in (schema, *schema.get("$defs", {}).values()):
        model.pop("title", None)
        if model.get("additionalProperties") is False:
            del model["additionalProperties"]
        for field in model.get("properties", {}).values():
            field.pop("title", None)
    return schema


def _declared(kind: type[EventType]) -> Declared:
    schema = schema_of(kind)
    schema.pop("description", None)
    return Declared(
        name=kind.name(),
        version=kind.version,
        about=inspect.cleandoc(kind.__doc__ or ""),
        topic=kind.__module__.rpartition(".")[2],
        channels=tuple(name for name in channels.kinds() if name in kind.sent_on),
        transient=kind.transient,
        schema=schema,
        example=example_of(kind),
    )


def _clashes(found: list[type[EventType]]) -> Iterator[str]:
    """Yield which names mean two things: of types that differ in case only, and of models in payloads."""
    folded: dict[str, str] = {}
    for kind in found:
        other = folded.setdefault(kind.name().lower(), kind.name())
        if other != kind.name():
            yield f"{other} and {kind.name()} differ in nothing but small and large letters."
    models: dict[str, Schema] = {}
    for kind in found:
        for name, model in schema_of(kind).get("$defs", {}).items():
            if name.lower() in folded:
                yield f"{kind.name()} holds a model called {name}, as an event is."
            elif models.setdefault(name, model) != model:
                yield f"Two models in payloads are called {name}, and are not the same."
