"""Tickertape from Python: streams that miss nothing, events to publish, jobs to run.

    async with AsyncClient("https://tickertape.example", token=get_token) as client:
        async for event in client.stream(["item:42"]):
            print(event.type, event.data)

`Client` is the same without `async`. What may pass (a lost network, a restart, a silent connection) is
waited for, and the stream goes on where it was; what will not is raised: see `tickertape_client.errors`.
"""

from tickertape_client.asynchronous import AsyncClient, AsyncJob, AsyncStream
from tickertape_client.errors import (
    Forbidden,
    JobFailed,
    NotFound,
    NotLoggedIn,
    Refused,
    TickertapeError,
    Unavailable,
)
from tickertape_client.events import Event, Reset, State
from tickertape_client.following import EARLIEST
from tickertape_client.requests import NewEvent
from tickertape_client.synchronous import Client, Job, Stream

__all__ = [
    "EARLIEST",
    "AsyncClient",
    "AsyncJob",
    "AsyncStream",
    "Client",
    "Event",
    "Forbidden",
    "Job",
    "JobFailed",
    "NewEvent",
    "NotFound",
    "NotLoggedIn",
    "Refused",
    "Reset",
    "State",
    "Stream",
    "TickertapeError",
    "Unavailable",
]
