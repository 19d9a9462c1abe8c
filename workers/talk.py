"""Questions to Redis, one at a time, over a connection of redis-py's making and without its client.

Of what a worker uses to hear a hint, and to publish the little that it then placed, that client was half.
"""

import os
import select
import socket
from typing import Any

import hiredis
import redis
from redis.exceptions import InvalidResponse

READ_BYTES = 4096  # of an answer at once: nearly each is a few dozen


def link_to(client: redis.Redis) -> Any:
    """Return a connection as a client's are, not open yet, on which there are answers and nothing else."""
    pool = client.connection_pool
    return pool.connection_class(**{**pool.connection_kwargs, "protocol": 2})


class Talk:
    """A connection; a thread's own. After whatever went wrong the next question is put over a new one."""

    def __init__(self, client: redis.Redis) -> None:
        self._link = link_to(client)
        self._sock: socket.socket | None = None
        self._process = 0  # whose the connection is

    def ask(self, *words: str | bytes | float) -> Any:
        """Return the answer to a command; raise what is in `wake.AWAY`, a refusal too. It is put once."""
        try:
            sock = self._sock if self._sock is not None and self._is_quiet() else self._open()
            sock.sendall(hiredis.pack_command(words))  # type: ignore[arg-type]
            while (answer := self._reader.gets()) is False:
                data = sock.recv(READ_BYTES)
                if not data:
                    raise redis.ConnectionError("Redis closed the connection")
                self._reader.feed(data)
            if isinstance(answer, Exception):  # a replica's, maybe, that was the master before
                raise answer
        except BaseException:
            self.close()  # the answer may come yet, and is none to the next question
            raise
        return answer

    def close(self) -> None:
        """End the connection."""
        self._sock = None
        self._link.disconnect()

    def _is_quiet(self) -> bool:
        """Tell whether this process' connection says nothing: nobody asked. One that ended does."""
        return self._process == os.getpid() and not self._reader.has_data() and not self._poll.poll(0)

    def _open(self) -> socket.socket:
        self.close()
        self._link.connect()
        sock: socket.socket = self._link._sock
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)
        # A refusal has the name that redis-py gives it, which is all that a log says of it.
        named = self._link._parser.parse_error
        self._reader = hiredis.Reader(protocolError=InvalidResponse, replyError=named)
        self._process = os.getpid()
        self._sock = sock
        return sock
