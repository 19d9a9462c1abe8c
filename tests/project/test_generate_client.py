"""The generated clients: up to date, strict in their own language, and at work on a real service."""

import asyncio
import json
import re
import socket
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import pytest
from django.core.management import CommandError, call_command

from events import registry
from events.catalogue import CatalogueIncomplete, declared
from events.registry import EventType
from streams import wire
from tests import node
from tests.project.generated import (
    CLIENTS,
    HERE,
    WRITERS,
    copy,
    elm_make,
    mypy,
    odd,
    older,
    running,
    tsc,
    write,
)
from tests.proxy import Pair, Proxy
from tests.stack import ROOT, eventually
from tests.test_end_to_end import comment, item_of


def files(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def cookie(client: httpx.Client) -> str:
    return "; ".join(f"{name}={value}" for name, value in client.cookies.items())


# --- The command ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", WRITERS)
def test_the_committed_client_is_what_the_catalogue_gives(language, stack, tmp_path):
    # A process of its own: here, tests have declared more.
    printed = stack.manage("generate_client", "--lang", language, "--out", str(tmp_path))

    assert files(tmp_path) == files(CLIENTS / language), f"run manage.py generate_client --lang {language}"
    assert len(printed.splitlines()) == len(files(tmp_path))


def test_the_same_catalogue_gives_the_same_bytes():
    code = (
        "from tests.project.generated import *; import hashlib;"
        "print(hashlib.sha256(repr([write(odd()) for write in WRITERS.values()]).encode()).hexdigest())"
    )
    command = [sys.executable, "manage.py", "shell", "--verbosity=0", "-c", code]
    said = {
        subprocess.run(
            command, cwd=ROOT, env={"TICKERTAPE_MODE": "test", "PYTHONHASHSEED": seed}, text=True,
            capture_output=True, check=True,
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(said) == 1


def test_a_language_that_there_is_not(tmp_path):
    with pytest.raises(CommandError, match="no client in 'cobol': use one of elm, python, typescript"):
        call_command("generate_client", lang="cobol", out=tmp_path)
    assert files(tmp_path) == {}


def test_a_catalogue_that_is_not_complete_gives_no_client(tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "_types", dict(registry.types()))
    said = {
        "__module__": "events.comments",
        "__annotations__": {"order": int},
        "__doc__": "It was.",
        "sent_on": ("item",),
    }
    type("OrderShipped", (EventType,), said)

    with pytest.raises(CommandError, match="OrderShipped has no valid example of `order`"):
        call_command("generate_client", lang="python", out=tmp_path)
    assert files(tmp_path) == {}


@pytest.mark.parametrize(
    ("language", "name"),
    [
        ("typescript", "EventOf"),
        ("typescript", "SystemEvent"),
        ("python", "Payload"),
        ("python", "StreamEnd"),
        ("elm", "Received"),
        ("elm", "StreamOpen"),
    ],
)
def test_a_name_that_the_client_needs_itself_is_refused(language, name):
    with pytest.raises(CatalogueIncomplete, match=f"{name} is what something else is called"):
        WRITERS[language](odd(name))


# --- TypeScript ----------------------------------------------------------------------------------------

RIGHT = """
import { connect, subscribeToItem, subscribeToJob, subscribeToSystem, subscribeToUser } from "./tickertape";
import type { ItemEvent } from "./tickertape";

function words(event: ItemEvent): string {
  switch (event.type) {
    case "CommentAdded":
      return event.data.text;
    case "CommentUpdated":
      return event.data.new_text;
    default:
      return event.id ?? "not in the log";
  }
}
const client = connect({ onState: (state) => state satisfies string });
const subscription = subscribeToItem(
  "42",
  { CommentAdded: (comment, event) => words(event) + comment.author_name, each: words },
  { after: "earliest", onReset: ({ reason }) => reason.length, onOver: ({ status }) => status + 1, client },
);
subscription.ready.then((place) => place.length);
subscription.close();
subscribeToUser("7", { NotificationRaised: ({ item_id }) => item_id?.length });
subscribeToJob("x", { JobProgressed: ({ done, total }) => done / (total ?? done) });
subscribeToSystem({ SystemAlert: ({ severity }) => severity satisfies "info" | "warning" | "critical" });
"""
WRONG = {
    "a field that there is not": ("event.data.text", "event.data.txt", "TS2551"),
    "another field of another event": ("event.data.new_text", "event.data.text", "TS2339"),
    "a null that was not thought of": ("item_id?.length", "item_id.length", "TS18047"),
    "a null in a sum": ("(total ?? done)", "total", "TS18047"),
    "an id that there is not": ('?? "not in the log"', "", "TS2322"),
    "an option that there is not": ("after:", "since:", "TS2353"),
    "an event that there is not": ("NotificationRaised:", "NotificationRisen:", "TS2561"),
    "an event of another channel": ("JobProgressed: ({ done, total }) => done / (total ?? done)",
                                    "CommentAdded: () => undefined", "TS2353"),
    "a word that there is not": ('"info" | ', "", "TS1360"),
    "a type of event that there is not": ('case "CommentUpdated"', 'case "CommentEdited"', "TS2678"),
    "no id": ('"42",', "", "TS2345"),
}  # fmt: skip


def test_the_typescript_is_strict(tmp_path):
    folder = copy("typescript", tmp_path)
    (folder / "use.ts").write_text(RIGHT)

    assert tsc(folder) == ""


def test_what_is_wrong_does_not_compile(tmp_path):
    folder = copy("typescript", tmp_path)
    for number, (right, wrong, _) in enumerate(WRONG.values()):
        assert RIGHT.count(right) == 1
        (folder / f"use{number}.ts").write_text(RIGHT.replace(right, wrong))

    said = tsc(folder)

    found = re.findall(r"(?m)^(\S+?)\(\d+,\d+\): error (TS\d+):", said)
    assert {file for file, _ in found} == {f"use{number}.ts" for number in range(len(WRONG))}
    for number, (what, (_, _, code)) in enumerate(WRONG.items()):
        assert (f"use{number}.ts", code) in found, (what, said)


def test_the_typescript_hears_what_happens(stack, server, tmp_path):
    alice = stack.login("alice", server)
    item = item_of(alice)
    folder = copy("typescript", tmp_path)
    assert tsc(folder) == ""

    program = node.need(), HERE / "node/heard.mjs", folder / "out/tickertape.js"
    with running(*program, server, cookie(alice), item) as (lines, process):
        said = map(json.loads, lines)
        assert next(said) == ["ready"]
        added = comment(alice, item, "Hello from “TypeScript” 🎉")
        assert next(said)[:2] == ["added", "Hello from “TypeScript” 🎉"]
        assert next(said) == ["each", "CommentAdded"]
        alice.delete(f"/api/comments/{added}")
        assert next(said) == ["deleted", added]
        assert list(said) == [["each", "CommentDeleted"]]
        assert process.wait(30) == 0


def test_what_is_newer_than_the_typescript_stops_nothing(stack, server, tmp_path):
    alice = stack.login("alice", server)
    item = item_of(alice)
    assert tsc(write("typescript", older(), tmp_path)) == ""

    program = node.need(), HERE / "node/heard.mjs", tmp_path / "out/tickertape.js"
    with running(*program, server, cookie(alice), item) as (lines, process):
        said = map(json.loads, lines)
        assert next(said) == ["ready"]
        added = comment(alice, item, "one")
        assert [next(said)[0], next(said)] == ["added", ["each", "CommentAdded"]]
        assert alice.patch(f"/api/comments/{added}", json={"text": "two"}).status_code == 200
        alice.delete(f"/api/comments/{added}")
        assert list(said) == [["deleted", added], ["each", "CommentDeleted"]]
        assert process.wait(30) == 0


# --- Python ---------------------------------------------------------------------------------------------

TYPED = """
import httpx
import tickertape_events as events


def show(client: httpx.Client) -> str:
    for received in events.item_events(client, "42", last_event_id="earliest"):
        match received.data:
            case events.CommentAdded() as comment:
                return comment.text + comment.author_name
            case events.StreamReset(reason=reason):
                return reason
            case events.UnknownEvent(data=data):
                return f"{received.event} {data}"
    return ""


async def count(client: httpx.AsyncClient) -> float:
    async for received in events.async_job_events(client, "x"):
        if isinstance(received.data, events.JobProgressed):
            return received.data.done / (received.data.total or 1)
    return 0
"""
UNTYPED = {
    "a field that there is not": ("comment.text", "comment.txt", '"CommentAdded" has no attribute "txt"'),
    "a None that was not thought of": ("(received.data.total or 1)", "received.data.total", "Unsupported"),
    "a place that is none": ('last_event_id="earliest"', "last_event_id=7", "incompatible type"),
    "a client of the other kind": ("client: httpx.AsyncClient", "client: httpx.Client", "incompatible type"),
}  # fmt: skip


def test_the_python_is_strict(tmp_path):
    folder = copy("python", tmp_path)
    (folder / "use.py").write_text(TYPED)

    assert mypy(folder, "use.py", "tickertape_events.py") == ""


def test_what_is_wrong_is_found_by_mypy(tmp_path):
    folder = copy("python", tmp_path)
    for number, (right, wrong, _) in enumerate(UNTYPED.values()):
        assert TYPED.count(right) == 1
        (folder / f"use{number}.py").write_text(TYPED.replace(right, wrong))

    said = mypy(folder, *(f"use{number}.py" for number in range(len(UNTYPED)))).splitlines()

    for number, (what, (_, _, wanted)) in enumerate(UNTYPED.items()):
        assert [line for line in said if line.startswith(f"use{number}.py:") and wanted in line], (what, said)


@pytest.fixture(scope="module")
def events():
    """The generated module, imported from where it lies."""
    sys.path.insert(0, str(CLIENTS / "python"))
    try:
        import tickertape_events

        yield tickertape_events
    finally:
        sys.path.remove(str(CLIENTS / "python"))


@pytest.mark.parametrize("each", declared(), ids=lambda each: each.name)
def test_a_model_reads_what_is_sent_also_with_a_field_more(events, each):
    model = getattr(events, each.name)

    assert model.model_validate(each.example).model_dump(mode="json", by_alias=True) == each.example
    assert model.model_validate({**each.example, "newer": 1}) == model.model_validate(each.example)


def test_a_loop_in_python_goes_on_where_it_was_cut_off(stack, server, events, monkeypatch):
    monkeypatch.setattr(events, "FIRST_WAIT_SECONDS", 0.05)
    alice = stack.login("alice", server)
    item = item_of(alice)
    comment(alice, item, "one")
    got = []

    with Proxy(server) as proxy, httpx.Client(base_url=proxy.url, cookies=alice.cookies) as client:

        def listen() -> None:
            for received in events.item_events(client, str(item), last_event_id="earliest"):
                got.append(received)
                if isinstance(received.data, events.CommentAdded) and received.data.text == "three":
                    return

        listening = threading.Thread(target=listen)
        listening.start()
        eventually(lambda: [each for each in got if each.event == "CommentAdded"])
        proxy.cut()
        comment(alice, item, "two")
        proxy.restore()
        eventually(lambda: [each for each in got if each.event == "CommentAdded"][1:])
        comment(alice, item, "three")
        listening.join(20)

    texts = [each.data.text for each in got if isinstance(each.data, events.CommentAdded)]
    assert texts == ["one", "two", "three"]
    assert [each.data.mode for each in got if isinstance(each.data, events.StreamOpen)] == [
        "resumed",
        "resumed",
    ]


async def test_an_asynchronous_loop_hears_the_same(stack, server, events):
    alice = await asyncio.to_thread(stack.login, "alice", server)
    item = await asyncio.to_thread(item_of, alice)
    got = []

    async with httpx.AsyncClient(base_url=server, cookies=alice.cookies) as client, asyncio.timeout(20):
        async for received in events.async_item_events(client, str(item)):
            got.append(received)
            if isinstance(received.data, events.StreamOpen):
                await asyncio.to_thread(comment, alice, item, "Hello")
            if isinstance(received.data, events.CommentAdded):
                break

    assert {each.event for each in got} <= {"stream.open", "PresenceChanged", "CommentAdded"}
    assert got[-1].data.text == "Hello"
    assert got[-1].id != got[0].id


def test_what_is_newer_than_the_python_is_handed_on_as_it_came(stack, server, tmp_path, monkeypatch):
    write("python", older(), tmp_path)
    (tmp_path / "tickertape_events.py").rename(tmp_path / "older_events.py")
    assert mypy(tmp_path, "older_events.py") == ""
    monkeypatch.syspath_prepend(tmp_path)
    import older_events as older_

    alice = stack.login("alice", server)
    item = item_of(alice)
    cursor = alice.get(f"/api/items/{item}/comments").json()["cursor"]
    added = comment(alice, item, "one")
    assert alice.patch(f"/api/comments/{added}", json={"text": "two"}).status_code == 200
    alice.delete(f"/api/comments/{added}")
    comment(alice, item, "three")

    def heard(received):
        return [each for each in received if each.event.startswith("Comment")]

    def last(received):
        return isinstance(received.data, older_.CommentAdded) and received.data.text == "three"

    got = []
    with httpx.Client(base_url=server, cookies=alice.cookies) as client:
        for received in older_.item_events(client, str(item), last_event_id=cursor):
            got.append(received)
            if last(received):
                break
        reset = [next(stream := older_.item_events(client, str(item), last_event_id="no id")), next(stream)]

    async def again():
        async with httpx.AsyncClient(base_url=server, cookies=alice.cookies) as client:
            async for received in older_.async_item_events(client, str(item), last_event_id=cursor):
                yield received
                if last(received):
                    return

    assert [received.event for received in heard(got)] == [
        "CommentAdded",
        "CommentUpdated",
        "CommentDeleted",
        "CommentAdded",
    ]
    added_, updated, deleted, _ = [received.data for received in heard(got)]
    assert (added_.text, hasattr(added_, "reply_to")) == ("one", False)
    assert isinstance(updated, older_.UnknownEvent)
    assert updated.data.keys() >= {"comment_id", "new_text"}
    assert deleted == older_.UnknownEvent(data={"comment_id": added, "item_id": str(item)})
    assert heard(got) == heard(asyncio.run(_all(again())))
    assert [received.data.reason for received in reset if received.event == "stream.reset"] == ["malformed"]


async def _all(received):
    return [each async for each in received]


@pytest.mark.parametrize("status", [200, 302, 408, 425, 429, 500, 502, 503, 504, 520, 524])
async def test_what_passes_is_come_back_after(events, monkeypatch, status):
    monkeypatch.setattr(events, "FIRST_WAIT_SECONDS", 0.01)
    came = []

    def answer(request: httpx.Request) -> httpx.Response:
        came.append(request)
        return httpx.Response(204) if len(came) == 3 else httpx.Response(status, html="<html>")

    transport = httpx.MockTransport(answer)
    with httpx.Client(base_url="http://test", transport=transport) as client:
        assert list(events.system_events(client)) == []
    assert len(came) == 3
    came.clear()
    async with httpx.AsyncClient(base_url="http://test", transport=transport) as client:
        assert await _all(events.async_system_events(client)) == []
    assert len(came) == 3


def test_what_would_be_refused_again_is_said(stack, server, events):
    alice = stack.login("alice", server)

    with httpx.Client(base_url=server, cookies=alice.cookies) as client:
        stream = events.user_events(client, "999999")
        with pytest.raises(events.StreamRefused) as refused:
            next(stream)
    assert refused.value.status == 403
    assert "channel_forbidden" in refused.value.problem


# --- Elm --------------------------------------------------------------------------------------------------

SHOWN = """port module Main exposing (main)

import Platform
import Tickertape.Group as Group
import Tickertape.Item as Item
import Tickertape.Job as Job
import Tickertape.System as System
import Tickertape.User as User

port said : String -> Cmd msg

main : Program () () String
main =
    Platform.worker
        { init = \\_ -> ( (), Cmd.none )
        , update = \\line _ -> ( (), said line )
        , subscriptions =
            \\_ ->
                Sub.batch
                    [ Group.subscribeToGroup "1" Debug.toString
                    , Item.subscribeToItem "1" Debug.toString
                    , Job.subscribeToJob "1" Debug.toString
                    , System.subscribeToSystem Debug.toString
                    , User.subscribeToUser "1" Debug.toString
                    ]
        }
"""
LIVE = """port module Main exposing (main)

import Platform
import Tickertape.Comments as Comments exposing (CommentStreamEvent(..))
import Tickertape.Ports

port said : String -> Cmd msg

main : Program () () CommentStreamEvent
main =
    Platform.worker
        { init = \\_ -> ( (), Tickertape.Ports.listen [ Comments.channel "ITEM" ] )
        , update = \\event _ -> ( (), show event )
        , subscriptions = \\_ -> Comments.subscribeToComments "ITEM" identity
        }

show : CommentStreamEvent -> Cmd msg
show event =
    case event of
        StreamOpen open ->
            said ("open " ++ open.mode)

        CommentAdded comment ->
            said ("added " ++ comment.text ++ " " ++ Maybe.withDefault "nothing" comment.replyTo)

        CommentDeleted _ ->
            Cmd.batch [ said "deleted", said "enough" ]

        _ ->
            Cmd.none
"""


def test_elm_reads_every_event_of_every_channel(tmp_path):
    folder = copy("elm", tmp_path)
    program = elm_make(folder, SHOWN)
    given, wanted = [], []
    examples = [(each.name, each.channels, each.name, each.example) for each in declared()]
    examples += [
        (name, ("item", "job"), control.__name__, wire.example_of(control))
        for name, control in wire.CONTROLS.items()
    ]
    for name, channels, called, example in examples:
        for kind in channels:
            channel = kind if kind == "system" else f"{kind}:1"
            given.append({"channel": channel, "event": name, "id": "e-1", "data": example})
            wanted.append(called)
    given.append({"channel": "item:1", "event": "CommentDeleted", "id": "e-1", "data": {"item_id": "1"}})
    given.append({"channel": "item:1", "event": "FromTheFuture", "id": "e-1", "data": {}})
    said = {"reason": "newer", "oldest": "e-0", "newer": {}}
    given.append({"channel": "item:1", "event": "stream.reset", "id": "e-1", "data": said})
    wanted.append("StreamReset")

    lines = node.run(
        HERE / "node/elm.mjs", node.MODULES, program, folder / "tickertape.js",
        given="\n".join(map(json.dumps, given)),
    ).splitlines()  # fmt: skip

    assert len(lines) == 5 * len(given)
    assert [line.split(" ")[0] for line in lines if not line.startswith("Other ")] == wanted
    shown = "\n".join(lines)
    assert 'commentId = "0d9f4c1e-7a52-4f3b-9c55-2f6f0c0a1b2c"' in shown
    assert "types = Dict.fromList [" in shown
    assert "replyTo = Nothing" in shown
    assert 'reason = "newer"' in shown


def test_elm_hears_what_happens(stack, server, tmp_path):
    alice = stack.login("alice", server)
    item = item_of(alice)
    folder = copy("elm", tmp_path)
    compiled = elm_make(folder, LIVE.replace("ITEM", str(item)))

    program = node.need(), HERE / "node/elm.mjs", node.MODULES, compiled, folder / "tickertape.js"
    with running(*program, server, cookie(alice)) as (said, process):
        assert next(said) == "open live"
        first = comment(alice, item, "Hello from Elm")
        assert next(said) == "added Hello from Elm nothing"
        answer = {"text": "Yes", "reply_to": first}
        assert alice.post(f"/api/items/{item}/comments", json=answer).status_code == 201
        assert next(said) == f"added Yes {first}"
        alice.delete(f"/api/comments/{first}")
        assert {next(said), next(said)} == {"deleted", "enough"}
        assert process.wait(30) == 0


class Refusing(Proxy):
    """Answers 503 itself while it is told to, as a proxy does whose servers are away."""

    away = False
    refused = 0

    def _passes(self, chunk: bytes, source: socket.socket, sink: socket.socket, pair: Pair) -> bool:
        if self.away and source is pair[0]:
            source.sendall(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
            self.refused += 1
            raise OSError
        return True

    def begin(self) -> None:
        """Be away from now on."""
        self.away = True
        self.cut()
        self.restore()


def test_the_glue_comes_back_where_it_was_after_a_status_at_which_an_eventsource_gives_up(stack, server):
    alice = stack.login("alice", server)
    item = item_of(alice)
    program = node.need(), HERE / "node/glue.mjs", node.MODULES, CLIENTS / "elm/tickertape.js"

    with Refusing(server) as proxy, running(*program, proxy.url, cookie(alice)) as (lines, process):
        said = (line for line in lines if line.startswith(("Comment", "stream.open")))
        process.stdin.write(f'["item:{item}"]\n')
        process.stdin.flush()
        assert next(said) == "stream.open "
        for number in range(2):
            comment(alice, item, f"before {number}")
            assert next(said) == f"CommentAdded before {number}"
            refused = proxy.refused
            proxy.begin()
            comment(alice, item, f"meanwhile {number}")
            eventually(lambda least=refused + 2: proxy.refused >= least)
            proxy.away = False
            assert next(said) == "stream.open "
            comment(alice, item, f"after {number}")
            assert next(said) == f"CommentAdded meanwhile {number}"
            assert next(said) == f"CommentAdded after {number}"

        refused = proxy.refused
        proxy.begin()
        eventually(lambda: proxy.refused > refused)
        process.stdin.write("[]\n")
        process.stdin.close()
        assert process.wait(20) == 0  # nothing is open, and nothing waits
        assert list(said) == []


def test_the_glue_waits_longer_with_each_refusal_each_time_by_chance():
    said = json.loads(node.run(HERE / "node/glue_waits.mjs", CLIENTS / "elm/tickertape.js"))

    assert said["waits"] == [1000, 2000, 4000, 8000, 16000, 30000, 30000, 15000, 500]
    assert said["urls"] == ["/streams/?channel=system", "/streams/?channel=system&last_event_id=%C3%A9-1"]


# --- Whatever is in a catalogue ---------------------------------------------------------------------------


def test_an_odd_catalogue_is_good_typescript(tmp_path):
    assert tsc(write("typescript", odd(), tmp_path)) == ""


def test_an_odd_catalogue_is_good_python(tmp_path):
    write("python", odd(), tmp_path)
    (tmp_path / "use.py").write_text(
        "import tickertape_events as e\n"
        "data = {'type': 'a', 'class': 1, 'from': None, 'port': True, 'copy': 1.5, 'model_config': 'm',"
        " 'two-words': 'w', '1st': [], 'amount': 2.5, 'mixed': 3, 'table': {'x': ['a', None]},"
        " 'place': {'x': 1}, 'tree': {'left': {'left': None}}, 'colour': 'red', 'nothing': None}\n"
        "assert e.Odd.model_validate(data).model_dump(mode='json', by_alias=True) == data\n"
    )

    assert mypy(tmp_path, "tickertape_events.py") == ""
    subprocess.run([sys.executable, "-W", "error", "use.py"], cwd=tmp_path, check=True)


def test_an_odd_catalogue_is_good_elm(tmp_path):
    write("elm", odd(), tmp_path)
    program = (
        "module Main exposing (main)\nimport Platform\nimport Tickertape.Orders\nimport Tickertape.OddShop\n"
        "import Tickertape.System\n"
        "main : Program () () Tickertape.OddShop.OddShopStreamEvent\n"
        "main = Platform.worker { init = \\_ -> ((), Cmd.none), update = \\_ m -> (m, Cmd.none),"
        ' subscriptions = \\_ -> Tickertape.OddShop.subscribeToOddShop "1" identity }\n'
    )

    elm_make(tmp_path, program)
