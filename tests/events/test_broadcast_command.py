"""`manage.py broadcast`: what the API and the admin do, from a terminal."""

import os
from datetime import timedelta

import pytest
from django.contrib.auth.models import Group
from django.core.management import CommandError, call_command
from django.utils import timezone

from events import broadcasts, edge, marks
from events.models import Broadcast
from tests.commands import manage
from tests.events.support import events_on, types_on


@pytest.fixture
def group(users):
    """Alice and bob."""
    crew = Group.objects.create(name="crew")
    crew.user_set.add(users.alice, users.bob)
    return crew


@pytest.fixture
def run(users, capsys):
    """Run the command as the admin; return what it printed."""

    def run(*arguments, sender="admin"):
        call_command("broadcast", f"--as={sender}", *arguments)
        return capsys.readouterr().out

    return run


def test_it_sends_and_recalls(run, group):
    said = run("Hello", "--group=crew", "--severity=warning", "--title=News", "--link=https://example.org/")

    broadcast = Broadcast.objects.get()
    assert said == f"{broadcast.pk} is live, for 2 users.\n"
    assert (broadcast.title, broadcast.severity, broadcast.link) == (
        "News",
        "warning",
        "https://example.org/",
    )

    assert run(f"--recall={broadcast.pk}") == f"Recalled {broadcast.pk}.\n"
    assert types_on("group:crew") == ["SystemAlert", "SystemAlertRecalled"]


def test_it_edits_what_is_given_and_leaves_the_rest(run, group):
    expires = (timezone.now() + timedelta(hours=1)).replace(microsecond=0)
    run(
        "Hello",
        "--group=crew",
        "--title=News",
        "--link=https://example.org/",
        f"--expires={expires.isoformat()}",
    )
    broadcast = Broadcast.objects.get()

    said = run("Goodbye", f"--edit={broadcast.pk}")

    assert said == f"{broadcast.pk} is live, for 2 users.\n"
    _, (kind, told) = events_on("group:crew")
    assert kind == "SystemAlertUpdated"
    assert (told["message"], told["title"], told["link"]) == ("Goodbye", "News", "https://example.org/")
    assert told["expires_at"] == int(expires.timestamp())

    run(f"--edit={broadcast.pk}", "--title=", "--link=", "--expires=never", "--severity=critical")

    broadcast.refresh_from_db()
    assert (broadcast.message, broadcast.title, broadcast.link) == ("Goodbye", "", None)
    assert (broadcast.expires_at, broadcast.severity) == (None, "critical")


def test_it_edits_whom_a_plan_is_for_and_when(run, group):
    starts = (timezone.now() + timedelta(hours=1)).replace(microsecond=0)
    assert "is scheduled, for 4 users" in run("Hello", "--all", f"--starts={starts.isoformat()}")
    broadcast = Broadcast.objects.get()

    assert "is scheduled, for 2 users" in run(f"--edit={broadcast.pk}", "--group=crew")
    assert "is live, for 2 users" in run(f"--edit={broadcast.pk}", "--starts=now")

    assert types_on("group:crew") == ["SystemAlert"]
    assert types_on("system") == []


def test_it_lists_states_and_counts_the_newest_first(run, users, monkeypatch):
    monkeypatch.setattr("events.management.commands.broadcast.PAGE", 2)
    starts = (timezone.now() + timedelta(hours=1)).isoformat()
    for message, *more in (("First",), ("Second\nline",), ("Third", f"--starts={starts}")):
        run(message, "--all", *more)
    third, second, first = Broadcast.objects.order_by("-event_id")
    marks.dismiss(users.bob, first.pk)
    broadcasts.recall(users.admin, second.pk)
    monkeypatch.setattr(edge, "_delivered", lambda ids: {pk: 7 if pk == first.pk else 0 for pk in ids})

    lines = run("--list").splitlines()

    assert [line.split()[:2] for line in lines] == [
        [str(third.pk), "scheduled"], [str(second.pk), "recalled"], [str(first.pk), "live"]
    ]  # fmt: skip
    assert "7 delivered, 1 dismissed  First" in lines[2]
    assert "0 delivered, 0 dismissed  Second" in lines[1]
    monkeypatch.setattr(edge, "_delivered", lambda ids: None)
    assert "? delivered, 1 dismissed" in run("--list")


def test_what_it_lists_is_text_and_no_more(run):
    run("Hello", "--all", "--title=a\x1b[2J\u202e\x9b “é” 😀")
    [line] = run("--list").splitlines()
    assert line.isprintable()
    assert line.endswith(r"a\x1b[2J\u202e\x9b “é” 😀")


def test_where_its_output_has_no_room_for_a_character_it_lists_an_escape(run):
    run("Hello 😀", "--all")
    env = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    status, out, said = manage("broadcast", "--as=admin", "--list", env=env)
    assert (status, said) == (0, "")
    assert out.endswith("Hello \\ud83d\\ude00\n")


def test_it_estimates_and_sends_nothing(run, users, group, monkeypatch):
    monkeypatch.setattr(edge, "_connected", lambda: {users.bob.pk, users.carol.pk})

    assert run("--estimate", "--group=crew") == "About 2 users, 1 of them connected now.\n"
    assert run("--estimate", "--all") == "About 4 users, 2 of them connected now.\n"

    assert not Broadcast.objects.exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["Hello", "--as=bob", "--all"], "You may not broadcast"),
        (["--list", "--as=bob"], "You may not broadcast"),
        (["--estimate", "--all", "--as=bob"], "You may not broadcast"),
        (["Hello", "--as=nobody", "--all"], "no active user nobody"),
        (["Hello", "--as=admin"], "audience"),
        (["--estimate", "--as=admin"], "audience"),
        (["Hello", "--as=\udcff", "--all"], "not UTF-8"),  # as an argument that is none arrives
        (["Hello", "--as=admin", "--group=\udcff"], "not UTF-8"),
        (["Hello", "--as=admin", "--user=\udcff"], "not UTF-8"),
        (["Hello\udcff", "--as=admin", "--all"], "message: must not contain a lone surrogate"),
        (["--as=admin"], "Give a message"),
        (["Hello", "--list", "--as=admin"], "Give a message"),
        (["--list", f"--edit={'0' * 32}", "--as=admin"], "not allowed with argument"),
        ([f"--edit={'0' * 32}", "--as=admin"], "Say what to change"),
        (["Goodbye", f"--edit={'0' * 32}", "--as=admin"], "no such broadcast"),
        (["Hello", "--as=admin", "--all", "--link=ftp://x"], "link"),
        (["Hello", "--as=admin", "--all", "--expires=soon"], "a time is ISO 8601"),
        (["Hello", "--as=admin", "--item=abc"], "an item's id is a number"),
        (["Hello", "--as=admin", f"--item={10**30}"], "an item's id is a number"),
    ],
)
def test_it_says_what_is_wrong(users, arguments, said):
    with pytest.raises(CommandError, match=said):
        call_command("broadcast", *arguments)

    assert not Broadcast.objects.exists()
