"""`manage.py tail`, `publish` and `events`: the log from a terminal, a pipe and a script."""

import itertools
import json
import os
import re
import signal
import threading
from contextlib import contextmanager
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, transaction

from events import log
from events.management.commands import tail
from events.models import Event
from events.registry import EventType
from tests.commands import Running, cut_short, manage, on_terminal, shell
from tests.events.support import until_someone_waits
from tests.stack import eventually

pytestmark = pytest.mark.usefixtures("database")


class Packed(EventType):
    """A test's declared type."""

    sent_on = ("item",)

    order: int
    note: str = ""


class Passing(EventType):
    """A test's transient type."""

    transient = True


def append(*ns, channels=("item:1",), place=True, **more):
    with transaction.atomic():
        for n in ns:
            log.append_raw("Noted", {"n": n, **more}, channels=list(channels))
    if place:
        log.place()


def ns(lines):
    return [json.loads(line)["data"]["n"] for line in lines]


# --- tail ---------------------------------------------------------------------------------------------


def test_what_there_is_comes_and_then_what_happens_of_several_channels():
    append(1)
    append(2, channels=["item:2"])
    append(3, channels=["item:1", "item:2", "item:3"])
    append(4, channels=["item:3"])
    with Running("tail", "item:1", "item:2", "--from", "earliest", "--json") as tailing:
        assert ns(tailing.take(3)) == [1, 2, 3]
        append(5, channels=["item:3"])
        append(6, channels=["item:2"])
        assert ns(tailing.take(1)) == [6]
        said = json.loads(tailing.lines[2])
    assert said["channels"] == ["item:1", "item:2", "item:3"]
    assert said.keys() == {
        "cursor", "position", "id", "type", "version", "channels", "actor_id", "caused_by", "time", "data",
    }  # fmt: skip
    assert said["cursor"] == f"{log.head().epoch}-{said['position']}"


def test_without_a_place_it_begins_now_and_without_a_channel_it_is_all():
    append(1)
    with Running("tail", "--json") as tailing:
        with Running("tail", "--json", "--from", "earliest") as other:
            assert ns(other.take(1))[0] == 1
        numbers = itertools.count(2)

        def begun() -> bool:
            """Something that happens is shown."""
            append(next(numbers), channels=["internal:trace", "item:9"])
            return bool(tailing.lines)

        eventually(begun, seconds=60)
        assert 1 not in ns(tailing.take(1))


def test_only_what_is_placed_is_shown_and_what_commits_late_is_not_missed(held):
    """An id that is lower and committed later: the bug of whoever follows ids."""
    with Running("tail", "item:1", "--from", "earliest", "--json") as tailing:
        with held(lambda: append(1, place=False)):
            append(2, place=False)
            append(3)
            assert ns(tailing.take(2)) == [2, 3]
            append(4, place=False)
        log.place()
        assert ns(tailing.take(2)) == [1, 4]
    assert Event.objects.get(data__contains='"n":1}').pk < Event.objects.get(data__contains='"n":2}').pk


def test_ctrl_c_says_how_to_go_on_wherever_it_comes_and_nothing_is_missed_or_comes_twice():
    append(*range(300), text="x" * 1000)  # more than a pipe holds, so that it comes in the middle of a write
    got: list[int] = []
    place, rounds = "earliest", 0
    while len(got) < 300:
        rounds += 1
        number = signal.SIGTERM if rounds % 2 else signal.SIGINT
        after = min(20, 300 - len(got))  # each round starts a process
        lines, said = cut_short("tail", "item:1", "--from", place, "--json", after=after, number=number)
        got += ns(lines)
        place = re.fullmatch(r"-- go on with --from (\S+)\n", said)[1]
    assert got == list(range(300))
    assert rounds > 2


def test_an_interruption_while_a_line_is_written_waits_for_its_end(monkeypatch):
    """Else the line that was half written would come again, or never."""
    append(1, 2)
    out, said = StringIO(), StringIO()
    write = out.write

    def interrupted(text):
        write(text[:10])
        signal.raise_signal(signal.SIGINT)
        return write(text[10:])

    out.write = interrupted
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    try:
        call_command("tail", "item:1", "--from", "earliest", "--json", stdout=out, stderr=said)
    finally:
        signal.signal(signal.SIGINT, handlers[0])
        signal.signal(signal.SIGTERM, handlers[1])
    assert ns(out.getvalue().splitlines()) == [1]
    assert said.getvalue().strip() == f"-- go on with --from {json.loads(out.getvalue())['cursor']}"


