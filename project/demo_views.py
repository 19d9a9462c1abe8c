"""What the demo shows of streaming by a callback: a text, token by token, and the same from a thread."""

import asyncio
import re
import time
from typing import Any

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.views.decorators.http import require_GET

from streams import stream

SECONDS = 0.05  # between two tokens: about as fast as one reads
TEXT = """A ticker tape was the first stream of messages that anybody could watch.
One line, one order, and nobody missed a thing.

It stopped in 1970. This one goes on."""

_TOKENS = re.findall(r"\s*\S+|\s+$", TEXT)


@require_GET
def tokens(request: HttpRequest) -> HttpResponseBase:
    """Stream a text token by token, as from a language model; how many there were comes at the end."""

    async def produce(send: Any) -> None:
        for token in _TOKENS:
            await send(token)
            await asyncio.sleep(SECONDS)
        await send(event="usage", data={"tokens": len(_TOKENS)})

    return stream(request, produce)


@require_GET
def tokens_from_a_thread(request: HttpRequest) -> HttpResponseBase:
    """Do the same with a producer that is not asynchronous."""

    def produce(send: Any) -> None:
        for token in _TOKENS:
            send(token)
            time.sleep(SECONDS)
        send(event="usage", data={"tokens": len(_TOKENS)})

    return stream(request, produce)
