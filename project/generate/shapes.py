"""What a field may hold, in words that every language has: JSON schema, read once for all of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias


@dataclass(frozen=True, slots=True)
class Plain:
    """A `string`, `integer`, `number`, `boolean`, `null`, or `any`: whatever JSON has."""

    name: str


@dataclass(frozen=True, slots=True)
class Words:
    """One of some strings."""

    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class List:
    """Any number of the same."""

    of: "Shape"


@dataclass(frozen=True, slots=True)
class Table:
    """The same under any names."""

    of: "Shape"


@dataclass(frozen=True, slots=True)
class Model:
    """A model that is declared beside the event."""

    name: str


@dataclass(frozen=True, slots=True)
class Either:
    """One of several."""

    options: tuple["Shape", ...]


Shape: TypeAlias = Plain | Words | List | Table | Model | Either
ANY = Plain("any")
NULL = Plain("null")
_PLAIN = frozenset({"string", "integer", "number", "boolean", "null"})


@dataclass(frozen=True, slots=True)
class Field:
    """A field of an event or of a model; on the wire it is always there."""

    name: str
    shape: Shape
    about: str


def fields(schema: Mapping[str, Any]) -> tuple[Field, ...]:
    """Return the fields that a model's schema has, in their order."""
    found = schema.get("properties", {}).items()
    return tuple(Field(name, shape(field), field.get("description", "")) for name, field in found)


def shape(schema: Mapping[str, Any]) -> Shape:
    """Return what a schema lets through; what these words have no room for is `any`."""
    match schema:
        case {"$ref": str(name)}:
            return Model(name.rpartition("/")[2])
        case {"anyOf": list(options)} | {"oneOf": list(options)}:
            return _either(tuple(shape(option) for option in options))
        case {"const": str(word)}:
            return Words((word,))
        case {"enum": list(words)} if all(isinstance(word, str) for word in words):
            return Words(tuple(words))
        case {"type": "array", "items": dict(items)} if "prefixItems" not in schema:
            return List(shape(items))
        case {"type": "object", "additionalProperties": dict(values)} if "properties" not in schema:
            return Table(shape(values))
        case {"type": str(name)} if name in _PLAIN:
            return Plain(name)
        case _:
            return ANY


def _either(options: tuple[Shape, ...]) -> Shape:
    once = tuple(dict.fromkeys(options))
    return ANY if ANY in once else once[0] if len(once) == 1 else Either(once)
