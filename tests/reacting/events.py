"""What is called and what is echoed."""

from typing import ClassVar

from pydantic import Field

from events.registry import EventType


class Called(EventType):
    """Somebody called."""

    sent_on: ClassVar = ("item",)

    n: int = Field(examples=[1])
    seconds: float = 0
    broken: bool = False


class Echoed(EventType):
    """It was echoed."""

    sent_on: ClassVar = ("item",)

    n: int = Field(examples=[1])
