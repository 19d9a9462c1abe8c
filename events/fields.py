"""What people type: refused where it could not be stored or shown, else kept exactly as sent."""

from collections.abc import Iterator

from events.errors import FieldError, Invalid


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
