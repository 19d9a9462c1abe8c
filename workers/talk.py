"""Questions to Redis, one at a time, over a connection of redis-py's making and without its client.

Of what a worker uses to hear a hint, and to publish the little that it then placed, that client was half.
"""

import select
import socket
from typing import Any

import hiredis
import redis
from redis.exceptions import InvalidResponse


class Talk:
    """A connection; a thread's own. After whatever went wrong the next question is put over a new one."""

    def __init__(self, client: redis.Redis) -> None:
        pool = client.connection_pool
        # In protocol 2 there are answers and nothing else.
        self._link: Any = pool.connection_class(**{**pool.connection_kwargs, "protocol": 2})
        self._sock: socket.socket | None = None
        self._poll = select.poll()
        self._reader = hiredis.Reader()

    def ask(self, *words: str | bytes | float) -> Any:
        """Return the answer to a command; raise what is in `wake.AWAY`, a refusal too. It is put once."""
        try:
            sock = self._sock
            # Nobody asked, so there is nothing to read, unless it has ended since: as Redis started anew.
            if sock is None or self._poll.poll(0):
                sock = self._open()
            sock.sendall(hiredis.pack_command(words))  # type: ignore[arg-type]
            while (answer := self._reader.gets()) is False:
                data = sock.recv(65_536)
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

    def _open(self) -> socket.socket:
        self.close()
        self._link.connect()
        sock: socket.socket = self._link._sock
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)
        self._reader = hiredis.Reader(protocolError=InvalidResponse, replyError=redis.ResponseError)
        self._sock = sock
        return sock
