"""Peers that cannot be had here are left out, and it is said."""

import subprocess

from bench import peers
from bench.figures import EVENTSTREAM, NCHAN
from bench.peers import eventstream, nchan
from bench.usage import Cores


def test_what_is_not_installed_is_left_out_and_said(tmp_path, monkeypatch):
    monkeypatch.setattr(nchan, "MODULES", tmp_path)

    found, lacking = peers.starts(tmp_path, Cores(0, 0), [NCHAN])

    assert found == []
    assert lacking == [
        "nchan is left out: Debian's packages nginx-light and libnginx-mod-nchan are not installed."
    ]


def test_what_cannot_be_installed_is_left_out_and_tried_again_next_time(tmp_path, monkeypatch):
    def fails(command, *, check):
        raise subprocess.CalledProcessError(1, command)

    monkeypatch.setattr(eventstream, "ENVIRONMENTS", tmp_path)
    monkeypatch.setattr(eventstream.venv, "create", lambda home, **options: home.mkdir(parents=True))
    monkeypatch.setattr(eventstream.subprocess, "run", fails)

    for _ in range(2):
        found, lacking = peers.starts(tmp_path, Cores(0, 0), [EVENTSTREAM])
        assert found == []
        assert lacking == ["django-eventstream is left out: it could not be installed (CalledProcessError)."]
        for home in tmp_path.iterdir():
            home.rmdir()


def test_only_what_is_asked_for_is_looked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(nchan, "MODULES", tmp_path)

    assert peers.starts(tmp_path, Cores(0, 0), ["tickertape-uvicorn"]) == ([], [])
