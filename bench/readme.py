"""`python -m bench.readme [REPORT …]`: write the README's figures, from what a run wrote down.

Of several reports the later ones add what the earlier ones have not: a run may be done in pieces. A README
never has a figure by hand.
"""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.deployment import ROOT
from bench.figures import DAPHNE, EVENTSTREAM, NCHAN, UVICORN, Figure, medians
from bench.numbers import shown
from bench.scenarios import latency, many, most, placing, reacting, single

README = ROOT / "README.md"
BEGIN, END = "<!-- begin figures -->\n", "<!-- end figures -->\n"
COLUMNS = {UVICORN: "uvicorn", DAPHNE: "Daphne", NCHAN: "nchan", EVENTSTREAM: "django-eventstream"}


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table: a quantity of a scenario, by the words of a reader."""

    text: str
    scenario: str
    quantity: str
    at: float | None = None


ROWS = [
    Row("one event to 1,000 readers, deliveries a second of CPU", "single", single.RATE, 1_000),
    Row("one event to 5,000 readers, likewise", "single", single.RATE, 5_000),
    Row("at the best rate to 1,000 readers, deliveries a second", "most", most.BEST),
    Row("to 2,000 channels with a reader each, events a second; 99 % within 50 ms", "many", many.BEST),
    Row("memory of an open stream of 18,000, kB", "idle", "memory of a stream", 18_000),
    Row("opening one by a token, ms of CPU", "opens", "CPU of one by a token"),
    Row("opening one by a session of the database, ms of CPU", "opens", "CPU of one by a session"),
    Row(
        "replay to who is 10,000 behind, events a second",
        "replay",
        "events a second to one client, out of the log",
    ),
    Row(
        "5,000 come back, 200 behind each: s of CPU besides opening",
        "replay",
        "CPU of a storm besides opening",
        5_000,
    ),
    Row("commit to client at 500 events a second, median, ms", "latency", latency.MEDIAN, 500),
    Row("the slowest of a hundred, ms", "latency", latency.LATE, 500),
    Row(
        "appending by the API, times the same bare INSERT",
        "writes",
        "an event, times bare inserts, no worker",
    ),
    Row("beside a worker at work", "writes", "an event, times bare inserts, a worker beside it"),
]
ONE_WORKER = [
    Row("placed and published", "placing", placing.BOTH),
    Row("comments reacted to, their item's owner told", "reacting", reacting.ALONE),
    Row("events seen to that nothing reacts to", "reacting", reacting.NOBODY),
]


def table(reports: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield the lines of the README's part."""
    found: dict[tuple[str, str, str, float | None], float] = {}
    for report in reports:
        for each in medians(Figure(**figure) for figure in report["figures"]):
            found.setdefault((each.scenario, each.subject, each.quantity, each.at), each.value)
    yield f"| | {' | '.join(COLUMNS.values())} |"
    yield "|---|" + "---:|" * len(COLUMNS)
    for row in ROWS:
        cells = [found.get((row.scenario, subject, row.quantity, row.at)) for subject in COLUMNS]
        yield f"| {row.text} | {' | '.join('' if each is None else shown(each) for each in cells)} |"
    yield ""
    said = []
    for row in ONE_WORKER:
        value = found.get((row.scenario, placing.SUBJECT, row.quantity, row.at))
        said.append(f"{row.text}: {'–' if value is None else shown(value)}")
    yield f"By one worker process a second: {'; '.join(said)}."
    yield ""
    first = reports[0]
    rounds = "one round" if first["rounds"] == 1 else f"medians of {first['rounds']} rounds"
    yield f"{first['machine']}; {rounds}."


def write(readme: str, reports: Sequence[Mapping[str, Any]]) -> str:
    """Return the README with its figures anew. Raises ValueError where it has no place for them."""
    head, begin, rest = readme.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"no {BEGIN.strip()} and {END.strip()} there")
    return head + begin + "\n".join(table(reports)) + "\n" + end + tail


def main(paths: Sequence[str]) -> int:
    """Write the file."""
    found = [Path(path) for path in paths] or [ROOT / ".data" / "bench" / "report.json"]
    README.write_text(write(README.read_text(), [json.loads(path.read_text()) for path in found]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
