"""What one connection may ask for in a minute, counted in memory: `events.limits`, without the database."""

import time


class Allowance:
    """So many uses at once, and each comes back after its part of a minute. 0 is no limit."""

    def __init__(self, per_minute: int) -> None:
        self._use = 60 / per_minute if per_minute else 0.0
        self._spent_until = 0.0  # by the monotonic clock: when all of it will be there again

    def spend(self) -> float:
        """Use one and return 0; or, where none is left, return in how many seconds one will be."""
        now = time.monotonic()
        wait = self._spent_until - (now + 60 - self._use / 2)
        if self._use and wait > 0:
            return wait
        self._spent_until = max(self._spent_until, now) + self._use
        return 0.0
