"""`make chaos`: break everything by a seeded schedule, and show that nobody missed anything.

Exit status: 0 if nothing is lost, duplicated, out of order, reset or else wrong; 1 if anything
is; 2 if the run itself could not be done.
"""

import argparse
import logging
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("TICKERTAPE_MODE", "test")
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")

from tests.chaos import schedule, table
from tests.chaos.clients import ALL, Program, available
from tests.chaos.deployment import Deployment
from tests.chaos.run import USERS, Run

RATE = 24.0  # events a second


def say(line: str) -> None:
    """Tell the person who waits."""
    print(line, flush=True)


def options(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=13.0, help="how long to break things (13)")
    parser.add_argument("--seed", type=int, help="replays the schedule of a run; one of its own otherwise")
    parser.add_argument("--rate", type=float, default=RATE, help=f"events a second ({RATE:.0f})")
    parser.add_argument("--faults", help="only these kinds, with commas between")
    parser.add_argument("--clients", help="only these programs, with commas between")
    parser.add_argument(
        "--require-all-clients",
        action="store_true",
        help="do nothing where one of the programs cannot be run",
    )
    parser.add_argument("--plant", metavar="BUG", help="a bug to plant: the run has to find it")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the table there, for programs")
    parser.add_argument("--dry-run", action="store_true", help="print the schedule and do nothing")
    parser.add_argument("--keep", action="store_true", help="keep the folder of logs on success, too")
    given = parser.parse_args(arguments)
    if given.minutes <= 0 or given.rate <= 0:
        parser.error("--minutes and --rate are more than 0")
    given.kinds = given.faults.split(",") if given.faults else None
    for kind in given.kinds or ():
        if kind not in schedule.KINDS:
            parser.error(f"there is no fault “{kind}”; there are: {', '.join(schedule.KINDS)}")
    if given.seed is None:
        given.seed = random.SystemRandom().randrange(1_000_000)
    return given


def main(arguments: Sequence[str]) -> int:
    """Run; return the exit status."""
    for number in (signal.SIGINT, signal.SIGTERM):  # also of one that a script put in the background
        signal.signal(number, signal.default_int_handler)
    given = options(arguments)
    seconds = given.minutes * 60
    faults = schedule.plan(given.seed, seconds, given.kinds)
    say(f"seed {given.seed}: {len(faults)} faults in {given.minutes:g} minutes")
    if given.dry_run:
        for fault in faults:
            say(str(fault))
        return 0
    folder = Path(tempfile.mkdtemp(prefix="tickertape-chaos-"))
    folder.chmod(0o755)  # as root, the engines run as another
    logging.basicConfig(
        filename=folder / "chaos.log", level=logging.INFO, format="%(asctime)s %(name)s %(message)s"
    )
    logging.getLogger("httpx").setLevel(logging.WARNING)
    good = False
    try:
        programs = _programs(given)
        began = time.monotonic()
        with Deployment(folder, seed=given.seed, users=USERS, plant=given.plant) as deployment:
            say(f"the deployment is up after {time.monotonic() - began:.1f} s")
            run = Run(
                deployment, faults, programs, seed=given.seed, seconds=seconds, rate=given.rate, say=say
            )
            result = run.go()
        say("")
        for line in table.lines(result):
            say(line)
        for line in table.blames(result):
            say(line)
        if given.json:
            given.json.write_text(table.as_json(result) + "\n")
        good = result.verdict.good
        say(f"\n{'Nothing is wrong.' if good else 'SOMETHING IS WRONG.'} make chaos {_again(given)}")
    except KeyboardInterrupt:
        say("interrupted")
        return 130
    except Exception as error:
        logging.getLogger(__name__).exception("The run could not be done.")
        say(f"the run could not be done: {type(error).__name__}: {error}")
        return 2
    finally:
        if good and not given.keep:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            say(f"logs are in {folder}")
    return 0 if good else 1


def _programs(given: argparse.Namespace) -> list[Program]:
    found = [
        program for program in available() if not given.clients or program.name in given.clients.split(",")
    ]
    lacking = sorted(set(ALL) - {program.name for program in found})
    if given.require_all_clients and lacking:
        raise RuntimeError(f"all clients are required, and there is none of {', '.join(lacking)}")
    return found


def _again(given: argparse.Namespace) -> str:
    words = [f"MINUTES={given.minutes:g}", f"SEED={given.seed}"]
    more = [] if given.rate == RATE else [f"--rate {given.rate:g}"]
    more += [f"--{name} '{value}'" for name in ("faults", "clients", "plant") if (value := vars(given)[name])]
    more += ["--require-all-clients"] if given.require_all_clients else []
    return " ".join(words + ([f'ARGS="{" ".join(more)}"'] if more else []))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
