"""A mail server of the tests' own: it takes mail by SMTP, or fails in the way that a test asks for."""

import email
import socketserver
import threading
from email.message import EmailMessage
from email.policy import default
from typing import Self


class Mailbox:
    """Listens while it is open; use as a context manager. `fail` names the command that it fails at.

    `"RCPT"` is refused with 550; `"DATA"` is taken in full, and then the connection is cut without a word.
    """

    def __init__(self) -> None:
        self.fail = ""
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

    def _talk(self, peer: socketserver.StreamRequestHandler) -> None:
        def say(line: str) -> None:
            peer.wfile.write(line.encode() + b"\r\n")

        say("220 tests")
        while line := peer.rfile.readline():
            command = line[:4].upper().strip().decode()
            if command == "RCPT" and self.fail == "RCPT":
                say("550 no such box")
            elif command == "DATA":
                say("354 go on")
                body = b""
                while (part := peer.rfile.readline()) != b".\r\n":
                    body += part[1:] if part.startswith(b"..") else part
                self.taken += 1
                if self.fail == "DATA":
                    return
                self.got.append(email.message_from_bytes(body, policy=default))
                say("250 taken")
            elif command == "QUIT":
                say("221 bye")
                return
            else:
                say("250 ok")
