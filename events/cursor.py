"""A place on the tape, as clients hold it: opaque to them, `<epoch>-<position>` to us."""

import re
from dataclasses import dataclass
from typing import Self

_FORM = re.compile(r"([0-9a-f]{4,16})-(0|[1-9][0-9]{0,18})")
_MAX_POSITION = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Cursor:
    """Everything at or below `position`, in this epoch, has been seen."""

    epoch: str
    position: int

    def __str__(self) -> str:
        return f"{self.epoch}-{self.position}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a cursor; raise ValueError for anything that is not one."""
        match = _FORM.fullmatch(text)
        if not match or int(match[2]) > _MAX_POSITION:
            raise ValueError("not a cursor")
        return cls(match[1], int(match[2]))
