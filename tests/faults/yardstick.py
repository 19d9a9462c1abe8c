"""How long the machine itself stood still: what a commit and a little work took beside what is measured."""

import statistics
import subprocess
import sys
from collections.abc import Sequence

EVERY_SECONDS = 0.02
STILL_SECONDS = 0.05  # or three times as long as usual

WORK = f"""
import hashlib, sys, time
import psycopg

with psycopg.connect(sys.argv[1], autocommit=True) as connection:
    connection.execute("CREATE TABLE IF NOT EXISTS yardstick (at float8)")
    while True:
        began = time.perf_counter()
        connection.execute("INSERT INTO yardstick VALUES (%s)", [began])
        hashlib.pbkdf2_hmac("sha256", b"", b"", 1_000)
        print(began, time.perf_counter(), flush=True)
        time.sleep({EVERY_SECONDS})
"""


class Yardstick:
    """A process that does the same small thing again and again; a context manager."""

    def __init__(self, database_url: str) -> None:
        self._url = database_url
        self._stills: Sequence[tuple[float, float]] = ()

    def __enter__(self) -> "Yardstick":
        self._process = subprocess.Popen(
            [sys.executable, "-c", WORK, self._url], stdout=subprocess.PIPE, text=True
        )
        return self

    def __exit__(self, *exc: object) -> None:
        self._process.kill()
        self._process.wait(5)

    def end(self) -> None:
        """Stop, and find when the machine stood still."""
        self._process.terminate()
        lines = self._process.communicate(timeout=5)[0].splitlines()
        times = [(float(began), float(ended)) for began, ended in (line.split() for line in lines)]
        usual = statistics.median(ended - began for began, ended in times)
        least = max(STILL_SECONDS, 3 * usual)
        self._stills = [(began, ended) for began, ended in times if ended - began > least]

    def still(self, since: float, until: float) -> float:
        """Return for how long of a time the machine stood still, in seconds by `time.perf_counter`."""
        return sum(max(0.0, min(ended, until) - max(began, since)) for began, ended in self._stills)
