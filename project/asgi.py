"""The ASGI application: Django's, with streams that outlive their request."""

import os
from typing import Any

from channels.routing import ProtocolTypeRouter

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")

import django

django.setup(set_prefix=False)

from django.conf import settings  # noqa: E402 (these need the apps)

from project.origins import FromOurPages, refuse  # noqa: E402
from streams import issuers  # noqa: E402
from streams.consumers import StreamConsumer  # noqa: E402
from streams.handler import Handler  # noqa: E402

# What is wrong with it is said now, and not to who brings a token; workers need not have the keys.
issuers.read(settings.STREAMS_TOKEN_ISSUERS)
_stream = FromOurPages(StreamConsumer.as_asgi())


async def websocket(scope: Any, receive: Any, send: Any) -> None:
    """Serve the one address that has WebSockets."""
    if scope["path"] == "/ws/streams/":
        await _stream(scope, receive, send)
    else:
        await refuse(4404, receive, send)


application = ProtocolTypeRouter({"http": Handler(), "websocket": websocket})
