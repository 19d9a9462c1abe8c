"""The JavaScript client as a package: its parts under Node.js, its types, its size."""

import gzip
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import npm
from tests.stack import ROOT

CLIENT = ROOT / "clients/js"
PARTS = Path(__file__).parent / "js"
BUDGET = 6_200  # bytes, minified and gzipped, of all there is


@pytest.fixture(scope="module")
def packages() -> Path:
    found = npm.packages()
    if found is None:
        pytest.skip(npm.HOW_TO_GET_IT)
    return found


def run(*command: str | Path) -> bytes:
    test = {**os.environ, "TICKERTAPE_MODE": "test"}
    ran = subprocess.run(command, cwd=ROOT, env=test, capture_output=True, timeout=100)
    assert ran.returncode == 0, (ran.stdout + ran.stderr).decode()[-6000:]
    return ran.stdout


def test_the_parser_reads_every_case_and_the_other_parts_do_what_they_say(packages):
    said = run("node", "--test", "--test-reporter=tap", PARTS / "parts.mjs").decode()

    cases = json.loads((Path(__file__).parent / "sse_cases.json").read_text())["cases"]
    assert int(re.search(r"# pass (\d+)", said)[1]) > len(cases) > 50
    assert "# fail 0" in said


def test_the_types_fit_what_is_written_with_them(packages):
    run(
        "node", packages / "typescript/bin/tsc", "--strict", "--noEmit", "--target", "es2022",
        "--module", "nodenext", "--moduleResolution", "nodenext", "--lib", "es2022,dom", PARTS / "types.ts",
    )  # fmt: skip


def test_the_types_name_all_that_there_is(packages):
    script = "import('./clients/js/index.js').then((all) => console.log(Object.keys(all).sort().join(' ')))"
    there = run("node", "-e", script).decode().split()
    types = (CLIENT / "index.d.ts").read_text()

    assert set(re.findall(r"(?m)^export (?:class|const|function) (\w+)", types)) == set(there)


def test_what_comes_by_items_and_jobs_goes_to_who_asked_for_that_one(packages):
    script = "import('./clients/js/index.js').then(({ ROUTES }) => console.log(JSON.stringify(ROUTES)))"
    routes = json.loads(run("node", "-e", script))
    # A process of its own: here, tests have declared more.
    code = (
        "import json; from events.catalogue import declared;"
        "print(json.dumps({each.name: each.channels for each in declared()}))"
    )
    sent_on = json.loads(run(sys.executable, "manage.py", "shell", "--verbosity=0", "-c", code))

    assert {name: {*kinds} for name, kinds in routes.items()} == {
        name: {*kinds} for name, kinds in sent_on.items() if {"item", "job"} & {*kinds}
    }


def test_the_client_is_small_and_needs_nothing(packages):
    bundle = run(
        packages / "esbuild/bin/esbuild", CLIENT / "index.js",
        "--bundle", "--minify", "--format=esm", "--target=es2022", "--log-level=error",
    )  # fmt: skip
    size = len(gzip.compress(bundle, 9))

    assert size < BUDGET, size
    package = json.loads((CLIENT / "package.json").read_text())
    assert not {"dependencies", "peerDependencies"} & set(package)
    for module in CLIENT.rglob("*.js"):
        assert set(re.findall(r'from "([^."][^"]*)"', module.read_text())) == set(), module


def test_every_file_of_the_package_is_there():
    package = json.loads((CLIENT / "package.json").read_text())

    assert [name for name in package["files"] if not (CLIENT / name).exists()] == []
