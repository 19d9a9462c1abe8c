"""The live edge: who is listening. Reads the log, never writes it."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streams.sending import stream as stream


def __getattr__(name: str) -> Any:
    """Return `stream` when it is asked for: this package is imported before the apps are ready."""
    if name == "stream":
        from streams.sending import stream

        return stream
    raise AttributeError(name)
