"""`python -m bench.capacity`: what a load takes, what is full first, and what it costs a month.

    python -m bench.capacity --connections 1000000 --events 2000 --audience 50
    python -m bench.capacity --connections 10000 --events 100 --json
    python -m bench.capacity --measure         # ten minutes on a quiet machine: figures and docs anew

Exit status: 0 if it was reckoned; 1 if the figures are not there or could not be measured; 2 if the question
makes no sense.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

os.environ.setdefault("TICKERTAPE_MODE", "test")
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")

from bench.capacity import measured, pages, text
from bench.capacity.load import Load, Nonsense
from bench.capacity.model import MOST_LOGS
from bench.numbers import shown

MEASURED_ROUNDS = 3


def say(line: str) -> None:
    """Tell the person who asked."""
    print(line, flush=True)  # noqa: T201 (that is what it is for)


def options(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    about = (__doc__ or "").partition("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m bench.capacity", description=about)
    for each in fields(Load):
        usual = each.default
        default = f" ({shown(usual)})" if isinstance(usual, float | int) else ""
        parser.add_argument(
            "--" + each.name.replace("_", "-"),
            type=float,
            help=each.metadata["about"] + default,
        )
    parser.add_argument("--logs", type=int, help="so many logs, and not as few as will do")
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.add_argument("--measure", action="store_true", help="measure, write the figures and the docs anew")
    parser.add_argument("--rounds", type=int, default=MEASURED_ROUNDS, help="of that; the medians count (3)")
    parser.add_argument("--quick", action="store_true", help="of that: less of everything")
    parser.add_argument(
        "--report",
        type=Path,
        nargs="+",
        help="in place of measuring: report.json of `make bench`, with `scale` in it",
    )
    parser.add_argument("--docs", action="store_true", help="write the docs anew from the figures there are")
    given = parser.parse_args(arguments)
    if given.logs is not None and given.logs < 1:
        parser.error("--logs must be at least 1")
    if given.logs is not None and given.logs > MOST_LOGS:
        parser.error(f"--logs must be at most {MOST_LOGS}")
    if given.rounds < 1:
        parser.error("--rounds must be at least 1")
    try:
        given.load = Load.asked(**{each.name: getattr(given, each.name) for each in fields(Load)})
    except Nonsense as nonsense:
        parser.error(str(nonsense))
    return given


def main(arguments: Sequence[str]) -> int:
    """Reckon, or measure; return the exit status."""
    given = options(arguments)
    try:
        if given.measure or given.report or given.docs:
            return renew(given)
        found = measured.load()
    except measured.Unmeasured as error:
        say(str(error))
        return 1
    answer = text.Answer.of(given.load, found, logs=given.logs)
    say(json.dumps(answer.as_json(), indent=1, allow_nan=False) if given.json else answer.table())
    return 0


def renew(given: argparse.Namespace) -> int:
    """Write the figures, where they are measured anew, and what is in the docs of them."""
    if given.measure:
        from bench.__main__ import main as bench

        with tempfile.TemporaryDirectory(prefix="tickertape-capacity-") as folder:
            asked = ["--only", "scale", "--subjects", "tickertape-uvicorn", "--rounds", str(given.rounds)]
            status = bench([*asked, *(["--quick"] if given.quick else []), "--out", folder])
            if status:
                return status
            keep([Path(folder) / "report.json"])
    elif given.report:
        keep(given.report)
    for path in pages.write(measured.load()):
        say(f"written: {path.relative_to(pages.ROOT)}")
    return 0


def keep(reports: Sequence[Path]) -> None:
    """Keep the figures of reports; raises Unmeasured where one cannot be read, or is none."""
    kept = measured.of_reports([_read(report) for report in reports])
    measured.FILE.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n")
    say(f"written: {measured.FILE.relative_to(pages.ROOT)}")


def _read(report: Path) -> Mapping[str, Any]:
    try:
        said = json.loads(report.read_text())
    except (OSError, ValueError) as error:
        raise measured.Unmeasured(f"{report} cannot be read: {type(error).__name__}: {error}") from error
    if not isinstance(said, dict) or not {"machine", "mode", "rounds", "figures"} <= said.keys():
        raise measured.Unmeasured(f"{report} is no report of `make bench`")
    return said


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
