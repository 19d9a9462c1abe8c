"""Elm: records, decoders, a union for each channel and topic, and subscriptions over two ports."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from events.catalogue import CatalogueIncomplete
from project.generate.shapes import Either, List, Model, Plain, Shape, Table, Words
from project.generate.source import PARTS, Kind, Record, Source, camel, pascal

_WRITTEN = "Written by `manage.py generate_client --lang elm` from the catalogue of events: not to be edited."
_PLAIN = {"string": "String", "integer": "Int", "number": "Float", "boolean": "Bool"}
_RESERVED = {"if", "then", "else", "case", "of", "let", "in", "type", "module", "where", "import", "exposing"}
_RESERVED |= {"as", "port", "infix"}
_NULL = Plain("null")
_VALUE = "Decode.Value", "Decode.value"
_EVENTS = f"""{{-| What events hold, and how to read it. {_WRITTEN} -}}

import Dict exposing (Dict)
import Json.Decode as Decode exposing (Decoder)


{{-| An event as the ports hand it on. -}}
type alias Received =
    {{ channel : String, event : String, id : String, data : Decode.Value }}


receivedDecoder : Decoder Received
receivedDecoder =
    Decode.map4 Received
        (Decode.field "channel" Decode.string)
        (Decode.field "event" Decode.string)
        (Decode.field "id" Decode.string)
        (Decode.field "data" Decode.value)


with : String -> Decoder a -> Decoder (a -> b) -> Decoder b
with name decoder =
    Decode.map2 (|>) (Decode.field name decoder)

"""
_PORTS = f"""port module Tickertape.Ports exposing (listen, received)

{{-| The way to JavaScript and back: `tickertape.js` is the other side. {_WRITTEN} -}}

import Json.Decode as Decode


{{-| Say which channels are wanted, all of them: `[ "item:42", "system" ]`. -}}
port listen : List String -> Cmd msg


