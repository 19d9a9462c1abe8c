"""`manage.py tail`: the events of some channels as they happen, each once, in order."""

import json
import signal
import time
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import InterfaceError, OperationalError, connection

from events import log, search, terminal
from events.cursor import Cursor
from events.search import Found

LOOK_SECONDS = 0.25  # between two looks at the log; a worker's clock places twice a second
AGAIN_SECONDS = 1.0  # between two tries to reach a database that is away
AWAY = (OperationalError, InterfaceError)


class Command(BaseCommand):
    """Follow the log itself, by positions: neither Redis nor a web process is asked."""

    help = "Show events of channels (or all) as they are placed, until Ctrl-C, which says how to go on."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the arguments."""
        parser.add_argument(
            "channels", nargs="*", metavar="CHANNEL", help="as item:42; none is all there are"
        )
        parser.add_argument(
            "--from", dest="start", default="now", metavar="PLACE",
            help="earliest, now (the default), or a cursor: what comes after it",
        )  # fmt: skip
        parser.add_argument("--no-follow", action="store_true", help="end where the log ends")
        parser.add_argument("--json", action="store_true", help="a JSON object on each line")

    def handle(self, *args: Any, **options: Any) -> None:
        """Show what there is and what comes."""
        self._json: bool = options["json"]
        self._channels = [terminal.channel(name) for name in options["channels"]] or None
        self._writing = self._stopping = False
        try:
            with terminal.printing():
                self._stand(options["start"], log.read(0, limit=1))
                for number in (signal.SIGINT, signal.SIGTERM):
                    signal.signal(number, self._stop)
                self._until_stopped(forever=not options["no_follow"])
        except AWAY:  # before it began: later it waits
            raise CommandError("The database does not answer.") from None

    def _until_stopped(self, *, forever: bool) -> None:
        try:
            self._follow(forever=forever)
        except KeyboardInterrupt:
            pass
        finally:
            if self._stopping:
                self.stderr.write(f"-- go on with --from {self._cursor}")

    def _stand(self, start: str, page: log.Page) -> None:
        """Stand where it was asked for; say so where the log cannot go on from there."""
        now = Cursor(page.epoch, page.head)
        self._cursor = Cursor(page.epoch, page.oldest - 1) if start == "earliest" else now
        if start not in ("earliest", "now"):
            try:
                cursor = Cursor.parse(start)
            except ValueError:
                raise CommandError(
                    f"--from is earliest, now or a cursor such as {now}, not {start[:80]!r}.",
                    returncode=terminal.WRONG_USE,
                ) from None
            if cursor.epoch == page.epoch and cursor.position <= page.head:
                self._cursor = cursor
            else:
                self._reset("epoch" if cursor.epoch != page.epoch else "ahead", page)

    def _follow(self, *, forever: bool) -> None:
        while not self._stopping:
            page, found = self._read()
            if page.epoch != self._cursor.epoch:
                self._reset("epoch", page)
            elif page.oldest > self._cursor.position + 1:
                self._reset("pruned", page)
            elif len(found) == len(page.entries):  # else some were pruned meanwhile: the next page says so
                self._show(found)
                if self._stopping:
                    return
                self._cursor = Cursor(page.epoch, page.covered_to)
                if page.covered_to >= page.head:
                    if not forever:
                        return
                    time.sleep(LOOK_SECONDS)

    def _read(self) -> tuple[log.Page, list[Found]]:
        """Return the next page, however long the database is away."""
        away = False
        while True:
            try:
                page = log.read(self._cursor.position, channels=self._channels)
                found = search.whole([entry.position for entry in page.entries])
            except AWAY:
                connection.close()
                if not away:
                    self.stderr.write("-- the database does not answer; waiting for it")
                away = True
                time.sleep(AGAIN_SECONDS)
            else:
                if away:
                    self.stderr.write(f"-- it is back; going on from {self._cursor}")
                return page, found

    def _show(self, found: list[Found]) -> None:
        epoch = self._cursor.epoch
        for each in found:
            line = terminal.as_json(each, epoch=epoch) if self._json else terminal.as_line(each, self.style)
            with self._unbroken():
                self.stdout.write(line)
                self.stdout.flush()
                self._cursor = Cursor(epoch, each.position)
            if self._stopping:
                return

    def _reset(self, reason: str, page: log.Page) -> None:
        """Say that continuity is lost; go on with what is kept, or where it is another log, from now."""
        with self._unbroken():
            self._cursor = Cursor(page.epoch, page.oldest - 1 if reason == "pruned" else page.head)
            if self._json:
                self.stdout.write(json.dumps({"reset": reason, "cursor": str(self._cursor)}))
                self.stdout.flush()
            else:
                self.stderr.write(f"-- continuity is lost ({reason}): going on from {self._cursor}")

    @contextmanager
    def _unbroken(self) -> Iterator[None]:
        """Have a signal wait for the end: what is written is passed, and nothing else is."""
        self._writing = True
        yield
        self._writing = False

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._stopping = True
        signal.signal(number, signal.SIG_DFL)  # a second one ends it anyhow
        if not self._writing:
            raise KeyboardInterrupt
