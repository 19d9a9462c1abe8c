"""The jobs that the demo and the tests offer: an export, a recount, one that is slow and fails by choice."""

import csv
import io
import os
import signal
from collections.abc import Iterator
from typing import Any, Literal

from django.utils import timezone
from pydantic import Field

from events import items, log
from events.comments import CommentAdded, CommentDeleted
from events.items import ItemDeleted
from events.models import Comment
from events.registry import decode
from workers.handle import Handle
from workers.jobs import Params, job

PAGE = 500  # rows between two words about progress
FETCHED = 50  # rows of the database at once: a comment may be long

# What a spreadsheet takes for a formula, and what some strip before they look (OWASP, CSV injection).
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


@job("export", version="1", retries=2)
def export(handle: Handle, params: Params) -> dict[str, Any]:
    """Write every comment that the owner may read to a CSV file to download."""
    readable = items.readable_by(handle.user())
    comments = Comment.objects.filter(item__in=readable).select_related("item").order_by("event_id")
    sheet = Sheet(handle, comments.iterator(FETCHED), comments.count())
    name = f"comments-{timezone.now():%Y-%m-%d}.csv"
    url = handle.attach(name, sheet.lines(), content_type="text/csv; charset=utf-8")
    return {"rows": sheet.rows, "url": url, "file": name}


class Sheet:
    """Comments as CSV, row by row: neither they nor the file need stand in memory as a whole."""

    def __init__(self, handle: Handle, comments: Iterator[Comment], total: int) -> None:
        self.rows = 0
        self._handle = handle
        self._comments = comments
        self._total = total

    def lines(self) -> Iterator[bytes]:
        """Yield the file's lines, and tell how far it is."""
        self._handle.progress(0, self._total, "Looking for comments")
        yield "\ufeff".encode() + _line(
            ["item", "title", "comment", "author", "text", "created at", "edited at"]
        )
        for comment in self._comments:
            yield _line(_row(comment))
            self.rows += 1
            if self.rows % PAGE == 0:
                self._handle.progress(self.rows, max(self.rows, self._total), "Writing rows")
        self._handle.progress(self.rows, self.rows, "Keeping the file")


def _line(cells: list[str]) -> bytes:
    written = io.StringIO()
    csv.writer(written).writerow(cells)
    return written.getvalue().encode()


def _row(comment: Comment) -> list[str]:
    edited = comment.edited_at
    return [
        str(comment.item_id),
        _inert(comment.item.title),
        str(comment.pk),
        _inert(comment.author_name),
        _inert(comment.text),
        comment.created_at.isoformat(),
        edited.isoformat() if edited else "",
    ]


def _inert(text: str) -> str:
    """Return a text that no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(_FORMULA) else text


@job("recount", version="1", retries=2)
def recount(handle: Handle, params: Params) -> dict[str, Any]:
    """Count the comments that the owner may read, in the log and in the rows, and say where they differ."""
    shown = set(items.readable_by(handle.user()).values_list("pk", flat=True))
    told: dict[str, int] = {}
    for done, total, event in _history():
        handle.progress(done, total, "Reading the log")
        match event:
            case CommentAdded() if int(event.item_id) in shown:
                told[event.comment_id] = int(event.item_id)
            case CommentDeleted():
                told.pop(event.comment_id, None)
            case ItemDeleted():
                told = {key: item for key, item in told.items() if item != int(event.item_id)}
    found = Comment.objects.filter(item__in=shown).values_list("pk", flat=True)
    rows = {str(pk) for pk in found.iterator(PAGE)}
    # Rows without an event are older than the log that is kept: nothing says that they are wrong.
    return {"items": len(shown), "comments": len(rows), "not_in_rows": len(told.keys() - rows)}


def _history() -> Iterator[tuple[int, int, Any]]:
    """Yield each event that made or removed a comment, with how far it is through the log."""
    wanted = {kind.name() for kind in (CommentAdded, CommentDeleted, ItemDeleted)}
    while log.place().count:  # the rows know of what is committed, so the count must
        pass
    head = log.head().position
    after = 0
    while after < head:
        page = log.read(after, types=wanted, limit=PAGE)
        for entry in page.entries:
            yield entry.position, head, decode(entry.type, entry.version, entry.data)
        after = page.covered_to


class Slow(Params):
    """How slow, and how it is to fail."""

    steps: int = Field(5, ge=1, le=1000)
    seconds: float = Field(5.0, ge=0, le=600, description="for all steps together")
    fail: Literal["never", "error", "once", "crash", "result"] = "never"
    at: int = Field(1, ge=1, le=1000, description="the step at which it fails")


class ToldTo(Exception):
    """The job was told to fail."""


@job("slow", params=Slow, version="1", retries=1, retry_on=(ConnectionError,))
def slow(handle: Handle, params: Slow) -> Any:
    """Take some steps, and some time; fail where that is asked for, `once` and `crash` at the first try."""
    for step in range(1, params.steps + 1):
        handle.wait(params.seconds / params.steps)
        if step == params.at:
            _fail(handle, params)
        handle.progress(step, params.steps, f"Step {step} of {params.steps}")
    return {"steps": params.steps, "tries": handle.tries} if params.fail != "result" else {"not": {"json"}}


def _fail(handle: Handle, params: Slow) -> None:
    if params.fail == "error":
        raise ToldTo(f"It was told to fail at step {params.at}.")
    if params.fail == "once" and handle.tries == 1:
        raise ConnectionError("It was told to fail at the first try.")
    if params.fail == "crash" and handle.tries == 1:
        os.kill(os.getpid(), signal.SIGKILL)
