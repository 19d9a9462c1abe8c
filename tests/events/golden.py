"""What each version of each event type looks like in a log, kept for good.

    python manage.py shell -c "from tests.events import golden; golden.write()"

writes what is lacking, and never changes what is there: a type that must have another shape gets
a new version. One that no release holds yet may have its file removed and written again.
"""

import json
from pathlib import Path
from typing import Any

from events import catalogue, registry
from events.registry import EventType

FOLDER = Path(__file__).with_name("golden")
_WORDS = ("title", "description", "examples", "default")  # what may change without a new version


def path(name: str, version: int) -> Path:
    return FOLDER / f"{name}.{version}.json"


def shape(kind: type[EventType]) -> Any:
    """Return what the fields of a type are, without what is only said of them."""
    schema = catalogue.schema_of(kind)
    models = {"payload": schema, **schema.pop("$defs", {})}
    return {name: _bare(model) for name, model in models.items()}


def _bare(model: dict[str, Any]) -> dict[str, Any]:
    fields = model.get("properties", {}).items()
    bare = {name: {key: field[key] for key in sorted(field) if key not in _WORDS} for name, field in fields}
    return {"fields": bare} if fields else {key: model[key] for key in model if key not in _WORDS}


def golden(kind: type[EventType]) -> dict[str, Any]:
    """Return what a type's file holds: the fields, and an event as it is stored."""
    return {"shape": shape(kind), "data": registry.encode(catalogue.example_of(kind))}


def text(held: dict[str, Any]) -> str:
    return json.dumps(held, indent=2, ensure_ascii=False) + "\n"


def write() -> list[str]:
    """Write what is lacking; return the files' names."""
    assert not list(catalogue.all_faults()), list(catalogue.all_faults())
    lacking = [kind for kind in catalogue.ours() if not path(kind.name(), kind.version).exists()]
    for kind in lacking:
        path(kind.name(), kind.version).write_text(text(golden(kind)))
    return [path(kind.name(), kind.version).name for kind in lacking]
