"""System checks, by their ids."""

import pytest
from django.db import connection, connections
from django.test import override_settings

from events.checks import check_server, check_settings


def ids(messages):
    for message in messages:
        assert message.hint
    return [message.id for message in messages]


def test_the_defaults_are_sane(database):
    assert check_settings(None) == []
    assert check_server(None, databases=["default"]) == []
    assert check_server(None, databases=None) == []


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [("ENGINE", "django.db.backends.sqlite3", "events.E001"), ("ATOMIC_REQUESTS", True, "events.E003")],
)
def test_databases_that_cannot_work(database, monkeypatch, key, value, expected):
    monkeypatch.setitem(connection.settings_dict, key, value)

    assert ids(check_settings(None)) == [expected]


def test_events_e002_an_old_server(database, monkeypatch):
    monkeypatch.setattr(connections["default"], "pg_version", 130_010)

    assert ids(check_server(None, databases=["default"])) == ["events.E002"]


@pytest.mark.parametrize(
    ("setting", "value", "expected"),
    [
        ("EVENTS_MAX_PAYLOAD_BYTES", 100_000, "events.E004"),
        ("EVENTS_MAX_CHANNELS", 1, "events.E005"),
        ("DATA_UPLOAD_MAX_MEMORY_SIZE", None, "events.W001"),
        ("SESSION_ENGINE", "django.contrib.sessions.backends.signed_cookies", "events.W002"),
    ],
)
def test_settings_that_would_break_a_promise(setting, value, expected):
    with override_settings(**{setting: value}):
        assert ids(check_settings(None)) == [expected]
