"""The digest as a mail: written, sent, and said to be sent.

The mail server is greeted before anything is claimed: while it is away, everything waits. What it
certainly did not take, for a reason that passes, is given back and waits, too.
"""

import logging
import time
from collections.abc import Sequence
from functools import partial
from smtplib import (
    SMTP,
    SMTPException,
    SMTPRecipientsRefused,
    SMTPResponseException,
    SMTPServerDisconnected,
)
from typing import Any

from django.conf import settings
from django.core.mail import EmailMultiAlternatives, get_connection
from django.core.mail.backends.base import BaseEmailBackend
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone

from events import digests
from events.digests import Digest
from workers.handle import insist

logger = logging.getLogger(__name__)


def run(*, seconds: float) -> int:
    """Mail the digests that are due, for about so long; return how many were sent."""
    if not settings.EMAIL_URL:
        return 0
    deadline = time.monotonic() + seconds
    line = Line(get_connection())
    count = 0
    try:
        for user_id in digests.due(timezone.now()):
            if time.monotonic() > deadline:
                break
            count += _mail(user_id, line)
    except (SMTPException, OSError) as error:
        logger.warning("The mail server is away; digests wait.", extra={"error": type(error).__name__})
    finally:
        line.close()
    return count


class Line:
    """A connection to the mail server, and what is known of the mail that went over it last."""

    def __init__(self, server: BaseEmailBackend) -> None:
        self.server = server
        self.mails = 0  # that this connection has carried
        self.handed = False  # the last one's text was given to it, so that it may have been taken

    def open(self) -> None:
        """Greet the server, anew where it has hung up; raises what smtplib does while it is away."""
        there = self._smtp
        if there is not None and not _answers(there):
            self.close()
        if self.server.open():
            self.mails = 0

    def send(self, message: EmailMultiAlternatives) -> None:
        """Hand a mail over; `handed` says whether one that this raises for may have arrived all the same."""
        smtp = self._smtp
        self.handed = smtp is None  # of what is not SMTP nobody knows
        if smtp is not None:
            given = type(smtp).data

            def data(text: Any) -> Any:
                self.handed = True
                return given(smtp, text)

            vars(smtp)["data"] = data  # smtplib calls it between the envelope and the text
        message.send()
        self.mails += 1

    def close(self) -> None:
        """Hang up."""
        self.server.close()

    @property
    def _smtp(self) -> SMTP | None:
        smtp = getattr(self.server, "connection", None)
        return smtp if isinstance(smtp, SMTP) else None


def _answers(smtp: SMTP) -> bool:
    try:
        return smtp.noop()[0] == 250
    except (SMTPException, OSError):
        return False


def _mail(user_id: int, line: Line) -> bool:
    """Mail one user's digest, if there is one; tell whether it was sent."""
    while True:
        line.open()  # before anything is claimed
        used = line.mails
        digest = digests.claim(user_id, timezone.now())
        if digest is None:
            return False
        try:
            line.send(_write(digest, line.server))
        except (SMTPException, OSError, ValueError) as error:  # the last for what is no address
            line.close()
            # Perhaps it takes so many of one connection: what is given back goes by another.
            if not _give_up(digest, error, line, at_once=used > 0) and used:
                continue
            return False
        insist(partial(digests.sent, digest))
        return True


def _give_up(digest: Digest, error: Exception, line: Line, *, at_once: bool) -> bool:
    """Give a claim back where that cannot send it twice and may send it once; tell whether it is over."""
    over = not _passes(error, line.handed)
    if over:
        insist(lambda: digests.failed(digest, error))
    else:
        insist(lambda: digests.give_back(digest, at_once=at_once))
    said = "A digest may not have been sent; it is not tried again." if over else "A digest waits."
    logger.warning(said, extra={"correlation_id": str(digest.correlation_id), "error": type(error).__name__})
    return over


def _passes(error: Exception, handed: bool) -> bool:
    """Tell whether a mail was certainly not taken, and may be later (RFC 5321, 4.2.1: a code from 400 on)."""
    codes: Sequence[int]
    match error:
        case SMTPRecipientsRefused():
            codes = [code for code, _ in error.recipients.values()]
        case SMTPResponseException():
            codes = [error.smtp_code]
        case SMTPServerDisconnected():
            return not handed
        case SMTPException() | ValueError():  # there is no way to say it
            return False
        case _:
            return not handed  # the network's
    return all(400 <= code < 500 for code in codes)


def _write(digest: Digest, server: BaseEmailBackend) -> EmailMultiAlternatives:
    number = len(digest.shown) + digest.more
    path = reverse("unsubscribe", args=[digests.unsubscribe_token(digest.user)])
    link = f"{settings.PUBLIC_URL}{path}"
    context = {
        "name": digest.user.get_username(),
        "number": number,
        "shown": digest.shown,
        "more": digest.more,
        "home": settings.PUBLIC_URL,
        "unsubscribe": link,
    }
    message = EmailMultiAlternatives(
        subject=f"{number} new notification{'s' if number > 1 else ''}",
        body=render_to_string("workers/digest.txt", context),
        to=[digest.address],
        connection=server,
        headers={
            "List-Unsubscribe": f"<{link}>",
            "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",  # RFC 8058
            "Auto-Submitted": "auto-generated",  # RFC 3834: nobody's absence answers it
            "X-Correlation-ID": str(digest.correlation_id),
        },
    )
    message.attach_alternative(render_to_string("workers/digest.html", context), "text/html")
    return message
