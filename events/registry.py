"""Event types: what an event of a name holds, declared once as a pydantic model.

A type's wire name is its class's name. Its JSON is made here and nowhere else, so what
is stored is byte for byte what every client gets; but for events of an older version of their
type, which whoever reads them, a program or a client, gets in the shape of today.
"""

import json
import logging
import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from events.errors import FieldError, PayloadInvalid

MAX_SAFE_INTEGER = 2**53 - 1  # past it, JavaScript's numbers are no longer exact (ECMA-262 21.1.2.6)
MAX_DEPTH = 64  # deeper nesting overflows the recursive parsers that some clients have
_SURROGATE = re.compile("[\ud800-\udfff]")
_NAME = re.compile(r"[A-Z][A-Za-z0-9]{0,63}")
# JSON leaves these raw, yet clients that split with `str.splitlines` take them for line ends.
_LINE_ENDS = {0x85: "\\u0085", 0x2028: "\\u2028", 0x2029: "\\u2029"}

_DOUBTFUL = ("\x85", "\u2028", "\u2029", "\\u0000")
_PLAIN = {str, float, bool, type(None)}  # of floats, JSON is made only of those that are finite
_dumps = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode

ACTOR = "@actor"  # in `EventType.personal`: whoever made the event

logger = logging.getLogger(__name__)
Upcast = Callable[[dict[str, Any]], dict[str, Any]]  # a payload of one version to one of the next

_types: dict[str, type["EventType"]] = {}