def tailed(*arguments: str) -> tuple[list[str], list[str]]:
    """Return what a tail up to the log's end prints, and what it complains of."""
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    out, said = StringIO(), StringIO()
    try:
        call_command("tail", "--no-follow", *arguments, stdout=out, stderr=said)
    finally:
        signal.signal(signal.SIGINT, handlers[0])
        signal.signal(signal.SIGTERM, handlers[1])
    return out.getvalue().splitlines(), said.getvalue().splitlines()


def test_where_continuity_cannot_be_proven_it_is_said():
    append(1, 2, 3)
    epoch, head = log.head().epoch, log.head().position
    log.prune(head - 2)
    kept = f"{epoch}-{head - 2}"
    assert tailed("item:1", "--from", f"{epoch}-{head - 3}", "--json")[0][0] == json.dumps(
        {"reset": "pruned", "cursor": kept}
    )
    out, said = tailed("item:1", "--from", f"{epoch}-{head - 3}")
    assert said == [f"-- continuity is lost (pruned): going on from {kept}"]
    assert len(out) == 2
    assert (
        len(tailed("item:1", "--from", "earliest")[0]) == 2
    )  # asked for as all that is kept: nothing is lost
    for place, reason in ((f"{epoch}-{10**12}", "ahead"), ("0123456789-1", "epoch")):
        out, said = tailed("item:1", "--from", place)
        assert (out, said[0].split(":")[0]) == ([], f"-- continuity is lost ({reason})")


def test_another_epoch_or_pruning_meanwhile_is_said_too():
    append(1)
    with Running("tail", "item:1", "--from", "earliest", "--json") as tailing:
        tailing.take(1)
        log.new_epoch()
        assert json.loads(tailing.next()) == {"reset": "epoch", "cursor": str(log.head())}
        append(2)
        assert ns(tailing.take(1)) == [2]


def test_a_page_of_which_some_was_pruned_meanwhile_is_not_skipped(monkeypatch):
    append(1, 2, 3)
    head = log.head().position
    real = tail.search.whole

    def late(entries):
        monkeypatch.setattr(tail.search, "whole", real)
        log.prune(head - 1)
        return real(entries)

    monkeypatch.setattr(tail.search, "whole", late)
    out, said = tailed("item:1", "--from", "earliest", "--json")
    assert json.loads(out[0])["reset"] == "pruned"
    assert ns(out[1:]) == [3]
    assert said == []


class Interrupting:
    """A page of the log at whose head somebody presses Ctrl-C."""

    def __init__(self, page):
        self._page = page

    def __getattr__(self, name):
        if name == "head":
            signal.raise_signal(signal.SIGINT)
        return getattr(self._page, name)


def test_an_interruption_in_a_reset_waits_until_it_is_said(monkeypatch):
    """Else what goes on from the cursor would never hear of it, or stand where no log ever did."""
    append(1, 2)
    real, pages = log.read, []

    def read(*arguments, **options):
        pages.append(real(*arguments, **options))
        if len(pages) == 2:
            log.new_epoch()
            return Interrupting(real(*arguments, **options))
        return pages[-1]

    monkeypatch.setattr(tail.log, "read", read)
    out, said = tailed("item:1", "--from", "earliest", "--json")
    assert out == [json.dumps({"reset": "epoch", "cursor": str(log.head())})]
    assert said == [f"-- go on with --from {log.head()}"]


def test_who_does_not_even_read_that_continuity_is_lost_may_leave_too():
    append(1)
    assert shell("set -o pipefail; manage tail --from 0123456789-1 --json --no-follow | true") == (0, "", "")


def test_a_page_is_no_end():
    append(*range(700))
    append(*range(700, 1200))
    assert ns(tailed("item:1", "--from", "earliest", "--json")[0]) == list(range(1200))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["item 1"], "channel: 'item 1' is no channel's name"),
        (["item:1\x1b[2J"], r"channel: 'item:1\\x1b[2J' is no channel's name"),
        (["item:1", "--from", "yesterday"], "--from is earliest, now or a cursor such as"),
    ],
)
def test_what_cannot_be_followed_is_refused(arguments, said):
    with pytest.raises(CommandError, match=re.escape(said)) as refused:
        tailed(*arguments)
    assert refused.value.returncode == 2


def test_a_person_sees_a_line_each_and_no_text_can_be_more_than_text():
    append(1, text="a\nb\x1b[31m\u202e\x9b2J “é” 😀", long="y" * 500, deep={"a": [1, None]})
    [line] = tailed("item:1", "--from", "earliest")[0]
    assert line.isprintable()
    assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d +\d+  Noted +item:1  n=1 text=", line)
    assert r'text="a\nb\u001b[31m\u202e\x9b2J “é” 😀"' in line
    assert 'deep={"a": [1, null]}' in line
    assert len(line) < 400


