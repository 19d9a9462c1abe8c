"""Event types change: what is in the log already is read in the shape of today, and sent so too."""

import json
import re
from typing import Any, ClassVar

import pytest
from django.db import connection, transaction

from events import catalogue, ingest, log, registry
from events.channels import Channel
from events.erasure import ERASED, erase_user
from events.registry import EventType, VersionUnknown
from tests.events import golden

A = Channel("item:1")


def name_is_now_who(data: dict[str, Any]) -> dict[str, Any]:
    return {"who": data["name"], "by_id": data["by_id"]}


def count_is_new(data: dict[str, Any]) -> dict[str, Any]:
    return {**data, "count": len(data["who"])}


class Greeted(EventType):
    """A test's event was `{name, by_id}` once, then `{who, by_id}`, and is this today."""

    version: ClassVar = 3
    upcasts: ClassVar = {1: name_is_now_who, 2: count_is_new}
    personal: ClassVar = {"who": "by_id"}
    once_personal: ClassVar = {"name": "by_id"}

    who: str
    by_id: str
    count: int


class Broken(EventType):
    """A test's event whose upcast fails."""

    version: ClassVar = 2
    upcasts: ClassVar = {1: lambda data: data["nothing"]}

    n: int


def store(name: str, version: int, data: dict[str, Any]) -> None:
    """Append as a program did that knew this version."""
    with transaction.atomic():
        log.append_raw(name, data, channels=[A], version=version)
    log.place()


def read() -> list[tuple[int, str]]:
    return [(entry.version, entry.data) for entry in log.read(0, channels=[A]).entries]


def stored() -> list[tuple[int, str]]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT version, data FROM events_event WHERE type = 'Greeted' ORDER BY id")
        return cursor.fetchall()


def test_what_is_older_is_read_in_the_shape_of_today(database):
    store("Greeted", 1, {"name": "anna", "by_id": "7"})
    store("Greeted", 2, {"who": "ben", "by_id": "7"})
    store("Greeted", 3, {"who": "carl", "by_id": "7", "count": 9})

    assert read() == [
        (3, '{"who":"anna","by_id":"7","count":4}'),
        (3, '{"who":"ben","by_id":"7","count":3}'),
        (3, '{"who":"carl","by_id":"7","count":9}'),
    ]


def test_the_log_keeps_what_was_stored(database):
    store("Greeted", 1, {"name": "anna", "by_id": "7"})
    read()

    assert stored() == [(1, '{"name":"anna","by_id":"7"}')]


def test_what_is_of_today_is_sent_byte_for_byte(database):
    store("Greeted", 3, {"count": 1, "by_id": "7", "who": "\u2028é"})

    assert read() == [(3, '{"count":1,"by_id":"7","who":"\\u2028é"}')]
    line = '{"count": 1}'
    assert registry.current("Greeted", 3, line)[1] is line
    assert registry.current("NobodyDeclared", 1, line)[1] is line


def test_an_upcast_that_fails_holds_up_nobody(database, caplog):
    store("Broken", 1, {"n": "what somebody wrote"})
    store("Greeted", 1, {"name": "anna", "by_id": "7"})

    assert read() == [(1, '{"n":"what somebody wrote"}'), (3, '{"who":"anna","by_id":"7","count":4}')]
    assert "could not be upcast" in caplog.text
    assert "what somebody wrote" not in caplog.text + str([vars(record) for record in caplog.records])
    with pytest.raises(KeyError):
        registry.decode("Broken", 1, '{"n":"x"}')


def test_who_knows_an_older_version_takes_no_newer_one_for_it(database):
    store("Greeted", 4, {"who": "anna", "by_id": "7", "count": 4, "mood": "fine"})

    assert read()[0][0] == 4
    assert json.loads(read()[0][1])["mood"] == "fine"
    with pytest.raises(VersionUnknown, match="3 here, and this event at 4"):
        registry.decode("Greeted", 4, '{"who":"anna","by_id":"7","count":4}')


def test_an_append_is_of_the_types_version_also_through_the_api(database):
    key, _ = ingest.make_key(name="x", channels=["*"], types=["*"])
    new = {"channels": ["item:1"], "type": "Greeted", "data": {"who": "a", "by_id": "7", "count": 1}}
    with transaction.atomic():
        log.append(Greeted(who="a", by_id="7", count=1), channels=[A])
        ingest.append_all(key, [ingest.NewEvent.model_validate(new)])

    assert [version for version, _ in stored()] == [3, 3]


def test_a_person_is_erased_from_older_versions_too(users):
    by = str(users.bob.pk)
    store("Greeted", 1, {"name": "Zanzibar", "by_id": by})
    store("Greeted", 2, {"who": "Zanzibar", "by_id": by})

    erase_user(users.bob, by="test")

    assert "Zanzibar" not in str(stored())
    assert [json.loads(data)["who"] for _, data in read()] == [ERASED, ERASED]


@pytest.mark.parametrize("upcasts", [{}, {1: count_is_new}, {2: count_is_new}])
def test_a_new_version_without_a_way_to_it_is_no_type(upcasts):
    with pytest.raises(TypeError, match="needs an upcast"):
        type(
            "Unreachable",
            (EventType,),
            {"__module__": __name__, "__annotations__": {}, "version": 3, "upcasts": upcasts},
        )


# --- Golden files: what is in somebody's log already ---------------------------------------------------


def test_every_version_of_every_type_has_its_file():
    wanted = {
        golden.path(kind.name(), version)
        for kind in catalogue.ours()
        for version in range(1, kind.version + 1)
    }

    assert len(wanted) > 30
    assert set(golden.FOLDER.iterdir()) == wanted, "see the top of tests/events/golden.py"


@pytest.mark.parametrize("name", sorted(kind.name() for kind in catalogue.ours()))
def test_a_type_keeps_the_shape_of_its_version(name):
    kind = registry.types()[name]
    held = json.loads(golden.path(name, kind.version).read_text())

    assert golden.shape(kind) == held["shape"], "another shape is another version: give it an upcast"


@pytest.mark.parametrize("file", sorted(golden.FOLDER.iterdir()), ids=lambda file: file.stem)
def test_what_was_ever_stored_is_read(file):
    name, version = re.fullmatch(r"(\w+)\.(\d+)", file.stem).groups()
    line = json.loads(file.read_text())["data"]

    event = registry.decode(name, int(version), line)

    assert event.name() == name
    if int(version) == event.version:
        assert registry.encode(event.model_dump(mode="json")) == line
