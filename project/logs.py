"""Logs: a constant sentence, its facts behind it; never a payload or a token."""

import logging

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
# What a library hangs on its records that is no fact of ours, or may hold a request's secrets.
_LEFT_OUT = frozenset({"request", "data", "args", "color_message", "scope", "sinfo"})


class Unnamed(logging.Filter):
    """Leave out what a record names: Daphne's name requests by their addresses, with any `?token=`."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Keep the sentence."""
        record.args = tuple("…" for _ in record.args or ())
        return True


class FactsFormatter(logging.Formatter):
    """Format a record as `time level name: sentence  fact=value …`."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (the library's name)
        """Append the facts given in `extra`, in the order given."""
        facts = " ".join(
            f"{name}={_one_line(value)}"
            for name, value in vars(record).items()
            if name not in _STANDARD and name not in _LEFT_OUT
        )
        return super().formatMessage(record) + (f"  {facts}" if facts else "")


def _one_line(value: object) -> str:
    """Return a fact that cannot begin a line of its own."""
    return str(value).replace("\r", "\\r").replace("\n", "\\n")