def test_of_a_payload_without_end_a_person_sees_the_beginning_and_how_much_more_there_is():
    append(1, **{f"k{n}": n for n in range(20_000)})
    [line] = tailed("item:1", "--from", "earliest")[0]
    assert "  n=1 k0=0 k1=1 " in line
    assert line.endswith(" and 19981 more")
    assert len(line) < 1000


def test_a_program_gets_the_payloads_value_and_its_terminal_nothing_that_does_not_print():
    data = {
        "z": 2**53 - 1,
        "a": "\u2028 é 😀 \u202e\x9b2J\x7f\u2066\U000e0041",
        "k\x9b": "\\",
        "y": [1.5, None, {}],
    }
    append(1, **data)
    [line] = tailed("item:1", "--from", "earliest", "--json")[0]
    assert list(json.loads(line)["data"].items()) == [("n", 1), *data.items()]
    assert line.isprintable()
    assert r"\u2028 é 😀 \u202e\u009b2J\u007f\u2066\udb40\udc41" in line


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_an_output_without_room_for_a_character_gets_its_escape(encoding):
    """Which is JSON's: so a program reads the same value, whatever its locale."""
    append(1, text="é 😀")
    env = {**os.environ, "PYTHONIOENCODING": encoding}
    for command in (["tail", "--from", "earliest", "--no-follow"], ["events"]):
        status, out, said = manage(*command, "--json", env=env, encoding=encoding)
        assert (status, said) == (0, "")
        assert json.loads(out)["data"] == {"n": 1, "text": "é 😀"}
        status, out, said = manage(*command, env=env, encoding=encoding)
        assert (status, said) == (0, "")
        assert r" \ud83d\ude00" in out


def test_a_terminal_has_colours_and_a_pipe_has_none():
    append(1)
    arguments = ["tail", "item:1", "--from", "earliest", "--no-follow"]
    assert "\x1b[" in on_terminal(*arguments)
    assert "\x1b[" not in on_terminal(*arguments, "--no-color")
    status, out, said = manage(*arguments)
    assert (status, said) == (0, "")
    assert "Noted" in out
    assert "\x1b[" not in out


@pytest.mark.parametrize(
    "command", ["tail --from earliest --no-follow", "tail --from earliest", "events --limit 9999"]
)
def test_who_reads_the_pipe_may_leave_before_the_end(command):
    append(*range(2000), text="x" * 200)
    status, out, said = shell(f"set -o pipefail; manage {command} --json | head -1")
    assert (status, said) == (0, "")
    assert len(out.splitlines()) == 1


@pytest.mark.parametrize("command", [["events"], ["tail", "item:1"]])
def test_ctrl_c_before_there_is_anything_to_say_ends_it_without_a_word(held, command):
    def lock():
        with connection.cursor() as cursor:
            cursor.execute("LOCK TABLE events_event")

    with held(lock), Running(*command) as running:
        until_someone_waits()
        assert running.interrupt(status=130) == []
        assert running.lines == []


# --- publish --------------------------------------------------------------------------------------------


def published(*arguments: str) -> str:
    out = StringIO()
    call_command("publish", *arguments, stdout=out)
    return out.getvalue().strip()


def test_an_event_is_checked_appended_and_placed_without_a_worker():
    said = published("item:42", "Packed", '{"order": 3}')
    event = Event.objects.get()
    assert (event.type, event.channels, event.data) == ("Packed", ["item:42"], '{"order":3,"note":""}')
    assert event.position == log.head().position
    assert said == f"Event {event.pk} is at position {event.position}, cursor {log.head()}."
    said = json.loads(published("item:42", "Unheard", "{}", "--also", "user:7", "--json"))
    event = Event.objects.get(type="Unheard")
    assert said == {"id": str(event.pk), "position": event.position, "cursor": str(log.head())}
    assert event.channels == ["item:42", "user:7"]


def test_it_is_placed_though_much_else_waits(settings):
    settings.WORKERS_PLACE_BATCH = 2
    append(*range(9), place=False)
    assert "is at position" in published("item:42", "Packed", '{"order": 3}')
    assert not Event.objects.filter(position=None).exists()


def test_with_an_id_it_is_appended_once():
    first = published("item:42", "Packed", '{"order": 3}', "--id", "a")
    assert published("item:42", "Packed", '{"order": 3}', "--id", "a") == first
    assert published("item:42", "Packed", '{"order": 3}', "--id", "b") != first
    assert Event.objects.count() == 2


