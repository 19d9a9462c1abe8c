"""What people type: which links are taken, and that they stay as they were sent."""

import pytest
from pydantic import BaseModel, ValidationError

from events.fields import LINK_MOST, Link


class Linked(BaseModel):
    link: Link


@pytest.mark.parametrize(
    "link",
    [
        "https://example.org",
        "http://example.org/",
        "HTTPS://Example.ORG:8443/a/b?c=d&e=%20f#g",
        "https://example.org?q=1",
        "https://example.org#part",
        "http://127.0.0.1:8000/items/1",
        "http://[2001:db8::1]:8000/",
        "https://localhost/it's",
        "https://bücher.example/straße?q=größe",
        "https://example.org/" + "x" * (LINK_MOST - 20),
    ],
)
def test_a_link_of_the_web_is_kept_exactly_as_sent(link):
    assert Linked(link=link).link == link


@pytest.mark.parametrize(
    "link",
    [
        "",
        "example.org",
        "//example.org/",
        "/items/1",
        "https:example.org",
        "https:/example.org",
        "https://",
        "https:///path",
        "https://:443/",
        "https://?q",
        # Schemes that a browser runs, reads files by or opens programs with.
        "javascript:alert(1)",
        "JaVaScRiPt://example.org/%0aalert(1)",
        "data:text/html,<script>alert(1)</script>",
        "vbscript:x",
        "file:///etc/passwd",
        "ftp://example.org/",
        "mailto:a@example.org",
        "blob:https://example.org/1",
        "httpss://example.org/",
        # What browsers cut out or read otherwise than programs do.
        "java\nscript:alert(1)",
        " https://example.org/",
        "https://example.org/ ",
        "https://example.org/a b",
        "https://example.org/\ta",
        "https://example.org/\r\nSet-Cookie: a=b",
        "https://example.org/\x00",
        "https://example.org/\x7f",
        "https://example.org/\x85",
        "https://example.org/\u2028",
        "https://example.org/\u202egnp.exe",
        "https://exam\u200bple.org/",
        "https://example.org/\ud800",
        "https://example.org\\@evil.example/",
        "https:\\\\example.org/",
        'https://example.org/"onclick="x',
        "https://example.org/<script>",
        "https://exa%6dple.org/",
        "https://exa<mple.org/",
        "https://example\u2100.org/",  # its compatibility form holds a slash
        # Credentials: they would be shown to everyone, and make one host look like another.
        "https://user@example.org/",
        "https://user:password@example.org/",
        "https://example.org:443@evil.example/",
        "https://@example.org/",
        # Ports and addresses that cannot be.
        "https://example.org:/",
        "https://example.org:x/",
        "https://example.org:99999/",
        "https://[::1/",
        "https://[example.org]/",
        "https://[::1]evil.example/",
        "https://[::1].evil.example:80/",
        "https://example.org/" + "x" * (LINK_MOST - 19),
    ],
)
def test_anything_else_is_refused(link):
    with pytest.raises(ValidationError) as refusal:
        Linked(link=link)

    [fault] = refusal.value.errors()
    assert fault["loc"] == ("link",)
    assert not fault["msg"].startswith("Value error")


@pytest.mark.parametrize("link", [None, 1, ["https://example.org/"], b"https://example.org/"])
def test_a_link_is_a_string(link):
    with pytest.raises(ValidationError):
        Linked.model_validate({"link": link}, strict=True)
