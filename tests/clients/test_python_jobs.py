"""Publishing and jobs by the Python client: once, however often the network takes the answer away."""

import asyncio

import httpx
import pytest
from tickertape_client import (
    AsyncClient,
    Client,
    Event,
    Forbidden,
    JobFailed,
    NotFound,
    NotLoggedIn,
    Refused,
    Unavailable,
    requests,
)

from tests.stack import listening


class Losing(httpx.AsyncBaseTransport):
    """A network that brings every request, and loses the first answers to those that change something."""

    def __init__(self, lost: int) -> None:
        self.lost = lost
        self._real = httpx.AsyncHTTPTransport()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        answer = await self._real.handle_async_request(request)
        if request.method == "POST" and request.url.path != "/api/session" and self.lost:
            self.lost -= 1
            await answer.aclose()
            raise httpx.ReadError("the answer was lost")
        return answer

    async def aclose(self) -> None:
        await self._real.aclose()


@pytest.fixture
def alice(stack, server):
    stack.rest()  # or her stream would tell of what was before
    return stack.login("alice", server)


def shipped(user: str, n: int = 1):
    return {"channels": [f"user:{user}"], "type": "ShippedNow", "data": {"n": n}}


def me(client: httpx.Client) -> str:
    return client.get("/api/session").json()["user"]["id"]


async def test_events_are_published_once_though_answers_are_lost(server, alice, key):
    with listening(alice, "/streams/me/") as stream:
        async with AsyncClient(server, api_key=key, transport=Losing(2)) as client:
            ids = await client.publish([shipped(me(alice), 1), shipped(me(alice), 2)])
            again = await client.publish([shipped(me(alice), 3) | {"id": f"three-{server}"}])
            assert again == await client.publish([shipped(me(alice), 3) | {"id": f"three-{server}"}])
        got = stream.take(3)

    assert len(set(ids)) == 2
    assert [each.data["n"] for each in got] == [1, 2, 3]


def test_the_twin_publishes_too_and_says_what_is_wrong_by_its_field(server, alice, key):
    with Client(server, api_key=key) as client:
        assert len(client.publish([shipped(me(alice))])) == 1
        with pytest.raises(Forbidden) as refused:
            client.publish([shipped("1") | {"channels": ["system"]}])
    assert refused.value.errors[0]["field"] == "events.0.channels"
    with Client(server, api_key="tt_wrong") as client, pytest.raises(NotLoggedIn):
        client.publish([shipped("1")])
    with Client(server) as client, pytest.raises(ValueError, match="api_key"):
        client.publish([shipped("1")])


def test_a_service_that_stays_away_is_given_up_in_time(proxy, key, monkeypatch):
    monkeypatch.setattr(requests, "FIRST_SECONDS", 0.01)
    proxy.cut()

    with Client(proxy.url, api_key=key) as client, pytest.raises(Unavailable):
        client.publish([shipped("1")])


CALLS = {
    "publish": (lambda client: client.publish([shipped("1")]), {"ids": ["5"]}),
    "mint_token": (lambda client: client.mint_token(["item:1"]), {"token": "t"}),
    "login": (lambda client: client.login("alice", "x"), {"csrf_token": "t"}),
    "run": (lambda client: next(client.run("slow")), {"id": "7", "stream": "/streams/jobs/7/"}),
    "cancel": (lambda client: client.job("7").cancel(), None),
}
PAGES = {
    "a page": (200, {"html": "<html>"}),
    "a page elsewhere": (302, {"headers": {"location": "http://portal/"}}),
    "another object": (200, {"json": {}}),
    "an error like it": (503, {"json": dict.fromkeys(("ids", "id", "stream", "token", "csrf_token"), "")}),
    "no object": (200, {"content": b"null"}),
    "nothing": (200, {}),
}


def behind(page: str, answer: object, *, pages: int) -> tuple[httpx.MockTransport, list[httpx.Request]]:
    """Return a network that answers itself so often, with what is asked of it, and what came."""
    came: list[httpx.Request] = []

    def ask(request: httpx.Request) -> httpx.Response:
        came.append(request)
        if len(came) <= pages:
            return httpx.Response(PAGES[page][0], **PAGES[page][1])
        return httpx.Response(204) if answer is None else httpx.Response(200, json=answer)

    return httpx.MockTransport(ask), came


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("call", CALLS)
def test_what_is_no_answer_of_the_service_is_tried_again_and_given_up_in_time(call, page, monkeypatch):
    monkeypatch.setattr(requests, "FIRST_SECONDS", 0.01)
    ask, answer = CALLS[call]

    transport, came = behind(page, answer, pages=2)
    with Client("http://test", api_key="k", transport=transport) as client:
        ask(client)
    assert len(came) == 3
    transport, came = behind(page, answer, pages=100)
    with Client("http://test", api_key="k", transport=transport) as client, pytest.raises(Unavailable):
        ask(client)
    assert len(came) == requests.TRIES