port received : (Decode.Value -> msg) -> Sub msg
"""


@dataclass(frozen=True, slots=True)
class Stream:
    """A module of its own: what is heard on a kind of channel, all of it or that of one topic."""

    module: str
    union: str
    function: str
    kind: Kind
    events: Sequence[str]


def write(source: Source) -> dict[str, str]:
    """Return the files, by their names; raise CatalogueIncomplete for names that cannot be."""
    streams = [*map(_of_kind, source.kinds)]
    for topic in source.topics:
        one = topic.name.removesuffix("s")
        plural, union = pascal(topic.name), f"{pascal(one)}StreamEvent"
        if plural not in {stream.module for stream in streams}:
            streams.append(Stream(plural, union, f"subscribeTo{plural}", topic.kind, topic.events))
    names = [*source.controls, *(each.name for each in source.events)]
    script = f"// {_WRITTEN}\nconst NAMES = {json.dumps(names, indent=2)};\n\n"
    source.refuse({"Received", "Other", "Dict", "Decoder", *_controls(source)}, "Elm")
    return {
        "elm.json": json.dumps(_PACKAGE, indent=4),
        "src/Tickertape/Events.elm": "\n".join(_events(source)),
        "src/Tickertape/Ports.elm": _PORTS,
        "tickertape.js": script + (PARTS / "tickertape.js").read_text(),
        **{f"src/Tickertape/{each.module}.elm": "\n".join(_stream(each, source)) for each in streams},
    }


_PACKAGE = {
    "type": "application",
    "source-directories": ["src"],
    "elm-version": "0.19.1",
    "dependencies": {"direct": {"elm/core": "1.0.5", "elm/json": "1.1.3"}, "indirect": {}},
    "test-dependencies": {"direct": {}, "indirect": {}},
}


def _of_kind(kind: Kind) -> Stream:
    name = pascal(kind.name)
    return Stream(name, f"{name}StreamEvent", f"subscribeTo{name}", kind, kind.events)


def _controls(source: Source) -> list[str]:
    return [each.name for each in source.controls.values()]


# --- Records and decoders -------------------------------------------------------------------------


def _events(source: Source) -> Iterator[str]:
    records = (*source.models, *source.events, *source.controls.values())
    names = ["Received", "receivedDecoder"]
    for record in records:
        names += [record.name, _decoder_of(record.name)]
    yield f"module Tickertape.Events exposing\n    ( {f'{chr(10)}    , '.join(names)}\n    )\n"
    yield _EVENTS
    for record in records:
        yield from _record(record)


def _record(record: Record) -> Iterator[str]:
    decoder, shape = _decoder_of(record.name), record.other
    yield from _comment(record.about)
    if shape is not None:
        kind, how = _elm(shape, record.name)
        yield f"type alias {record.name} =\n    {kind}\n\n"
        yield f"{decoder} : Decoder {record.name}\n{decoder} =\n    {how}\n\n"
        return
    fields = [(_field(each.name), each.name, *_elm(each.shape, record.name)) for each in record.fields]
    if len({field[0] for field in fields}) < len(fields):
        raise CatalogueIncomplete(f"Two fields of {record.name} have the same name in Elm.")
    inner = "{ " + "\n    , ".join(f"{name} : {kind}" for name, _, kind, _ in fields) + "\n    }"
    yield f"type alias {record.name} =\n    {inner if fields else '{}'}\n\n"
    yield f"{decoder} : Decoder {record.name}"
    if fields:
        steps = "".join(f"\n        |> with {json.dumps(wire)} {how}" for _, wire, _, how in fields)
        yield f"{decoder} =\n    Decode.succeed {record.name}{steps}\n\n"
    else:
        yield f"{decoder} =\n    Decode.succeed {{}}\n\n"


def _elm(shape: Shape, within: str) -> tuple[str, str]:
    """Return a shape as an Elm type and its decoder, each ready to stand as an argument."""
    match shape:
        case Words():
            return "String", "Decode.string"
        case Plain(name) if name in _PLAIN:
            return _PLAIN[name], f"Decode.{_PLAIN[name].lower()}"
        case List(of):
            kind, how = _elm(of, within)
            return f"List {_argument(kind)}", f"(Decode.list {how})"
        case Table(of):
            kind, how = _elm(of, within)
            return f"Dict String {_argument(kind)}", f"(Decode.dict {how})"
        case Model(name) if name != within:  # an alias cannot hold itself
            return name, f"(Decode.lazy (\\_ -> {_decoder_of(name)}))"
        case Either(options):
            return _either([option for option in options if option != _NULL], _NULL in options, within)
        case _:
            return _VALUE


def _either(options: Sequence[Shape], null: bool, within: str) -> tuple[str, str]:
    if set(options) <= {Plain("integer"), Plain("number")}:
        options = [Plain("number")] if len(options) > 1 else options
    if all(isinstance(option, Words) for option in options):
        options = options[:1]
    if len(options) != 1:
        return _VALUE
    kind, how = _elm(options[0], within)
    return (f"Maybe {_argument(kind)}", f"(Decode.nullable {how})") if null else (kind, how)


def _argument(kind: str) -> str:
    return f"({kind})" if " " in kind else kind


def _field(name: str) -> str:
    words = camel(re.sub(r"[^A-Za-z0-9_]", "_", name).strip("_")) or "field"
    known = words[:1].lower() + words[1:] if words[0].isalpha() else f"n{words}"
    return f"{known}_" if known in _RESERVED else known


def _decoder_of(name: str) -> str:
    return f"{name[:1].lower()}{name[1:]}Decoder"


# --- Streams ----------------------------------------------------------------------------------------


def _stream(stream: Stream, source: Source) -> Iterator[str]:
    names = [*stream.events, *_controls(source)]
    on_wire = dict(zip([*stream.events, *source.controls], names, strict=True))
    kind, key = stream.kind, camel(stream.kind.key)
    yield f"module Tickertape.{stream.module} exposing ({stream.union}(..), channel, {stream.function})\n"
    yield from _comment(f"{kind.about} {_WRITTEN}")
    yield "\nimport Json.Decode as Decode exposing (Decoder)\nimport Tickertape.Events as Events"
    yield "import Tickertape.Ports\n\n"
    yield "{-| `Other` is of another channel, or not known here. On `StreamReset`, load anew. -}"
    yield f"type {stream.union}"
    for mark, name in zip("=" + "|" * len(names), names, strict=False):
        yield f"    {mark} {name} Events.{name}"
    yield "    | Other Events.Received\n\n"
    address = f'"{kind.name}:" ++ {key}' if kind.keyed else f'"{kind.name}"'
    yield "{-| The channel's name, for `Tickertape.Ports.listen`. -}"
    yield f"channel : {'String -> ' * kind.keyed}String\nchannel {f'{key} ' * kind.keyed}=\n    {address}\n\n"
    yield f"{stream.function} : {'String -> ' * kind.keyed}({stream.union} -> msg) -> Sub msg"
    given = f"{key} " * kind.keyed
    here = f"(channel {key})" if kind.keyed else "channel"
    yield f"{stream.function} {given}toMsg =\n    Tickertape.Ports.received (read {here} >> toMsg)\n\n"
    yield f"read : String -> Decode.Value -> {stream.union}\nread wanted value ="
    yield "    case Decode.decodeValue Events.receivedDecoder value of"
    yield "        Ok received ->\n            if received.channel == wanted then"
    yield "                Decode.decodeValue (decoder received.event) received.data"
    yield "                    |> Result.withDefault (Other received)\n"
    yield "            else\n                Other received\n"
    yield '        Err _ ->\n            Other { channel = "", event = "", id = "", data = value }\n\n'
    yield f"decoder : String -> Decoder {stream.union}\ndecoder event =\n    case event of"
    for wire, name in on_wire.items():
        yield f"        {json.dumps(wire)} ->\n            Decode.map {name} Events.{_decoder_of(name)}\n"
    yield '        _ ->\n            Decode.fail "not known"'


def _comment(text: str) -> Iterator[str]:
    if text:
        yield "{-| " + text.replace("-}", "- }").replace("{-", "{ -") + " -}"
