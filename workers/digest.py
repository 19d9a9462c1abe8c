"""The digest as a mail: written, sent, and said to be sent.

The mail server is greeted before anything is claimed: while it is away, everything waits.
"""

import logging
import time
from smtplib import SMTPException

from django.conf import settings
from django.core.mail import EmailMultiAlternatives, get_connection
from django.core.mail.backends.base import BaseEmailBackend
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone

from events import digests
from events.digests import Digest

logger = logging.getLogger(__name__)


def run(*, seconds: float) -> int:
    """Mail the digests that are due, for about so long; return how many were sent."""
    if not settings.EMAIL_URL:
        return 0
    deadline = time.monotonic() + seconds
    server = get_connection()
    count = 0
    try:
        for user_id in digests.due(timezone.now()):
            if time.monotonic() > deadline:
                break
            server.open()  # nothing, where it is open
            digest = digests.claim(user_id, timezone.now())
            if digest and _send(digest, server):
                count += 1
    except (SMTPException, OSError) as error:
        logger.warning("The mail server is away; digests wait.", extra={"error": type(error).__name__})
    finally:
        server.close()
    return count


def _send(digest: Digest, server: BaseEmailBackend) -> bool:
    try:
        _write(digest, server).send()
    except (SMTPException, OSError, ValueError) as error:  # the last for what is no address
        logger.warning(
            "A digest may not have been sent; it is not tried again.",
            extra={"correlation_id": str(digest.correlation_id), "error": type(error).__name__},
        )
        digests.failed(digest, error)
        server.close()
        return False
    digests.sent(digest)
    return True


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
