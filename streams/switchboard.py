"""The hub of this process: one for each event loop, begun when it is first asked for."""

import asyncio
import weakref

from streams.hub import Hub
from streams.permission import still_permitted

_hubs: "weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Hub]" = weakref.WeakKeyDictionary()


async def hub() -> Hub:
    """Return the running loop's hub, started; it may not have read the log yet."""
    loop = asyncio.get_running_loop()
    found = _hubs.get(loop)
    if found is None:
        found = _hubs[loop] = Hub(
            permitted=lambda reader, channels: still_permitted(reader, channels, hub=_hubs[loop])
        )
    await found.start()
    return found
