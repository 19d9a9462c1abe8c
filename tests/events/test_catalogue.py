"""The catalogue: every type says what it is, holds, looks like and where it is heard."""

from typing import Any, ClassVar

import pytest
from django.apps import apps
from django.db import transaction
from pydantic import BaseModel, Field

from events import catalogue, channels, ingest, log, registry
from events.catalogue import CatalogueIncomplete, faults
from events.channels import TRACE, Channel
from events.checks import check_settings
from events.comments import CommentDeleted
from events.registry import EventType
from tests.events.support import Api, fields_of


@pytest.fixture
def declare(monkeypatch):
    """Declare a type for one test, in an app of this house."""
    monkeypatch.setattr(registry, "_types", dict(registry.types()))

    def make(name, doc="Something happened.", /, *, annotations=None, **said):
        body = {"__module__": "events.comments", "__qualname__": name, "__doc__": doc}
        return type(name, (EventType,), {**body, "__annotations__": annotations or {}, **said})

    return make


# --- What it says ------------------------------------------------------------------------------------


def test_nothing_is_lacking():
    assert list(catalogue.all_faults()) == []
    assert len(catalogue.declared()) > 25


@pytest.mark.parametrize("kind", catalogue.ours(), ids=lambda kind: kind.name())
def test_every_field_says_what_it_means(kind):
    schema = catalogue.schema_of(kind)
    models = [schema, *schema.get("$defs", {}).values()]

    lacking = [
        name
        for model in models
        for name, field in model.get("properties", {}).items()
        if not field.get("description")
    ]
    assert lacking == [], "say it in events/vocabulary.py, or by Field(description=…)"


@pytest.mark.parametrize("each", catalogue.declared(), ids=lambda each: each.name)
def test_an_example_is_what_is_sent(each):
    kind = registry.types()[each.name]

    assert kind.model_validate(each.example).model_dump(mode="json") == each.example
    assert list(each.example) == list(each.schema["properties"]) == each.schema["required"]


def test_what_nobody_can_listen_to_is_not_told():
    told = {each.name for each in catalogue.declared()}

    assert {"CommentAdded", "SystemAlert", "TaskComplete", "JobProgressed"} <= told
    assert not {"AccessChanged", "BroadcastPlanned", "LogPruned", "LogErased", "UserErased"} & told


def test_types_of_no_installed_app_are_not_told():
    class Stray(EventType):
        """A test's, of no app."""

    assert Stray in registry.types().values()
    assert Stray not in catalogue.ours()
    assert {apps.get_containing_app_config(kind.__module__).name for kind in catalogue.ours()} >= {"events"}


def test_every_kind_of_channel_says_what_is_heard_there():
    for kind in channels.kinds().values():
        assert kind.about, kind.name
        assert catalogue.heard_on(kind.name), kind.name


# --- What is lacking is said ----------------------------------------------------------------------------


def the_fault(match: str) -> None:
    """Hold that the system check and whoever asks for the catalogue say this."""
    [said] = [fault for fault in check_settings(None) if fault.id == "events.E006"]
    assert match in said.msg
    assert said.hint
    with pytest.raises(CatalogueIncomplete, match=match):
        catalogue.declared()


def test_a_type_without_an_example(declare):
    declare("OrderShipped", annotations={"order": int}, sent_on=("user",))
    the_fault("OrderShipped has no valid example of `order`: Field required")


def test_a_type_with_an_example_that_is_none(declare):
    declare("OrderShipped", annotations={"order": int}, sent_on=("user",), example={"order": "x"})
    the_fault("OrderShipped has no valid example of `order`")


def test_a_type_without_a_word(declare):
    declare("OrderShipped", "  ", sent_on=("user",))
    the_fault("OrderShipped has no docstring")


def test_a_type_without_a_channel(declare):
    declare("OrderShipped")
    the_fault("OrderShipped does not say on which kinds of channels")


def test_a_type_on_a_channel_that_there_is_not(declare):
    declare("OrderShipped", sent_on=("orders",))
    the_fault("sent on 'orders', which is no kind of channel")


def test_names_that_differ_in_case_only(declare):
    declare("Commentadded", sent_on=("item",))
    the_fault("CommentAdded and Commentadded differ in nothing")


def test_two_models_of_one_name(declare):
    def place(**annotations: Any) -> type[BaseModel]:
        return type("Place", (BaseModel,), {"__annotations__": annotations, "__module__": __name__})

    declare("Left", annotations={"at": place(x=int)}, sent_on=("item",), example={"at": {"x": 1}})
    declare("Came", annotations={"at": place(y=int)}, sent_on=("item",), example={"at": {"y": 1}})
    the_fault("Two models in payloads are called Place")


def test_a_model_that_is_called_as_an_event_is(declare):
    model = type("Itemdeleted", (BaseModel,), {"__annotations__": {"x": int}, "__module__": __name__})
    declare("Left", annotations={"at": model}, sent_on=("item",), example={"at": {"x": 1}})
    the_fault("a model called Itemdeleted, as an event is")


def test_a_field_says_itself_what_the_vocabulary_does_not(declare):
    class Parcel(EventType):
        """A test's parcel."""

        sent_on: ClassVar = ("user",)

        weight: float = Field(description="In kilograms", examples=[1.5])
        item_id: str

    assert list(faults(Parcel)) == []
    assert catalogue.example_of(Parcel) == {"weight": 1.5, "item_id": "42"}
    assert catalogue.schema_of(Parcel)["properties"]["weight"]["description"] == "In kilograms"


# --- And it is true ---------------------------------------------------------------------------------------


def test_nothing_is_appended_where_the_catalogue_does_not_say(database):
    event = CommentDeleted(comment_id="1", item_id="1")

    with (
        pytest.raises(TypeError, match="not declared to be sent on channels of the kind user"),
        transaction.atomic(),
    ):
        log.append(event, channels=[Channel("item:1"), Channel("user:1")])
    with transaction.atomic():
        log.append(event, channels=[Channel("item:1"), TRACE])
    assert log.place().count == 1


@pytest.mark.parametrize(
    ("event", "field"),
    [
        ({"type": "EmailSent", "channels": ["user:7", "item:1"]}, "events.0.channels"),
        ({"type": "JobProgressed", "channels": ["job:theirs"]}, "events.0.type"),
    ],
)
def test_nor_does_a_key_append_it(users, event, field):
    _, secret = ingest.make_key(name="x", channels=["*"], types=["*"])
    before = log.head()
    data = catalogue.example_of(registry.types()[event["type"]])

    answer = Api().post(
        "/api/events", {"events": [{**event, "data": data}]}, Authorization=f"Bearer {secret}"
    )

    assert fields_of(answer, 422) == [field]
    log.place()
    assert log.head() == before