@pytest.mark.parametrize("page", PAGES)
async def test_the_asynchronous_twin_tries_again_as_well(page, monkeypatch):
    monkeypatch.setattr(requests, "FIRST_SECONDS", 0.01)

    transport, came = behind(page, {"ids": ["5"]}, pages=2)
    async with AsyncClient("http://test", api_key="k", transport=transport) as client:
        assert await client.publish([shipped("1")]) == ["5"]
    assert len(came) == 3
    assert len({request.content for request in came}) == 1


async def test_a_job_is_run_and_its_events_come_to_the_end(server):
    async with AsyncClient(server) as client:
        await client.login("alice", "demo-alice")
        events = [event async for event in client.run("slow", {"steps": 4, "seconds": 4})]

    assert all(isinstance(event, Event) for event in events)
    assert [events[0].type, events[-1].type] == ["start", "complete"]
    assert {event.type for event in events[1:-1]} == {"progress"}
    assert events[-1].data["result"] == {"steps": 4, "tries": 1}
    steps = [event.data["done"] for event in events[1:-1]]
    assert steps == sorted(steps)


async def test_a_job_is_asked_for_once_and_followed_through_cuts(stack, proxy, alice):
    before = {job["id"] for job in alice.get("/api/jobs").json()["results"]}
    async with AsyncClient(proxy.url, transport=Losing(2)) as client:
        await client.login("alice", "demo-alice")
        got = []
        async for event in client.run("slow", {"steps": 10, "seconds": 3}):
            got.append(event)
            if event.type == "progress" and event.data["done"] in (2, 6):
                proxy.cut()
                asyncio.get_running_loop().call_later(0.2, proxy.restore)
    after = {job["id"] for job in alice.get("/api/jobs").json()["results"]}

    assert after - before == {got[0].data["job_id"]}
    assert [event.type for event in got].count("complete") == 1
    assert got[-1].type == "complete"


def test_the_twin_runs_a_job_to_its_result_and_cancels_another(server):
    with Client(server) as client:
        client.login("alice", "demo-alice")
        assert client.run("slow", {"steps": 2, "seconds": 0.2}).result() == {"steps": 2, "tries": 1}

        with client.run("slow", {"steps": 50, "seconds": 50}) as job, pytest.raises(JobFailed) as failed:
            job.cancel()
            job.result()
        assert failed.value.error_type == "Cancelled"


async def test_who_comes_late_gets_all_of_a_job_or_what_follows_an_id(server):
    async with AsyncClient(server) as client:
        await client.login("alice", "demo-alice")
        whole = [event async for event in client.run("slow", {"steps": 2, "seconds": 0.2})]
        job_id = whole[0].data["job_id"]

        assert await client.job(job_id).result() == {"steps": 2, "tries": 1}
        assert [event async for event in client.job(job_id, last_event_id=whole[-1].id)] == []


async def test_a_job_that_fails_says_so(server):
    async with AsyncClient(server) as client:
        await client.login("alice", "demo-alice")
        with pytest.raises(JobFailed):
            await client.run("slow", {"steps": 1, "seconds": 0.1, "fail": "error"}).result()


async def test_a_job_that_there_is_not_and_parameters_that_are_wrong_are_refused(server):
    async with AsyncClient(server) as client:
        with pytest.raises(NotLoggedIn):
            await client.run("slow").result()
        await client.login("alice", "demo-alice")
        with pytest.raises(NotFound):
            await client.run("no-such-job").result()
        with pytest.raises(Refused) as refused:
            await client.run("slow", {"steps": -1}).result()
        assert refused.value.errors[0]["field"].endswith("steps")
        with pytest.raises(NotFound):
            await client.job("00000000-0000-4000-8000-000000000000").result()
        with pytest.raises(ValueError, match="not asked for"):
            await client.run("slow").cancel()