@contextmanager
def before(statement, work):
    """Do some work in another session before a statement of ours that begins so."""

    def wrapper(execute, sql, params, many, context):
        if sql.startswith(statement):
            background = threading.Thread(target=lambda: (work(), connection.close()))
            background.start()
            background.join(20)
        return execute(sql, params, many, context)

    with connection.execute_wrapper(wrapper):
        yield


PLACING = "SELECT l.epoch, e.position"


def test_what_was_appended_is_said_to_be_though_the_database_goes_away_before_it_is_placed():
    """Else a script would send it again, and it would be there twice."""
    connection.ensure_connection()
    pid = connection.connection.info.backend_pid

    def cut():
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(%s)", [pid])

    try:
        with before(PLACING, cut):
            said = published("item:42", "Unheard", "{}", "--json")
    finally:
        connection.close()
    event = Event.objects.get()
    assert json.loads(said) == {"id": str(event.pk), "position": None, "cursor": None}


def test_so_is_what_cannot_be_placed_yet(monkeypatch):
    monkeypatch.setattr("events.management.commands.publish.TRIES", 0)
    said = published("item:42", "Unheard", "{}")
    assert said == f"Event {Event.objects.get().pk} was appended; where is not known yet."


def test_so_is_what_was_sent_before_and_pruned_just_now():
    first = published("item:42", "Unheard", "{}", "--id", "a").split(" is at ")[0]
    with before(PLACING, lambda: log.prune(log.head().position)):
        said = published("item:42", "Unheard", "{}", "--id", "a")
    assert said == f"{first} was appended; where is not known yet."


def test_what_was_pruned_while_it_is_sent_again_is_appended_again():
    published("item:42", "Unheard", "{}", "--id", "a")
    with before("SELECT id FROM events_event WHERE unique_key", lambda: log.prune(log.head().position)):
        said = published("item:42", "Unheard", "{}", "--id", "a")
    assert said.startswith(f"Event {Event.objects.get(type='Unheard').pk} is at position")


def test_a_script_may_give_the_payload_on_stdin_and_follow_what_it_published():
    text = json.dumps({"text": "é 😀 " + "x" * 200_000}, ensure_ascii=False)
    status, out, said = manage("publish", "item:42", "Unheard", "-", "--json", given=text)
    assert (status, said) == (0, "")
    cursor = json.loads(out)["cursor"]
    assert manage("publish", "item:42", "Unheard", '{"n": 2}')[0] == 0
    status, out, said = manage("tail", "item:42", "--from", cursor, "--no-follow", "--json")
    assert ns(out.splitlines()) == [2]
    assert json.loads(Event.objects.order_by("pk")[0].data) == json.loads(text)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nonsense", "Packed", "{}"], "channels: “nonsense” is not the name of a channel."),
        (["internal:access", "Packed", "{}"], "channels: “internal:access” is not the name of a channel."),
        (["user:7", "Packed", '{"order": 1}'], "channels: Packed is not sent on channels of the kind user"),
        (["item:1", "packed", "{}"], "type: String should match pattern"),
        (["item:1", "CommentAdded", "{}"], "type: has a verb of its own: use that"),
        (["item:1", "Passing", "{}"], "type: is never in the log"),
        (["item:1", "Packed", "{}"], "data.order: Field required"),
        (["item:1", "Packed", '{"order": "x"}'], "data.order: Input should be a valid integer"),
        (["item:1", "Packed", '{"order": 1, "more": 2}'], "data.more: Extra inputs are not permitted"),
        (["item:1", "Packed", "[1]"], "data: Input should be a valid dictionary"),
        (["item:1", "Packed", "{"], "data: is not JSON: Expecting property name"),
        (["item:1", "Packed", '{"order": NaN}'], "data: holds what JSON or its readers have no room for"),
        (["item:1", "Packed", "[" * 100_000], "data: holds what JSON or its readers have no room for"),
        (["item:1", "Unheard", '{"a": {"b": 9007199254740993}}'], "data.a.b: is past 2^53 - 1"),
        (["item:1", "Unheard", '{"a": "\\u0000"}'], "data.a: must not contain NUL"),
        (["item:1", "Unheard", '{"a": "\\ud800"}'], "data.a: must not contain a lone surrogate"),
        (["item:1", "Unheard", json.dumps({"a": "x" * 1_000_001})], "Unheard holds 1000009 bytes"),
        (["item:1", "Unheard", "{}", "--id", "a b"], "id: String should match pattern"),
    ],
    ids=lambda each: str(each)[-60:],
)
def test_what_may_not_be_published_names_its_field_and_appends_nothing(arguments, said):
    with pytest.raises(CommandError, match=re.escape(said)):
        published(*arguments)
    assert not Event.objects.exists()


