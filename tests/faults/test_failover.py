"""The database that comes back is an older one: it is noticed, clients are told, and the service goes on.

What was lost with the old one is never shown after `stream.reset`, and what was placed in its stead is
never taken for it.
"""

import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from project.embedded import Postgres, Valkey
from tests.faults import second
from tests.faults.conftest import HASTY
from tests.faults.people import SERVERS, both, new_item, on_both, settle
from tests.faults.wire import append
from tests.stack import Listener, Stack, eventually, listening

pytestmark = pytest.mark.timeout(300)  # each starts a service and engines of its own

NOTICED_SECONDS = 5.0  # from the moment in which the database takes writes again: a look, a connection, noise


@dataclass
class Scene:
    """A service on engines of its own, and alice, who looks at an item through both servers."""

    stack: Stack
    folder: Path
    alice: dict[str, httpx.Client] = field(default_factory=dict)
    item: str = ""
    servers: list[Postgres] = field(default_factory=list)  # more of them, to be stopped

    @property
    def path(self) -> str:
        return f"/streams/items/{self.item}/"

    def say(self, text: str, *, server: str = "daphne", **headers: str) -> httpx.Response:
        return self.alice[server].post(
            f"/api/items/{self.item}/comments", json={"text": text}, headers=headers
        )

    def heard(self, text: str, streams: dict[str, Listener]) -> str:
        """Have something said and heard on both servers; return its cursor."""
        assert self.say(text).status_code == 201
        cursors = [
            stream.until(lambda got: got.data.get("text") == text)[-1].id for stream in streams.values()
        ]
        return cursors[-1]

    def texts(self) -> list[str]:
        """Return what the API lists."""
        listed = self.alice["daphne"].get(f"/api/items/{self.item}/comments").json()["results"]
        return [each["text"] for each in listed]

    def flush(self) -> None:
        """Have Redis forget all there was."""
        with redis.Redis.from_url(self.stack.valkey.url) as client:
            client.flushall()

    def epoch(self) -> str:
        with self.stack.connect() as connection:
            return str(connection.execute("SELECT epoch FROM events_logstate").fetchone()[0])


@pytest.fixture
def scene() -> Iterator[Scene]:
    with tempfile.TemporaryDirectory(prefix="tickertape-failover-") as name:
        folder = Path(name)
        # Not durable, which is faster: processes are killed here, and no machine.
        postgres, valkey = Postgres(folder / "postgres", durable=False), Valkey(folder / "valkey")
        servers = [postgres]
        environment = {**HASTY, "DJANGO_SETTINGS_MODULE": "tests.reacting.settings"}
        made = Stack(postgres, valkey, folder, name="failover", **environment)
        try:
            postgres.start()
            valkey.start()
            with made as stack:
                stack.start(*SERVERS, "worker")
                scene = Scene(stack, folder, servers=servers)
                scene.alice = both(stack, "alice")
                scene.item = new_item(scene.alice["daphne"])
                yield scene
        finally:
            for engine in (valkey, *servers):
                engine.stop()


def texts(got: list[Any]) -> list[str]:
    return [each.data["text"] for each in got if each.event == "CommentAdded"]


def assert_told(scene: Scene, streams: dict[str, Listener]) -> None:
    """Check that open streams are told, and go on with nothing of the lost history."""
    for stream in streams.values():
        told = stream.until(lambda got: got.event == "stream.reset", seconds=NOTICED_SECONDS)[-1]
        assert told.data["reason"] == "epoch"
    told_at = {name: len(stream.all) for name, stream in streams.items()}

    def said() -> bool:
        """Posting works again."""
        return scene.say("after").status_code == 201

    eventually(said)
    for name, stream in streams.items():
        stream.until(lambda got: got.data.get("text") == "after")
        assert texts(stream.all[told_at[name] :]) == ["after"]


def assert_reset(scene: Scene, cursor: str, *, reason: str = "epoch") -> None:
    """Check that a client that comes back from the lost history is told so by every process."""
    for client in scene.alice.values():
        with listening(client, scene.path, last_event_id=cursor) as stream:
            assert stream.opened.data["mode"] == "reset", stream.opened
            reset = stream.next()
            assert (reset.event, reset.data["reason"]) == ("stream.reset", reason)


