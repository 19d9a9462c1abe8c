"""Many events appended at once are as each appended alone; pages of them are read by an index."""

import json

import pytest
from django.db import DataError, connection, transaction
from hypothesis import example, given
from hypothesis import strategies as st

from events import log, registry
from events.channels import Channel
from events.errors import PayloadInvalid
from events.models import Event
from events.registry import EventType

A, B = Channel("item:1"), Channel("user:2")


class ManyTested(EventType):
    """One of many happened to a test."""

    n: int
    text: str = ""


def new(n, *, key=None, channels=(A,), **more):
    return log.new(ManyTested(n=n, **more), channels=channels, unique_key=key)


def stored(ids):
    rows = Event.objects.in_bulk(ids)
    return [json.loads(rows[event_id].data)["n"] for event_id in ids]


@transaction.atomic
def append_all(*news):
    return log.append_all(news)


@pytest.fixture
def hinted():
    """Count the hints that something was appended."""
    heard = []

    def hear(**_):
        heard.append(True)

    log.appended.connect(hear)
    yield lambda: len(heard)
    log.appended.disconnect(hear)


@pytest.fixture
def start(database):
    log.place()
    return log.head().position


def test_they_are_in_the_order_given(start):
    ids = append_all(*(new(n) for n in range(500)))

    assert ids == sorted(ids)
    assert stored(ids) == list(range(500))
    log.place()
    assert [json.loads(entry.data)["n"] for entry in log.read(start).entries] == list(range(500))


def test_each_arrives_as_it_was_sent(start):
    text = "“quoted” \\ \\u0000 \" ' % {1} \u0085 \u2028 🙂 null\tand\nso on"
    [one, other] = append_all(
        new(1, text=text, channels=[B, A, B]),
        log.new_raw("Known", {"d": [None]}, channels=[A], actor_id=7, caused_by=log.EventId(3), version=4),
    )

    row = Event.objects.get(pk=one)
    assert ManyTested.model_validate_json(row.data).text == text
    with transaction.atomic():
        alone = Event.objects.get(pk=log.append(ManyTested(n=1, text=text), channels=[B, A, B]))
    assert (row.data, row.channels) == (alone.data, alone.channels) == (row.data, [A, B])
    row = Event.objects.get(pk=other)
    assert (row.type, row.data, row.actor_id, row.caused_by, row.version) == (
        "Known",
        '{"d":[null]}',
        7,
        3,
        4,
    )


def test_of_keys_that_were_used_the_first_ids_are_returned(start):
    [first] = append_all(new(1, key="a"))
    ids = append_all(new(2), new(3, key="a"), new(4, key="b"), new(5), new(6, key="b"), new(7, key="c"))

    assert stored(ids) == [2, 1, 4, 5, 4, 7]
    assert ids[1] == first
    assert Event.objects.filter(pk__gte=first).count() == 5
    assert log.used(["a", "b", "x"]) == {"a", "b"}


ODD = ['"', "\\", '\\"', ",", "{}", "NULL", "", " a ", "a b", "'", "\n", "é"]


def test_used_keys_are_found_whatever_they_are_made_of(start):
    append_all(*(new(n, key=key) for n, key in enumerate(ODD)))

    assert log.used([*ODD, "null", "a", "x"]) == {*ODD}
    assert log.used([]) == set()


def test_they_belong_to_the_transaction(start):
    with pytest.raises(transaction.TransactionManagementError):
        log.append_all([new(1)])
    assert append_all() == []
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        log.append_all([new(1), new(2)])
        raise ZeroDivisionError
    assert not Event.objects.filter(type="ManyTested").exists()


def test_many_are_one_statement(start, django_assert_num_queries):
    with transaction.atomic(), django_assert_num_queries(1):
        log.append_all([new(n, key=f"k{n}") for n in range(300)])


def test_alone_they_need_no_transaction_around_them(start, django_assert_num_queries):
    with django_assert_num_queries(1):
        ids = log.append_alone([new(1), new(2)])
    assert stored(ids) == [1, 2]
    with django_assert_num_queries(3):  # BEGIN, COMMIT: who has the key already takes another statement
        log.append_alone([new(3, key="a")])
    assert log.append_alone([new(4, key="a")]) == [Event.objects.get(unique_key="a").pk]


@pytest.mark.parametrize("key", [None, "a"])
def test_alone_they_are_all_there_or_none(start, key):
    good, bad = new(1, key=key), new(2)._replace(version=2**15)  # more than its column takes
    with pytest.raises(DataError):
        log.append_alone([good, bad])

    assert not Event.objects.filter(type="ManyTested").exists()


# --- An event with the row that is folded from it --------------------------------------------------

LOCKED = "SELECT 1 FROM events_logstate WHERE epoch IS NOT NULL AND %s FOR SHARE"
TAKEN = "INSERT INTO events_allowance (subject, spent_until) SELECT %s || recorded.id, now() FROM recorded"


def append_with(subject, row=(TAKEN, ["row "])):
    return log.append_with(ManyTested(n=1), subject=(LOCKED, [subject]), row=row, channels=[A], actor_id=7)


