"""The ASGI application: Django's, with streams that outlive their request."""

import os
from typing import Any

from channels.routing import ProtocolTypeRouter

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")

import django

django.setup(set_prefix=False)

from project.origins import FromOurPages  # noqa: E402 (need the apps)
from streams.response import Handler  # noqa: E402


async def no_websocket(scope: Any, receive: Any, send: Any) -> None:
    """Refuse a WebSocket: there is none at any address."""
    await receive()
    await send({"type": "websocket.close", "code": 4404})


application = ProtocolTypeRouter({"http": Handler(), "websocket": FromOurPages(no_websocket)})
