"""Events as HTML: each rendered once in a process, by its type's template, for all who ask for `render=html`.

The template `streams/<EventType>.html`, of any app, is given the payload as `event`, the type's wire name
and the id; not who reads, for one rendering serves everyone. What has no template is left out: sent as JSON
it would be taken for HTML, and what a user typed with it. What the stream says of itself stays as it is.
"""

import asyncio
import json
import logging
import re
from collections import OrderedDict
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from functools import cache
from typing import Any

from django.conf import settings
from django.db import close_old_connections
from django.http import HttpRequest
from django.template import TemplateDoesNotExist
from django.template.loader import get_template

from events.errors import BadRequest, FieldError
from streams import sse

logger = logging.getLogger(__name__)

ENTRY_BYTES = 400  # of one kept rendering besides the frame and the HTML
_SAID = re.compile(rb"(?:id: ([^\n]*)\n)?event: ([A-Z][A-Za-z0-9]*)\ndata: ")


class RenderingUnknown(BadRequest):
    """Streams are rendered as html, or not at all."""

    code = "rendering_unknown"


def asked_for(request: HttpRequest) -> bool:
    """Tell whether a stream is to be rendered; raise RenderingUnknown."""
    match request.GET.getlist("render"):
        case []:
            return False
        case ["html"]:
            return True
    raise RenderingUnknown(errors=(FieldError("render", "must be html, once, or left out"),))


class Rendering:
    """What was rendered lately, of one event loop.

    It is found by the whole frame: an event whose data was erased is another one.
    """

    def __init__(self) -> None:
        self.rendered = 0
        self.bytes = 0
        self._kept: OrderedDict[bytes, bytes] = OrderedDict()  # the longest unused first
        self._under_way: dict[bytes, asyncio.Task[bytes]] = {}
        # One thread for all: a template may be slow, or ask the database, and streams go on meanwhile.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="rendering")

    def forget(self) -> None:
        """Keep nothing of what was rendered."""
        self.bytes = 0
        self._kept.clear()
        self._under_way.clear()

    async def html(self, chunks: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
        """Yield a stream's chunks with each event rendered, in their order."""
        async with aclosing(chunks):
            async for chunk in chunks:
                pieces: list[bytes] = []
                size = 0
                for frame in sse.split(chunk):
                    pieces.append(await self._of(frame) if _SAID.match(frame) else frame)
                    size += len(pieces[-1])
                    if size >= settings.STREAMS_WRITE_BYTES:
                        yield sse.join(pieces)
                        pieces, size = [], 0
                if size:
                    yield sse.join(pieces)

    async def _of(self, frame: bytes) -> bytes:
        kept = self._kept.get(frame)
        if kept is not None:
            self._kept.move_to_end(frame)
            return kept
        task = self._under_way.get(frame)
        if task is None:
            task = self._under_way[frame] = asyncio.create_task(self._render(frame))
        # Whoever leaves meanwhile must not take along what others wait for.
        return await asyncio.shield(task)

    async def _render(self, frame: bytes) -> bytes:
        under_way = asyncio.current_task()
        try:
            html = await asyncio.get_running_loop().run_in_executor(self._thread, render, frame)
            self.rendered += 1
            if self._under_way.get(frame) is under_way:  # else it was forgotten meanwhile
                self._keep(frame, html)
            return html
        finally:
            if self._under_way.get(frame) is under_way:
                del self._under_way[frame]

    def _keep(self, frame: bytes, html: bytes) -> None:
        self._kept[frame] = html
        self.bytes += len(frame) + len(html) + ENTRY_BYTES
        while self.bytes > settings.STREAMS_RENDERED_BYTES:
            dropped, rendered = self._kept.popitem(last=False)
            self.bytes -= len(dropped) + len(rendered) + ENTRY_BYTES


def render(frame: bytes) -> bytes:
    """Return an event's frame with HTML for data; nothing where there is no template, or it fails.

    Synchronous. A template that fails is logged, and must not stop the events after this one.
    """
    said = _SAID.match(frame)
    if said is None:
        return b""
    last_id, name = (said[1] or b"").decode(), said[2].decode()
    try:
        template = _template(name)
        known = {"event": json.loads(frame[said.end() :]), "type": name, "id": last_id}
        html = template.render(known).strip() if template else ""
    except Exception as error:  # whatever a template does; its words may quote the payload
        logger.error("A template failed.", extra={"template": name, "error": type(error).__name__})
        return b""
    finally:
        close_old_connections()
    return sse.message(html, event=name, last_id=last_id) if html else b""


@cache  # event types are few, and their templates do not change while a process runs
def _template(name: str) -> Any:
    try:
        return get_template(f"streams/{name}.html")
    except TemplateDoesNotExist:
        return None
