"""`make bench`: measure, print the tables, and write them down with plots.

Exit status: 0 if it was measured, whatever came out; 1 if a scenario could not be done; 130 if interrupted.
"""

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import cast

os.environ.setdefault("TICKERTAPE_MODE", "test")
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")

from bench import report, scenarios
from bench.context import Context, Scenario, Starts
from bench.deployment import ROOT, Deployment
from bench.figures import DAPHNE, SUBJECTS, UVICORN, Figure
from bench.generator import allow_files
from bench.numbers import shown
from bench.peers import starts as peers
from bench.servers import Trouble
from bench.usage import Cores
from bench.web import WebStarts

ROUNDS = 3  # whose medians count
INTERRUPTED = "The run was interrupted."


def say(line: str = "") -> None:
    """Tell the person who waits."""
    print(line, flush=True)  # noqa: T201 (that is what it is for)


def options(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    about = (__doc__ or "").partition("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m bench", description=about)
    parser.add_argument("--quick", action="store_true", help="two minutes: one round, less of less")
    parser.add_argument("--rounds", type=int, help=f"how often; the medians count ({ROUNDS}; quick: 1)")
    parser.add_argument(
        "--only", default="", help=f"scenarios, with commas between: {','.join(scenarios.ALL)}"
    )
    parser.add_argument("--subjects", default="", help="only these servers, with commas between")
    parser.add_argument("--out", type=Path, default=ROOT / ".data" / "bench", help="where the report goes")
    given = parser.parse_args(arguments)
    given.names = [name for name in given.only.split(",") if name]
    if given.quick and not given.names:
        given.names, given.subjects = (
            list(scenarios.QUICK),
            given.subjects or ",".join(scenarios.QUICK_SUBJECTS),
        )
    given.names = given.names or list(scenarios.USUAL)
    for name in given.names:
        if name not in scenarios.ALL:
            parser.error(f"there is no scenario “{name}”; there are: {', '.join(scenarios.ALL)}")
    for subject in filter(None, given.subjects.split(",")):
        if subject not in SUBJECTS:
            parser.error(f"there is no server “{subject}”; there are: {', '.join(SUBJECTS)}")
    given.rounds = given.rounds or (1 if given.quick else ROUNDS)
    return given


def main(arguments: Sequence[str]) -> int:
    """Measure; return the exit status."""
    for number in (signal.SIGINT, signal.SIGTERM):  # also of one that a script put in the background
        signal.signal(number, signal.default_int_handler)
    given = options(arguments)
    allow_files(100_000)
    chosen = {name: cast("Scenario", import_module(f"bench.scenarios.{name}")) for name in given.names}
    seconds = sum(
        each.SECONDS[0 if given.quick else 1] * (1 if name in scenarios.ONCE else given.rounds)
        for name, each in chosen.items()
    )
    say(f"{given.rounds} round(s) of {', '.join(chosen)}: about {max(1, round(seconds / 60))} min")
    folder = Path(tempfile.mkdtemp(prefix="tickertape-bench-"))
    folder.chmod(0o755)  # as root, the engines run as another
    failed = ["it could not begin"]
    try:
        run, failed = measure(given, chosen, folder)
        report.write(run, given.out)
        say()
        say(report.markdown(run))
        say(f"written to {given.out}")
    except KeyboardInterrupt:
        say(INTERRUPTED)
        return 130
    finally:
        if not failed:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            say(f"logs are in {folder}")
    return 130 if INTERRUPTED in failed else int(bool(failed))


def measure(
    given: argparse.Namespace, chosen: dict[str, Scenario], folder: Path
) -> tuple[report.Run, list[str]]:
    """Run the rounds; return what was found, and what could not be done."""
    cores = Cores.choose()
    figures: list[Figure] = []
    failed: list[str] = []
    with Deployment(folder, cores) as deployment:
        found: list[Starts] = [
            WebStarts(UVICORN, "uvicorn", deployment),
            WebStarts(DAPHNE, "daphne", deployment),
        ]
        wanted = [name for name in given.subjects.split(",") if name]
        others, lacking = peers(folder, cores, wanted)
        starts = {each.subject: each for each in [*found, *others] if not wanted or each.subject in wanted}
        context = Context(given.quick, cores, folder, deployment, starts)
        for line in lacking:
            say(line)
            context.remark(line)
        if cores.shared:
            context.remark("One core only: servers and load share it, and only CPU times mean anything.")
        try:
            for context.round in range(1, given.rounds + 1):
                for name, scenario in chosen.items():
                    say(f"[{context.round}/{given.rounds}] {name}: {scenario.TITLE}")
                    failed += _measured(context, name, scenario, figures)
        except KeyboardInterrupt:  # what was found till then is worth being written down
            failed.append(INTERRUPTED)
        remarks = [*context.lines, *failed]
    mode = "quick" if given.quick else "full"
    return report.Run(mode, given.rounds, chosen, figures, remarks), failed


def _measured(context: Context, name: str, scenario: Scenario, figures: list[Figure]) -> list[str]:
    """Run a scenario once, and add its figures; return why it could not be done, if so."""
    began = time.monotonic()
    try:
        for figure in scenario.run(context):
            figures.append(figure)
            say(f"      {_line(figure)}")
    except Exception as error:  # the others are still worth their time
        why = str(error)
        if not isinstance(error, Trouble):
            why = f"{type(error).__name__}: {error}"
            traceback.print_exc()
        said = f"{name}, round {context.round}, broke off: {why}"
        say(f"      {said}")
        return [said]
    finally:
        say(f"      {time.monotonic() - began:.0f} s")
    return []


def _line(figure: Figure) -> str:
    at = "" if figure.at is None else f" at {shown(figure.at)}"
    return f"{figure.subject}: {figure.quantity}{at} = {shown(figure.value)} {figure.unit}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