def assert_replays(scene: Scene, wanted: list[str]) -> None:
    """Check that the API, the log and every ring hold this and nothing else."""
    assert scene.texts() == wanted
    for client in scene.alice.values():
        with listening(client, scene.path, last_event_id="earliest") as stream:
            assert texts(stream.until(lambda got: got.data.get("text") == wanted[-1])) == wanted


def assert_reacts(scene: Scene) -> None:
    """Check that what is called after it is echoed, once each."""
    with scene.stack.connect() as connection:
        for n in range(100, 103):
            append(connection, f"item:{scene.item}", kind="Called", data={"n": n})

        def echoed() -> bool:
            """What was called was echoed."""
            rows = connection.execute(
                "SELECT (data::json->>'n')::int FROM events_event WHERE type = 'Echoed' ORDER BY id"
            ).fetchall()
            return [n for [n] in rows if n >= 100] == [100, 101, 102]

        eventually(echoed)


LACKING = pytest.mark.parametrize(
    "lost",
    [
        pytest.param(["lost 1", "lost 2"], id="lacking_the_last_commits"),
        pytest.param([], id="lacking_nothing", marks=pytest.mark.long),
    ],
)


@LACKING
def test_a_promoted_replica_is_noticed_and_nothing_of_the_lost_history_is_shown_again(scene, lost):
    stack = scene.stack
    with on_both(stack, scene.alice, scene.path) as streams:
        kept = scene.heard("kept", streams)
        replica = second.replica_of(stack.postgres, scene.folder / "replica")
        scene.servers.append(replica)
        answered = scene.say("asked for once", **{"Idempotency-Key": "kept"})
        for stream in streams.values():
            stream.until(lambda got: got.data.get("text") == "asked for once")
        second.caught_up(stack.postgres, replica)
        second.cut_off(replica)
        cursors = [scene.heard(text, streams) for text in lost]
        if lost:
            assert scene.say("lost 3", **{"Idempotency-Key": "lost"}).status_code == 201
        last = settle(stack)
        before = scene.epoch()

        second.kill(stack.postgres)
        second.take_over(replica, stack.postgres.port)
        stack.postgres = replica
        for server in SERVERS:  # it is there, and takes no writes yet

            def refused(server: str = server) -> bool:
                """What needs a write is refused as something that may be tried again."""
                login = {"username": "bob", "password": "demo-bob"}
                for answer in (
                    scene.say("too early", server=server),
                    httpx.post(stack.url(server) + "/api/session", json=login, timeout=15),
                ):
                    assert answer.status_code == 503, answer.text
                    assert answer.json()["code"] == "unavailable"
                return True

            eventually(refused)
        assert all(stream.error is None for stream in streams.values())
        second.promote(replica)
        assert_told(scene, streams)

    assert scene.epoch() != before
    assert_reset(scene, kept)
    assert_reset(scene, last)
    for cursor in cursors:
        assert_reset(scene, cursor)
    again = scene.say("asked for once", **{"Idempotency-Key": "kept"})
    assert again.json() == answered.json()
    if lost:
        assert scene.say("lost 3", **{"Idempotency-Key": "lost"}).status_code == 201
    settle(stack)
    assert_replays(scene, ["kept", "asked for once", "after", *(["lost 3"] if lost else [])])
    with stack.connect() as connection:  # dense, from where the replica stood
        rows = connection.execute("SELECT position FROM events_event ORDER BY position").fetchall()
        assert [position for [position] in rows] == list(range(1, len(rows) + 1))
    assert_reacts(scene)
    assert stack.login("alice").get("/readyz").json()["status"] == "ok"


# --- An older state put back in place: the same cluster, on the same timeline ---------------------


class Backup(ABC):
    """An older state of the database, and a way back to it."""

    def __init__(self, scene: Scene) -> None:
        self._server = scene.stack.postgres
        self._database = scene.stack.name
        self._file = scene.folder / "backup"
        self.take()

    @abstractmethod
    def take(self) -> None:
        """Keep the state of now."""

    @abstractmethod
    def bring_back(self) -> None:
        """Lose all that came after it."""


class Dump(Backup):
    """By pg_dump and pg_restore."""

    def take(self) -> None:
        second.dump(self._server, self._database, self._file)

    def bring_back(self) -> None:
        second.restore(self._server, self._database, self._file)


class Clone(Backup):
    """A copy of the database beside it, as of a template."""

    def take(self) -> None:
        second.clone(self._server, self._database, "kept")

    def bring_back(self) -> None:
        second.replace(self._server, self._database, by="kept")


