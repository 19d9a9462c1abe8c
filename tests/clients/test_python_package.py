"""The Python client as a package: it needs nothing of ours, its types are strict, and it can be installed."""

import shutil
import subprocess
import sys

import pytest

from tests.stack import ROOT

PACKAGE = ROOT / "clients/python"


def test_it_imports_nothing_of_the_service_and_nothing_of_django():
    code = (
        f"import sys; sys.path.insert(0, {str(PACKAGE)!r}); import tickertape_client;"
        "ours = {'django', 'events', 'streams', 'workers', 'project', 'pydantic'};"
        "sys.exit(str(ours & set(sys.modules)) if ours & set(sys.modules) else 0)"
    )
    subprocess.run([sys.executable, "-I", "-c", code], check=True)


def test_who_forgets_that_a_stream_may_be_reset_hears_it_from_the_type_checker(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        "from tickertape_client import AsyncClient, Reset\n"
        "async def forgetful(client: AsyncClient) -> None:\n"
        "    async for event in client.stream(['item:1']):\n"
        "        print(event.data)\n"
        "async def careful(client: AsyncClient) -> None:\n"
        "    async for event in client.stream(['item:1']):\n"
        "        print(event.reason if isinstance(event, Reset) else event.data)\n"
    )
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--cache-dir", tmp_path, program],
        env={"MYPYPATH": str(PACKAGE)}, cwd=tmp_path, text=True, capture_output=True,
    )  # fmt: skip

    [error, found] = checked.stdout.splitlines()
    assert error.startswith('program.py:4: error: Item "Reset" of "Event | Reset" has no attribute "data"')
    assert found.startswith("Found 1 error")


@pytest.mark.long
def test_it_installs_from_its_folder_with_its_types(tmp_path):
    # A copy: building leaves files beside the sources.
    copy = shutil.copytree(PACKAGE, tmp_path / "python")
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "-qq", "--no-deps", "--target", tmp_path / "site", copy],
        check=True,
    )
    installed = tmp_path / "site/tickertape_client"

    assert {each.name for each in PACKAGE.glob("tickertape_client/*.py")} <= {
        each.name for each in installed.iterdir()
    }
    assert (installed / "py.typed").exists()
