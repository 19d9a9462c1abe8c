"""TypeScript: types by their names."""

import json

from project.generate.shapes import Either, List, Model, Plain, Shape, Table, Words

_PLAIN = {"integer": "number", "any": "unknown"}


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