class EventType(BaseModel):
    """A kind of event: subclass it, name it in the past tense, declare the payload's fields.

    `personal` names the fields that hold what somebody wrote or is called by, each with whose it
    is: the field that holds their id, several of them, or `ACTOR`. Erasing a person overwrites
    these, so each must be one that may hold any string. A `transient` type is never in the log.

    What is declared of a type besides its fields is what others build on: `sent_on` names the kinds
    of channels it goes to (`append` takes no other that somebody may read), and `example` is what
    of a payload the fields' own examples and the vocabulary do not say.

    A type that is in a log already keeps its shape. One that must change gets a new `version` and,
    in `upcasts`, what makes a payload of each older version into one of the next; the personal
    fields that only older versions have are in `once_personal`. Erased ones hold any string, too.
    """

    # What is sent holds every field, those with a default too: a schema of it says so.
    model_config = ConfigDict(frozen=True, extra="forbid", json_schema_serialization_defaults_required=True)

    version: ClassVar[int] = 1
    personal: ClassVar[Mapping[str, str | tuple[str, ...]]] = {}
    once_personal: ClassVar[Mapping[str, str | tuple[str, ...]]] = {}
    transient: ClassVar[bool] = False
    sent_on: ClassVar[tuple[str, ...]] = ()
    example: ClassVar[Mapping[str, Any]] = {}
    upcasts: ClassVar[Mapping[int, Upcast]] = {}

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Enter the type into the registry; raise TypeError where the name is taken or malformed."""
        super().__pydantic_init_subclass__(**kwargs)
        if not _NAME.fullmatch(cls.__name__):
            raise TypeError(f"{cls.__name__} cannot be an event's name: use CamelCase letters and digits")
        if set(cls.upcasts) != set(range(1, cls.version)):
            raise TypeError(
                f"{cls.__name__} is at version {cls.version}: it needs an upcast from each before"
            )
        for field, whose in _each(cls.personal):
            found = cls.model_fields.get(field)
            if found is None or (found.annotation not in (str, str | None) and found.annotation is not Any):
                raise TypeError(f"{cls.__name__}.{field} is personal: it must be a field that holds a string")
            if whose != ACTOR and whose not in cls.model_fields:
                raise TypeError(f"{cls.__name__}.{field} is personal to {whose}, which is no field of it")
        taken = _types.setdefault(cls.__name__, cls)
        if taken is not cls and (taken.__module__, taken.__qualname__) != (cls.__module__, cls.__qualname__):
            raise TypeError(
                f"two event types are called {cls.__name__}: {taken.__module__} and {cls.__module__}"
            )
        _types[cls.__name__] = cls

    @classmethod
    def name(cls) -> str:
        """Return the name the type has on the wire."""
        return cls.__name__

    @classmethod
    def personal_fields(cls) -> Iterator[tuple[str, str]]:
        """Yield each personal field, those of older versions too, with each whose it is."""
        yield from _each(cls.personal)
        yield from _each(cls.once_personal)


def _each(personal: Mapping[str, str | tuple[str, ...]]) -> Iterator[tuple[str, str]]:
    for field, whose in personal.items():
        for one in (whose,) if isinstance(whose, str) else whose:
            yield field, one


def types() -> Mapping[str, type[EventType]]:
    """Return every declared type by its wire name."""
    return _types


class VersionUnknown(LookupError):
    """An event is of a newer version than its type is here."""


def decode(name: str, version: int, data: str) -> EventType:
    """Return a stored event as its type is today.

    Raises KeyError where the type is not declared, and VersionUnknown where whoever wrote it is
    newer. The data is what was validated at append, so it is not validated strictly again.
    """
    kind = _types[name]
    if version > kind.version:
        raise VersionUnknown(f"{name} is at version {kind.version} here, and this event at {version}")
    if version < kind.version:
        payload = json.loads(data)
        for older in range(version, kind.version):
            payload = kind.upcasts[older](payload)
        data = json.dumps(payload)
    return kind.model_validate_json(data)


def current(name: str, version: int, data: str) -> tuple[int, str]:
    """Return the version and the data that a stored event is sent in: its type's of today.

    What is not older is left alone, byte for byte. An upcast that fails must not stop everyone's
    streams: its event is sent as it was stored, and what reacts to it fails by itself.
    """
    kind = _types.get(name)
    if kind is None or version >= kind.version:
        return version, data
    try:
        return kind.version, encode(decode(name, version, data).model_dump(mode="json"))
    except Exception as error:
        facts = {"type": name, "version": version, "error": type(error).__name__}
        logger.error("An event could not be upcast; it is sent as it was stored.", extra=facts)
        return version, data


def encode(payload: Mapping[str, Any]) -> str:
    """Return the payload as one line of JSON.

    Raises PayloadInvalid for what would fail on its way or arrive changed: NUL, lone
    surrogates, integers past 2^53 - 1, NaN and infinities, keys that are not strings.
    """
    try:
        line = _dumps(payload)
        if _is_plain(payload, line):
            return line
    except (TypeError, ValueError, RecursionError):
        pass  # what is wrong with it is found below
    errors = tuple(_faults(payload, "", 0))
    if errors:
        raise PayloadInvalid(errors=errors)
    return one_line(_dumps(payload))


def _is_plain(payload: Mapping[str, Any], line: str) -> bool:
    """Tell whether a payload is so plain that nothing can be wrong with it: nearly every event's is.

    One object, lists of plain values at the most within it, and nothing that looks like what `_fault`
    refuses. Raises UnicodeEncodeError, a ValueError, for half of a character.
    """
    if any(each in line for each in _DOUBTFUL) or set(map(type, payload)) != {str}:
        return False
    for value in payload.values():
        kind = type(value)
        if kind is int:
            if not -MAX_SAFE_INTEGER <= value <= MAX_SAFE_INTEGER:
                return False
        elif kind is list:
            if not _PLAIN.issuperset(map(type, value)):
                return False
        elif kind not in _PLAIN:
            return False
    line.encode()
    return True


def one_line(text: str) -> str:
    """Return JSON without what some take for the end of a line."""
    return text.translate(_LINE_ENDS)


def _faults(value: Any, path: str, depth: int) -> Iterator[FieldError]:
    """Yield what is wrong with a value and all it holds, each by its path."""
    if isinstance(value, Mapping | list | tuple):
        if depth >= MAX_DEPTH:
            yield FieldError(path, f"is nested deeper than {MAX_DEPTH}")
            return
        for at, inner in _inside(value, path):
            yield from _faults(inner, at, depth + 1)
        if isinstance(value, Mapping):
            for key in value:
                message = _fault(key) if isinstance(key, str) else "has a key that is not a string"
                if message:
                    yield FieldError(path, message)
    elif message := _fault(value):
        yield FieldError(path, message)


def _inside(value: Mapping[Any, Any] | list[Any] | tuple[Any, ...], path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if isinstance(key, str):
                yield (f"{path}.{key}" if path else key), inner
    else:
        for index, inner in enumerate(value):
            yield f"{path}[{index}]", inner


def _fault(value: Any) -> str | None:
    """Return what is wrong with a single value, or None."""
    match value:
        case None | bool():
            return None
        case str() if "\x00" in value:
            return "must not contain NUL"
        case str():
            return "must not contain a lone surrogate" if _SURROGATE.search(value) else None
        case int():
            return "is past 2^53 - 1: send it as a string" if abs(value) > MAX_SAFE_INTEGER else None
        case float():
            return None if math.isfinite(value) else "must be a finite number"
        case _:
            return f"is a {type(value).__name__}, which JSON has no form for"
