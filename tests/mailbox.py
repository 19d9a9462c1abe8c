"""A mail server of the tests' own: it takes mail by SMTP, or fails in the way that a test asks for."""

import email
import socket
import socketserver
import threading
from email.message import EmailMessage
from email.policy import default
from typing import Self


class Mailbox:
    """Listens while it is open; use as a context manager. `fail` names the command that it fails at.

    `"RCPT"` is refused with 550; `"DATA"` is taken in full, and then the connection is cut without a word.
    With a code (`"RCPT 450"`, `"DATA 451"`) that is the answer; with `"cut"` (`"MAIL cut"`) there is none.
    Of one connection it takes at most `each` mails, if that is set; the next one's `MAIL` is met so with
    `full`, which is as what comes after the command in `fail`.
    """

    def __init__(self) -> None:
        self.fail = ""
        self.each = 0
        self.full = "421"
        self.connections = 0
        self._peers: list[socket.socket] = []
        self.got: list[EmailMessage] = []
        self.taken = 0
        mailbox = self

        class Talk(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                mailbox._talk(self)

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Talk)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def hang_up(self) -> None:
        """Cut the connections that there are."""
        for peer in self._peers:
            peer.shutdown(socket.SHUT_RDWR)
        self._peers.clear()

    def _talk(self, peer: socketserver.StreamRequestHandler) -> None:
        def say(line: str) -> None:
            peer.wfile.write(line.encode() + b"\r\n")

        self.connections += 1
        self._peers.append(peer.connection)
        mails = 0
        say("220 tests")
        while line := peer.rfile.readline():
            command = line[:4].upper().strip().decode()
            failing, _, how = self.fail.partition(" ")
            if self.each and mails == self.each and command == "MAIL":
                failing, how = "MAIL", self.full
            if command == "DATA":
                say("354 go on")
                body = _text(peer)
                self.taken += 1
                how = how or "cut"
            if command == failing:
                if how == "cut":
                    return
                say(f"{how or 550} not this one")
                if how == "421":
                    return
            elif command == "DATA":
                mails += 1
                self.got.append(email.message_from_bytes(body, policy=default))
                say("250 taken")
            elif command == "QUIT":
                say("221 bye")
                return
            else:
                say("250 ok")


def _text(peer: socketserver.StreamRequestHandler) -> bytes:
    """Read a mail up to the line that ends it."""
    text = b""
    while (part := peer.rfile.readline()) != b".\r\n":
        text += part[1:] if part.startswith(b"..") else part
    return text
