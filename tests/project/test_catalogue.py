"""The catalogue as others read it: `/api/asyncapi.json` and the page `/events/`."""

import json
import re
from pathlib import Path
from typing import get_args

import pytest

from events import catalogue, channels
from project import pages
from streams import urls, wire
from streams.conversation import Change
from tests import node
from tests.faults.ways import Socket
from tests.project.test_pages import Document
from tests.stack import ROOT

HERE = Path(__file__).parent


@pytest.fixture
def document(client):
    answer = client.get("/api/asyncapi.json")
    assert answer.status_code == 200
    assert answer["Content-Type"] == "application/json"
    return answer.json()


def faults(document) -> list[str]:
    said = node.run(HERE / "node/validate.mjs", node.MODULES, given=json.dumps(document))
    return [f"{fault['instancePath']} {fault['message']}" for fault in json.loads(said)]


# --- AsyncAPI --------------------------------------------------------------------------------------------


def test_the_description_is_asyncapi_3_by_its_official_schema(document):
    assert document["asyncapi"] == "3.0.0"
    assert faults(document) == []


@pytest.mark.parametrize(
    ("where", "bad"),
    [
        (("info",), {}),
        (("channels", "item", "messages"), []),
        (("operations", "stream.item", "action"), "hear"),
        (("operations", "websocket.ask", "reply", "messages"), "stream.error"),
    ],
)
def test_the_schema_would_say_what_is_wrong(document, where, bad):
    *path, last = where
    part = document
    for step in path:
        part = part[step]
    part[last] = bad

    assert faults(document) != []


def test_it_holds_every_channel_and_what_is_heard_there(document):
    assert set(document["channels"]) == set(channels.kinds()) | {"way.websocket", "way.poll"}
    for name in channels.kinds():
        heard = {each.name for each in catalogue.heard_on(name)}
        assert set(document["channels"][name]["messages"]) == heard | set(wire.CONTROLS), name
    assert document["channels"]["item"]["address"] == "item:{key}"
    assert document["channels"]["system"]["address"] == "system"


def test_every_reference_leads_somewhere(document):
    for path in re.findall(r'"\$ref": "#/([^"]+)"', json.dumps(document)):
        part = document
        for step in path.split("/"):
            part = part[step]


def test_it_holds_every_type_with_its_version_payload_and_example(document):
    messages = document["components"]["messages"]
    for each in catalogue.declared():
        message = messages[each.name]
        assert message["x-version"] == each.version
        assert message["x-transient"] == each.transient
        assert message["examples"] == [{"payload": each.example}]
        assert set(message["payload"]["properties"]) == set(each.example)
    assert set(messages) == (
        {each.name for each in catalogue.declared()}
        | set(wire.CONTROLS)
        | set(wire.OF_WEBSOCKETS)
        | {"ask", "frame", "answer"}
    )


def test_it_holds_the_other_ways_with_what_a_client_may_say(document):
    socket, poll = document["channels"]["way.websocket"], document["channels"]["way.poll"]
    assert (socket["address"], poll["address"]) == ("/ws/streams/", "/streams/poll/")
    assert set(socket["messages"]) == {"ask", "frame", *wire.OF_WEBSOCKETS}
    ask = document["components"]["messages"]["ask"]
    assert set(ask["payload"]["properties"]) == {"add", "drop", "after"}
    Change.model_validate(ask["examples"][0]["payload"])
    replies = document["operations"]["websocket.ask"]["reply"]["messages"]
    assert [reply["$ref"].rpartition("/")[2] for reply in replies] == list(wire.OF_WEBSOCKETS)
    assert document["operations"]["websocket.ask"]["action"] == "receive"
    assert set(document["components"]["messages"]["answer"]["payload"]["properties"]) == {
        "events", "cursor", "reset",
    }  # fmt: skip


def test_both_are_put_together_once(client, monkeypatch):
    client.get("/api/asyncapi.json")
    client.get("/events/")

    def again() -> None:
        raise AssertionError("it was put together again")

    monkeypatch.setattr(catalogue, "declared", again)
    assert client.get("/api/asyncapi.json", headers={"host": "other.example.org"}).status_code == 200
    assert client.get("/events/").status_code == 200


def test_it_says_where_it_is(client):
    answer = client.get("/api/asyncapi.json", headers={"host": "tape.example.org"}, secure=True)

    servers = answer.json()["servers"]
    assert {name: (server["host"], server["protocol"]) for name, server in servers.items()} == {
        "here": ("tape.example.org", "https"),
        "sockets": ("tape.example.org", "wss"),
    }


