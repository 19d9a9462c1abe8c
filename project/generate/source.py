"""What every language's client is written from: the catalogue, with the fields in shapes."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from events import catalogue, channels
from events.catalogue import CatalogueIncomplete, Schema
from project.generate.shapes import Field, Shape, fields, shape
from streams.wire import CONTROLS

PARTS = Path(__file__).with_name("parts")


@dataclass(frozen=True, slots=True)
class Record:
    """An event's payload, or a model within one: the fields that it has, or else what it is."""

    name: str
    about: str
    fields: tuple[Field, ...]
    other: Shape | None = None


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of channel, with the names of the events that are heard there."""

    name: str
    keyed: bool
    about: str
    events: tuple[str, ...]

    @property
    def key(self) -> str:
        """Return what a channel's key is called: `item_id`, `group_name`."""
        return f"{self.name}_{'name' if self.name == 'group' else 'id'}"


@dataclass(frozen=True, slots=True)
class Topic:
    """What is told of one topic, where all of it is heard on one kind of channel."""

    name: str
    kind: Kind
    events: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Source:
    """All there is to write; `controls` are by the names they have on the wire."""

    models: tuple[Record, ...]
    events: tuple[Record, ...]
    controls: dict[str, Record]
    kinds: tuple[Kind, ...]
    topics: tuple[Topic, ...]

    def refuse(self, taken: Collection[str], language: str) -> None:
        """Raise CatalogueIncomplete where something of the catalogue is called as something of a client."""
        names = [record.name for record in (*self.models, *self.events)]
        if clashing := sorted({*names} & {*taken}):
            raise CatalogueIncomplete(
                f"{clashing[0]} is what something else is called in {language}: choose another name."
            )


def source() -> Source:
    """Return what the catalogue says; raise CatalogueIncomplete."""
    types = catalogue.declared()
    models = {name: model for each in types for name, model in each.schema.get("$defs", {}).items()}
    kinds = tuple(
        Kind(kind.name, kind.key is not None, kind.about, _heard(types, kind.name))
        for _, kind in sorted(channels.kinds().items())
    )
    return Source(
        models=tuple(_record(name, models[name]) for name in sorted(models)),
        events=tuple(_record(each.name, each.schema, each.about) for each in types),
        controls={
            name: _record(control.__name__, catalogue.tidy(control.model_json_schema(mode="serialization")))
            for name, control in CONTROLS.items()
        },
        kinds=kinds,
        topics=tuple(_topics(types, {kind.name: kind for kind in kinds})),
    )


def _heard(types: tuple[catalogue.Declared, ...], kind: str) -> tuple[str, ...]:
    return tuple(each.name for each in types if kind in each.channels)


def _topics(types: tuple[catalogue.Declared, ...], kinds: dict[str, Kind]) -> Iterator[Topic]:
    for name in sorted({each.topic for each in types}):
        told = [each for each in types if each.topic == name]
        where = {kind for each in told for kind in each.channels}
        if len(where) == 1:
            yield Topic(name, kinds[where.pop()], tuple(each.name for each in told))


def _record(name: str, schema: Schema, about: str = "") -> Record:
    found = fields(schema)
    told = about or schema.get("description", "")
    return Record(name, told, found, None if found or schema.get("type") == "object" else shape(schema))


def camel(name: str) -> str:
    """Return a name in camelCase."""
    first, *others = name.split("_")
    return first + "".join(map(pascal, others))


def pascal(name: str) -> str:
    """Return a name in PascalCase."""
    return "".join(word[:1].upper() + word[1:] for word in name.split("_"))
