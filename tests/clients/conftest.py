"""What the clients are tested against: both servers, and a network before them that fails when told to."""

from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from tests.chaos.network import Network
from tests.proxy import Proxy


@pytest.fixture
def proxy(server) -> Iterator[Proxy]:
    """Put a network before each server in turn, to be cut and restored."""
    with Proxy(server) as proxy:
        yield proxy


@pytest.fixture
def weather(server) -> Iterator[tuple[Network, str]]:
    """Put a network before each server in turn that stalls and loses connections; with its base URL."""
    with Network([urlsplit(server).port], seed=1) as network:
        yield network, f"http://127.0.0.1:{network.ports[0]}"


@pytest.fixture(scope="module")
def key(stack) -> str:
    """Return an API key that may say `Shipped…` to users."""
    return stack.api_key(channels="user:*", types="Shipped*")
