"""The network of the kit does what it says, to both sides."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from tests.chaos.network import Network
from tests.stack import eventually


class Server:
    """Takes connections and keeps them; its name is the first that each is told."""

    def __init__(self, name: bytes) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.taken: list[socket.socket] = []
        self._name = name
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.taken.append(connection)
            connection.sendall(self._name)

    def close(self) -> None:
        """Be there no longer."""
        with contextlib.suppress(OSError):  # it may be gone already
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self.taken:
            connection.close()


@pytest.fixture
def servers() -> Iterator[list[Server]]:
    both = [Server(b"a"), Server(b"b")]
    yield both
    for server in both:
        server.close()


@pytest.fixture
def network(servers) -> Iterator[Network]:
    with Network([server.port for server in servers], seed=7) as started:
        yield started


@pytest.fixture
def dial() -> Iterator[Callable[[int], socket.socket]]:
    """Open connections, which are closed at the end."""
    opened = []

    def one(port: int) -> socket.socket:
        opened.append(socket.create_connection(("127.0.0.1", port), timeout=5))
        return opened[-1]

    yield one
    for connection in opened:
        connection.close()


@pytest.fixture
def connect(dial) -> Callable[[int], tuple[socket.socket, bytes]]:
    """Return a connection and who answered."""

    def one(port: int) -> tuple[socket.socket, bytes]:
        client = dial(port)
        return client, client.recv(1)

    return one


def ending(connection: socket.socket, *, seconds: float = 5) -> str:
    """Return how a connection ends, or that it does not."""
    connection.settimeout(seconds)
    try:
        while connection.recv(65536):
            pass
    except ConnectionResetError:
        return "reset"
    except TimeoutError:
        return "open"
    return "closed"


def test_each_port_leads_to_its_server_and_the_balanced_one_to_all_in_turn(network, connect):
    assert [connect(port)[1] for port in network.ports] == [b"a", b"b"]
    assert sorted(connect(network.balanced)[1] for _ in range(4)) == [b"a", b"a", b"b", b"b"]


def test_the_balanced_port_passes_over_a_server_that_is_gone(network, servers, connect, dial):
    servers[0].close()

    assert [connect(network.balanced)[1] for _ in range(3)] == [b"b"] * 3
    with pytest.raises(ConnectionResetError):
        dial(network.ports[0]).recv(1)


def test_what_is_said_arrives_on_both_sides_and_so_does_an_end(network, servers, connect):
    client, _ = connect(network.ports[0])
    client.sendall(b"question")
    [server] = servers[0].taken
    assert server.recv(100) == b"question"
    server.sendall(b"answer")
    server.close()

    assert client.recv(100) == b"answer"
    assert ending(client) == "closed"


def test_a_reset_meets_its_share_of_the_connections_on_both_sides(network, servers, connect):
    clients = [connect(network.ports[0])[0] for _ in range(10)]

    assert network.do("reset", part=0.5) == 5

    ends = [ending(client, seconds=0.3) for client in clients]
    assert sorted(ends) == ["open"] * 5 + ["reset"] * 5
    assert sorted(ending(server, seconds=0.3) for server in servers[0].taken) == sorted(ends)


def test_the_same_seed_resets_the_same_connections(servers, connect):
    ends = []
    for _ in range(2):
        with Network([servers[0].port], seed=3) as network:
            clients = [connect(network.ports[0])[0] for _ in range(10)]
            network.do("reset", part=0.5)
            ends.append([ending(client, seconds=0.1) for client in clients])

    assert ends[0] == ends[1]


def test_a_half_open_connection_has_one_side_that_is_not_told(network, servers, connect):
    clients = [connect(network.ports[0])[0] for _ in range(12)]

    assert network.do("halfopen", part=1) == 12

    ends = [ending(client, seconds=0.2) for client in clients]
    theirs = [ending(server, seconds=0.2) for server in servers[0].taken]
    assert set(ends) == {"open", "reset"}  # both ways of it happen
    assert [{one, other} for one, other in zip(ends, theirs, strict=True)] == [{"open", "reset"}] * 12


def test_a_half_open_connection_can_be_made_to_end(network, servers, connect):
    clients = [connect(network.ports[0])[0] for _ in range(6)]

    network.do("halfopen", part=1, **{"for": 0.5})

    assert [ending(end) for end in (*clients, *servers[0].taken)] == ["reset"] * 12


def test_mending_ends_what_is_half_open_and_passes_on_what_was_held(network, servers, connect, dial):
    connect(network.ports[0])
    network.do("halfopen", part=1)
    network.do("stall", seconds=60)
    second = dial(network.ports[1])

    assert network.do("mend") == 1
    assert second.recv(1) == b"b"


def test_a_stalled_network_loses_nothing_and_ends_nothing(network, servers, connect):
    client, _ = connect(network.ports[0])
    assert network.do("stall", seconds=0.6) == 1
    began = time.monotonic()
    servers[0].taken[0].sendall(b"later")

    assert client.recv(100) == b"later"
    assert time.monotonic() - began > 0.4


def test_a_delay_is_one_for_all_that_is_said_while_it_lasts(network, servers, connect):
    client, _ = connect(network.ports[0])
    network.do("delay", ms=2000, seconds=60)
    began = time.monotonic()
    servers[0].taken[0].sendall(b"slowly")

    assert client.recv(100) == b"slowly"
    assert time.monotonic() - began > 1.9
    network.do("mend")
    servers[0].taken[0].sendall(b"at once")
    began = time.monotonic()
    assert client.recv(100) == b"at once"
    assert time.monotonic() - began < 1.9


def test_a_throttled_connection_gets_so_many_bytes_a_second(network, servers, connect):
    client, _ = connect(network.ports[0])
    network.do("throttle", bytes=4000, seconds=60)
    servers[0].taken[0].sendall(b"x" * 2000)
    began = time.monotonic()
    got = b""
    while len(got) < 2000:
        got += client.recv(65536)

    assert got == b"x" * 2000
    assert time.monotonic() - began > 0.3


def test_who_does_not_read_is_not_read_for(network, servers, connect):
    client, _ = connect(network.ports[0])
    [server] = servers[0].taken
    server.settimeout(0.5)
    sent = 0
    with pytest.raises(TimeoutError):
        while sent < 64 * 1024 * 1024:
            sent += server.send(b"x" * 65536)
    server.settimeout(5)

    got = 0
    while got < sent:
        got += len(client.recv(65536))
    assert got == sent
    server.sendall(b"!")  # and it goes on
    assert client.recv(100) == b"!"


def test_the_process_ends_with_the_kit(servers, connect):
    with Network([servers[0].port], seed=1) as network:
        client, _ = connect(network.ports[0])

    assert ending(client) in {"closed", "reset"}

    def refused() -> bool:
        """Nobody listens there."""
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", network.balanced)) != 0

    eventually(refused)