def rows():
    with connection.cursor() as cursor:
        cursor.execute("SELECT subject FROM events_allowance WHERE subject LIKE 'row %'")
        return [subject for (subject,) in cursor.fetchall()]


def test_with_its_row_it_is_one_statement(start, django_assert_num_queries, hinted):
    with django_assert_num_queries(1):
        event_id = append_with(True)

    assert rows() == [f"row {event_id}"]
    row = Event.objects.get(pk=event_id)
    assert (row.type, row.channels, row.actor_id) == ("ManyTested", [A], 7)
    assert hinted() == 1


def test_where_there_is_no_subject_nothing_is_recorded(start, hinted):
    assert append_with(False) is None

    assert not Event.objects.filter(type="ManyTested").exists()
    assert rows() == []
    assert hinted() == 0


def test_without_its_row_there_is_no_event(start, hinted):
    with pytest.raises(DataError):
        append_with(
            True,
            (TAKEN.replace("%s", "left(%s, 1 / (SELECT count(*) FROM subject WHERE FALSE)::int)"), ["row "]),
        )

    assert not Event.objects.filter(type="ManyTested").exists()
    assert hinted() == 0


def test_with_its_row_it_belongs_to_the_transaction_that_is_open(start, hinted):
    with transaction.atomic():
        append_with(True)
        assert hinted() == 0
        transaction.set_rollback(True)

    assert not Event.objects.filter(type="ManyTested").exists()
    assert rows() == []
    assert hinted() == 0


# --- What is plain is not looked at twice ---------------------------------------------------------

TEXTS = st.text() | st.sampled_from(["\x00", "\ud800", "\u2028", "\x85", "{", "[", "\\u0000", "1" * 20])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats() | TEXTS | st.binary(max_size=2),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS | st.integers(), inner, max_size=3),
    max_leaves=12,
)


@given(st.dictionaries(TEXTS | st.integers(0, 9), VALUES, max_size=5))
@example({"a": 2**53})
@example({"a": ["x", [-(2**53)]]})
@example({"a": {"b": "\x00"}})
@example({"a": ["\ud800"]})
@example({1: "x"})
@example({"a": {1: "x"}})
@example({"a": "one\u2028two"})
@example({"a": float("nan")})
def test_what_is_encoded_is_what_the_careful_way_would_have_made(payload):
    faults = tuple(registry._faults(payload, "", 0))
    if faults:
        with pytest.raises(PayloadInvalid) as refused:
            registry.encode(payload)
        assert refused.value.errors == faults
    else:
        line = json.dumps(payload, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        assert registry.encode(payload) == registry.one_line(line)


def test_a_list_that_is_nested_too_deeply_is_refused():
    value = []
    for _ in range(registry.MAX_DEPTH - 2):
        value = [value]
    registry.encode({"a": value})
    with pytest.raises(PayloadInvalid):
        registry.encode({"a": [value]})


# --- The plans ---------------------------------------------------------------------------------------

EVENTS = (
    20_000  # so many that it pays to look them all through, where a page is guessed to be a tenth of them
)


@pytest.fixture
def grown(start):
    """A log that grew at once: nobody has counted it yet."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO events_event (type, version, data, channels) SELECT 'Noted', 1,"
            " repeat('x', 200), ARRAY['item:' || n %% 200] FROM generate_series(1, %s) n",
            [EVENTS],
        )
    while log.place().count:
        pass
    return start


@pytest.mark.parametrize("analysed", [False, True])
@pytest.mark.parametrize("plan", ["custom", "generic"])
@pytest.mark.parametrize(
    "sql", [log.ALL_SQL, log.CHANNELS_SQL, log.TYPES_SQL], ids=["all", "channels", "types"]
)
def test_a_page_is_never_read_by_walking_through_the_log(grown, sql, plan, analysed):
    with connection.cursor() as cursor:
        if analysed:
            cursor.execute("ANALYZE events_event, events_channelposition")
        cursor.execute(f"SET plan_cache_mode = force_{plan}_plan")
        types = {"after": "bigint", "limit": "bigint", "bytes": "bigint", "channels": "text[]"}
        types |= {"types": "text[]", "window": "bigint"}
        numbered = sql % {name: f"${n}::{kind}" for n, (name, kind) in enumerate(types.items(), 1)}
        cursor.execute(f"PREPARE page ({', '.join(types.values())}) AS {numbered}")
        try:
            for after in (grown, grown + EVENTS // 2, grown + EVENTS - 10):
                for limit in (1, 500, 5_000):
                    cursor.execute(
                        "EXPLAIN (ANALYZE, FORMAT JSON)"
                        f" EXECUTE page({after}, {limit}, 100000, ARRAY['item:5', 'item:6'],"
                        f" ARRAY['Noted', 'Seldom'], {log.WINDOW})"
                    )
                    assert list(walked(cursor.fetchone()[0][0]["Plan"])) == []
        finally:
            cursor.execute("DEALLOCATE page; RESET plan_cache_mode")


def walked(plan):
    """Yield the tables of which a plan looks at every row; that of the log's state has one."""
    if plan["Node Type"] == "Seq Scan" and plan["Relation Name"] != "events_logstate":
        yield plan["Relation Name"]
    for inner in plan.get("Plans", ()):
        yield from walked(inner)