class Folder(Backup):
    """A copy of the data folder, as a snapshot of its disk is."""

    def take(self) -> None:
        second.copy(self._server, self._file)

    def bring_back(self) -> None:
        second.put_back(self._server, self._file)


def lose(scene: Scene, by: type[Backup], streams: dict[str, Listener]) -> tuple[Backup, str, str]:
    """Have something said and kept, and something that will be lost; return the backup and both's cursors."""
    kept = scene.heard("kept", streams)
    settle(scene.stack)
    backup = by(scene)
    eventually(lambda: scene.say("lost 1").status_code == 201)
    scene.heard("lost 2", streams)
    return backup, kept, scene.heard("lost 3", streams)


def grow(scene: Scene, position: int) -> None:
    """Have a worker of somebody's, who knows nothing of before, place events past a position."""
    with scene.stack.connect() as connection:
        for n in range(position + 10):
            append(connection, f"item:{scene.item}", data={"n": n})
        head = connection.execute("SELECT head FROM tickertape_place(1000)").fetchone()[0]
    assert head > position


@pytest.mark.parametrize("by", [Folder, *(pytest.param(by, marks=pytest.mark.long) for by in (Dump, Clone))])
def test_an_older_state_put_back_under_the_running_service_is_noticed(scene, by):
    with on_both(scene.stack, scene.alice, scene.path) as streams:
        backup, kept, lost = lose(scene, by, streams)
        backup.bring_back()
        assert_told(scene, streams)
    for cursor in (kept, lost):
        assert_reset(scene, cursor)
    assert_replays(scene, ["kept", "after"])
    assert_reacts(scene)


@pytest.mark.long
def test_one_that_has_grown_past_everybody_before_they_look_is_noticed(scene):
    """All were frozen meanwhile: the head says nothing to them, the event at their own place does."""
    stack = scene.stack
    with on_both(stack, scene.alice, scene.path) as streams:
        backup, _, lost = lose(scene, Folder, streams)
        for client in scene.alice.values():  # each second they look; now they have
            assert client.get("/readyz").status_code == 200
        names = list(stack.processes)
        for name in names:
            stack.freeze(name)
        backup.bring_back()
        grow(scene, int(lost.rpartition("-")[2]))
        for name in names:
            stack.thaw(name)
        assert_told(scene, streams)
    assert_reset(scene, lost)
    assert_replays(scene, ["kept", "after"])
    assert_reacts(scene)


def stop_all(scene: Scene) -> None:
    for name in list(scene.stack.processes):
        scene.stack.kill(name)


@pytest.mark.long
@pytest.mark.parametrize("by", [Folder, Dump])
def test_one_that_was_put_back_while_nothing_ran_is_noticed_by_what_redis_and_the_catalogue_remember(
    scene, by
):
    stack = scene.stack
    with on_both(stack, scene.alice, scene.path) as streams:
        backup, kept, lost = lose(scene, by, streams)
        eventually(lambda: remembered(scene) >= int(lost.rpartition("-")[2]))
    stop_all(scene)
    if by is Dump:
        scene.flush()
    backup.bring_back()
    grow(scene, int(lost.rpartition("-")[2]))
    before = kept.partition("-")[0]
    stack.start("worker")
    eventually(lambda: scene.epoch() != before)
    stack.start(*SERVERS)
    assert_reset(scene, lost)
    assert_replays(scene, ["kept"])


def remembered(scene: Scene) -> int:
    """Return the head of which Redis keeps a mark."""
    with redis.Redis.from_url(scene.stack.valkey.url) as client:
        return int((client.get(f"{scene.stack.name}:mark") or b"--0-").split(b"-")[2])


@pytest.mark.long
def test_one_that_nobody_remembers_is_told_by_the_command(scene):
    """A disk's snapshot put back while nothing ran, and Redis emptied: all that is left is who ran it."""
    stack = scene.stack
    with on_both(stack, scene.alice, scene.path) as streams:
        backup, kept, lost = lose(scene, Folder, streams)
    stop_all(scene)
    scene.flush()
    backup.bring_back()
    said = stack.manage("new_epoch")
    assert scene.epoch() in said
    assert kept.partition("-")[0] in said
    grow(scene, int(lost.rpartition("-")[2]))
    stack.start(*SERVERS, "worker")
    assert_reset(scene, lost)
    assert_replays(scene, ["kept"])