def test_a_payload_that_is_no_text_is_refused():
    status, out, said = manage("publish", "item:1", "Unheard", "-", given=b'{"a": "\xff"}')
    assert (status, out, said) == (1, "", "CommandError: data: is not UTF-8.\n")


# --- events ---------------------------------------------------------------------------------------------


def looked(*arguments: str) -> tuple[list[str], str]:
    out, said = StringIO(), StringIO()
    call_command("events", *arguments, stdout=out, stderr=said)
    return out.getvalue().splitlines(), said.getvalue().strip()


def test_the_log_is_asked_by_each_of_its_parts(users):
    append(1)
    append(2, channels=["item:2"])
    with transaction.atomic():
        log.append_raw("Counted", {"n": 3}, channels=["item:2"], actor_id=users.bob.pk)
    log.place()
    moment = Event.objects.get(type="Counted").created_at.isoformat()

    def found(*arguments: str) -> list[int]:
        return ns(looked("--json", *arguments)[0])

    assert found() == [1, 2, 3]
    assert found("--channel", "item:2") == [2, 3]
    assert found("--type", "Counted", "--type", "Noted", "--channel", "item:1") == [1]
    assert found("--actor", "bob") == found("--actor", str(users.bob.pk)) == [3]
    assert found("--since", moment) == [3]
    assert found("--until", moment) == [1, 2]
    assert found("--since", "1h") == [1, 2, 3]
    assert found("--until", "1h") == []
    assert found("--correlation", str(Event.objects.get(type="Counted").pk)) == [3]
    assert found("--correlation", "00000000-0000-4000-8000-000000000000") == []
    lines, said = looked("--limit", "2")
    assert [re.search(r"n=(\d)", line)[1] for line in lines] == ["2", "3"]
    assert f"item:2 by {users.bob.pk}" in lines[1]
    assert said == "-- the newest 2; there may be more: --limit, or --until a time"


def test_it_is_bounded_unless_asked_otherwise():
    append(*range(60))
    assert len(looked()[0]) == 50
    lines, said = looked("--limit", "61")
    assert (len(lines), said) == (60, "")


def test_what_is_found_is_read_as_it_is_printed():
    """Of 10,000 events of 1 MB there is never more than a page in memory."""
    append(1, 2, 3, 4, text="x" * 600_000)
    out, write = StringIO(), StringIO.write

    class Out(StringIO):
        def write(self, text):
            if not out.tell():
                log.prune(log.head().position - 1)
            return write(out, text)

    call_command("events", "--json", stdout=Out())
    assert ns(out.getvalue().splitlines()) == [1, 2, 4]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--channel", "item 1"], "channel: 'item 1' is no channel's name"),
        (["--type", "noted"], "--type is an event's name"),
        (["--since", "soon"], "--since is a time such as"),
        (["--until", "9999-99-99"], "--until is a time such as"),
        (["--since", "99999999999d"], "--since is a time such as"),
        (["--actor", "nobody"], "--actor is a user's name or id; there is no user 'nobody'"),
        (["--actor", "9" * 30], "--actor is a user's name or id"),
        (["--actor", "a\x00"], "--actor is a user's name or id"),
        (["--actor", "\udcff"], "--actor is a user's name or id"),  # as an argument that is not UTF-8 arrives
        (["--correlation", "x"], "--correlation is an event's id or a UUID"),
        (["--limit", "0"], "--limit is a number from 1 to 10000"),
        (["--limit", "10001"], "--limit is a number from 1 to 10000"),
        (["--limit", "²"], "--limit is a number from 1 to 10000"),
    ],
)
def test_a_question_that_makes_no_sense_is_refused_by_name(arguments, said):
    with pytest.raises(CommandError, match=re.escape(said)) as refused:
        looked(*arguments)
    assert refused.value.returncode == 2


def test_times_at_the_ends_of_the_calendar_are_times():
    append(1)
    assert len(looked("--since", "0001-01-01", "--until", "9999-12-31")[0]) == 1


def test_a_database_that_is_away_is_said():
    env = {**os.environ, "DATABASE_URL": "postgresql://nobody@127.0.0.1:9/none"}
    for arguments in (["tail", "item:1"], ["events"], ["publish", "item:1", "Unheard", "{}"]):
        status, out, said = manage(*arguments, env=env)
        assert (status, out) == (1, "")
        assert said.startswith("CommandError: The database does not answer")
        assert "Traceback" not in said