def test_the_http_api_holds_the_streams_addresses_as_they_are(client):
    said = client.get("/api/openapi.json").json()
    found = {path: operations for path, operations in said["paths"].items() if path.startswith("/streams/")}

    def filled(path: str) -> str:
        return "/" + path.lstrip("/").replace("<str:", "{").replace(">", "}")

    assert set(found) == {filled(f"/streams/{each.pattern}") for each in urls.urlpatterns}
    for path, operations in found.items():
        parameters = operations["get"]["parameters"]
        assert {each["name"] for each in parameters if each["in"] == "path"} == set(
            re.findall(r"{(\w+)}", path)
        )
        assert {"200", "401"} <= set(operations["get"]["responses"])
    names = {each["name"] for each in found["/streams/poll/"]["get"]["parameters"]}
    assert names == {"channel", "Last-Event-ID", "last_event_id", "after", "token", "wait"}
    polled = found["/streams/poll/"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    assert set(polled["properties"]) == {"events", "cursor", "reset"}
    assert "Problem" in said["components"]["schemas"]


# --- What a stream says of itself ------------------------------------------------------------------------


def test_every_reason_that_the_code_gives_is_declared_and_the_other_way_round():
    code = "\n".join(file.read_text() for file in (ROOT / "streams").glob("*.py"))

    ends = set(re.findall(r'\b(?:end|ended|ending)\(\s*"(\w+)"', code)) | set(
        re.findall(r'\.end\("(\w+)" if .* else "(\w+)"\)', code)[0]
    )
    assert ends == set(get_args(wire.EndReason))
    assert {"pruned", "epoch", "ahead", "malformed"} == set(get_args(wire.ResetReason))
    assert set(re.findall(r'\bcontrol\(\s*"(\w+)"', code)) == {
        name.removeprefix("stream.") for name in wire.CONTROLS.keys() | wire.OF_WEBSOCKETS
    }


@pytest.mark.parametrize("name", [*wire.CONTROLS, *wire.OF_WEBSOCKETS])
def test_an_example_of_a_control_event_is_one(name):
    control = {**wire.CONTROLS, **wire.OF_WEBSOCKETS}[name]

    assert control.model_validate(wire.example_of(control)).model_dump() == wire.example_of(control)


def test_what_a_stream_says_is_as_declared(stack, server):
    alice = stack.login("alice", server)
    with alice.stream("GET", "/streams/me/", headers={"Last-Event-ID": "no id"}) as answer:
        seen = {}
        name = ""
        for line in answer.iter_lines():
            if line.startswith("event: "):
                name = line[7:]
            elif line.startswith("data: ") and name.startswith("stream."):
                seen[name] = wire.CONTROLS[name].model_validate_json(line[6:])
            if "stream.reset" in seen:
                break

    assert seen["stream.open"].mode == "reset"
    assert seen["stream.reset"].reason == "malformed"


def test_what_a_web_socket_answers_is_as_declared(stack, server):
    alice = stack.login("alice", server)
    socket = Socket(alice, "channel=system")
    try:
        for asked in ("", {"add": [f"user:{alice.get('/api/session').json()['user']['id']}"]}):
            socket.socket.send(json.dumps(asked))
        said = socket.until(lambda got: got.event == "stream.channels")
    finally:
        socket.close()

    for name, control in wire.OF_WEBSOCKETS.items():
        [found] = [got.data for got in said if got.event == name]
        control.model_validate(found)


# --- The page --------------------------------------------------------------------------------------------


@pytest.fixture
def html(client):
    answer = client.get("/events/")
    assert answer.status_code == 200
    assert answer["Content-Security-Policy"] == pages.CONTENT_SECURITY_POLICY
    return answer.content.decode()


def test_the_page_shows_every_type_with_its_fields_and_a_place_to_link_to(html):
    for each in catalogue.declared():
        [article] = re.findall(rf'<article [^>]*id="{each.name}".*?</article>', html, re.S)
        for field in each.example:
            assert f"<code>{field}</code>" in article
        assert f"version {each.version}" in article
        assert ("transient</li>" in article) == each.transient
        for name in each.channels:
            assert f'href="#channel-{name}"' in article
    for name in (*wire.CONTROLS, *wire.OF_WEBSOCKETS):
        assert f'id="{name}"' in html


def test_every_link_within_the_page_leads_somewhere(html):
    ids = re.findall(r' id="([^"]+)"', html)

    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]+)"', html)) <= set(ids)


def test_the_page_loads_what_is_here_and_nothing_inline(client, html):
    page = Document(html)

    assert page.inline == []
    for address in page.addresses:
        assert client.get(address).status_code == 200, address


def test_it_is_linked_from_where_people_look(client):
    assert "/events/" in client.get("/").content.decode()
    assert "/events/" in client.get("/api/openapi.json").json()["info"]["description"]
    assert "/events/" in (ROOT / "README.md").read_text()


def test_it_is_only_read(client):
    assert client.head("/events/").status_code == 200
    assert client.post("/events/").status_code == 405
    assert client.post("/api/asyncapi.json").status_code == 405
