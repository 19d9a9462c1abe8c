"""What is called and what is echoed."""

from events.registry import EventType


class Called(EventType):
    """Somebody called."""

    n: int
    seconds: float = 0
    broken: bool = False


class Echoed(EventType):
    """It was echoed."""

    n: int
