"""What people type: refused where it could not be stored or shown, else kept exactly as sent."""

import re
import unicodedata
from collections.abc import Iterator
from ipaddress import IPv6Address
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from events.errors import FieldError, Invalid

LINK_MOST = 2_000  # characters: what browsers, proxies and mail programs all take

# Letters of any script, or an IPv6 address; what else is in it, programs and browsers read differently.
_HOST = re.compile(r"[\w.-]+|\[[0-9A-Fa-f:.]+\]")
_NEVER_IN_LINKS = frozenset('\\"<>`')  # no URI holds them (RFC 3986); browsers take `\` for `/`


def check_text(text: str, *, field: str, most: int) -> str:
    """Return the text unchanged; raise Invalid where it is blank, too long or cannot be stored.

    Characters are Unicode code points.
    """
    faults = tuple(FieldError(field, message) for message in _faults(text, most))
    if faults:
        raise Invalid(errors=faults)
    return text


def _faults(text: str, most: int) -> Iterator[str]:
    if not text or text.isspace():
        yield "must not be blank"
    if len(text) > most:
        yield f"must have at most {most} characters"
    if "\x00" in text:
        yield "must not contain NUL"
    if any("\ud800" <= character <= "\udfff" for character in text):
        yield "must not contain a lone surrogate"


def check_link(link: str) -> str:
    """Return a link of the web unchanged; raise PydanticCustomError for anything that is not just that.

    Refused are other schemes (`javascript:` runs), credentials, and characters that are invisible,
    change the direction of writing, or that browsers leave out or read as others.
    """
    if any(map(_hidden, link)) or not _NEVER_IN_LINKS.isdisjoint(link):
        raise PydanticCustomError("link", "must not contain spaces, invisible characters, \\, <, > or quotes")
    try:
        parts = urlsplit(link)
        host = parts.netloc.removesuffix(f":{parts.port}")
        if host.startswith("["):
            IPv6Address(host[1:-1])
    except ValueError:
        raise _no_link() from None
    if parts.scheme not in {"http", "https"} or not _HOST.fullmatch(host):
        raise _no_link()
    return link


def _no_link() -> PydanticCustomError:
    return PydanticCustomError(
        "link", "must be an address https://host/… or http://host/… without a password"
    )


def _hidden(character: str) -> bool:
    return unicodedata.category(character)[0] in "CZ"


# For payloads and bodies: what is shown as a link, here or by whoever reads the log.
Link = Annotated[str, Field(max_length=LINK_MOST), AfterValidator(check_link)]
