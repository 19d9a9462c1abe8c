"""What the tests of the generated clients share: the tools of three languages, and an odd catalogue."""

import contextlib
import dataclasses
import json
import os
import shutil
import struct
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from project.generate import elm, python, typescript
from project.generate.shapes import ANY, NULL, Either, Field, List, Model, Plain, Table, Words
from project.generate.source import Kind, Record, Source, Topic, source
from streams.wire import CONTROLS
from tests import node
from tests.stack import ROOT

HERE = Path(__file__).parent
CLIENTS = ROOT / "clients/generated"
WRITERS = {"elm": elm.write, "python": python.write, "typescript": typescript.write}

# --- Tools -------------------------------------------------------------------------------------------

_STRICT = {
    "strict": True,
    "noUnusedLocals": True,
    "noUncheckedIndexedAccess": True,
    "exactOptionalPropertyTypes": True,
    "target": "es2022",
    "module": "es2022",
    "moduleResolution": "bundler",
    "lib": ["es2022", "dom"],
    "types": [],
    "outDir": "out",
}


def tsc(folder: Path) -> str:
    """Compile all of a folder's TypeScript to `out`; return what the compiler has against it.

    The client that it is on is there as if npm had installed it.
    """
    (folder / "node_modules").mkdir()
    (folder / "node_modules/tickertape-client").symlink_to(ROOT / "clients/js")
    (folder / "tsconfig.json").write_text(json.dumps({"compilerOptions": _STRICT, "include": ["*.ts"]}))
    (folder / "package.json").write_text('{"type": "module"}')
    program = node.need(), str(node.MODULES / "typescript/bin/tsc")
    ran = subprocess.run([*program, "-p", "."], cwd=folder, text=True, capture_output=True, timeout=110)
    assert bool(ran.stdout) == bool(ran.returncode), ran.stderr
    return ran.stdout


def mypy(folder: Path, *files: str) -> str:
    """Check files; return what mypy has against them."""
    (folder / "mypy.ini").write_text("[mypy]\nstrict = True\nplugins = pydantic.mypy\n")
    command = [sys.executable, "-m", "mypy", "--no-error-summary", "--cache-dir=cache", *files]
    ran = subprocess.run(command, cwd=folder, text=True, capture_output=True, timeout=110)
    return ran.stdout + ran.stderr


def elm_make(folder: Path, program: str) -> Path:
    """Compile a program of a folder with the client's modules; return the JavaScript.

    The compiler is npm's; elm/core and elm/json, which it would ask its package site for, are here.
    """
    node.need()
    binaries = [*(node.MODULES / "@elm_binaries").glob("*/elm")]
    if not binaries:
        pytest.skip("npm has no Elm compiler for this platform")
    home = folder / "home/0.19.1/packages"
    home.mkdir(parents=True)
    with tarfile.open(HERE / "elm-packages.tar.gz") as packages:
        packages.extractall(home, filter="data")
    (home / "registry.dat").write_bytes(_registry({"core": (1, 0, 5), "json": (1, 1, 3)}))
    (folder / "src/Main.elm").write_text(program)
    out = folder / "main.cjs"
    command = [binaries[0], "make", "src/Main.elm", "--output=main.js"]
    alone = {**os.environ, "ELM_HOME": str(folder / "home"), "HTTPS_PROXY": "http://127.0.0.1:9"}
    ran = subprocess.run(command, cwd=folder, env=alone, text=True, capture_output=True, timeout=100)
    assert ran.returncode == 0, ran.stderr
    return (folder / "main.js").rename(out)


def _registry(packages: Mapping[str, tuple[int, int, int]]) -> bytes:
    """Return a list of Elm's packages as its compiler keeps it: names, each with its newest version."""
    found = struct.pack(">qq", len(packages), len(packages))
    for name, version in sorted(packages.items()):
        found += b"\x03elm" + bytes([len(name)]) + name.encode() + bytes(version) + struct.pack(">q", 0)
    return found


@contextlib.contextmanager
def running(*command: str | Path) -> Iterator[tuple[Iterator[str], subprocess.Popen[str]]]:
    """Run a program that says what it hears, line by line; it ends with the block."""
    with subprocess.Popen(command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as program:
        try:
            yield (line.rstrip("\n") for line in program.stdout), program
        finally:
            program.kill()


def copy(language: str, folder: Path) -> Path:
    """Copy the committed client to a folder of the test's own."""
    return Path(shutil.copytree(CLIENTS / language, folder / language))


# --- A catalogue with everything that may be in one ------------------------------------------------------


def odd(*names: str) -> Source:
    """Return a catalogue of odd names, shapes and texts; with it events of these names."""
    shapes = {
        "type": Plain("string"),
        "class": Plain("integer"),
        "from": Either((Plain("string"), NULL)),
        "port": Plain("boolean"),
        "copy": Plain("number"),
        "model_config": Plain("string"),
        "two-words": Plain("string"),
        "1st": ANY,
        "amount": Either((Plain("integer"), Plain("number"), NULL)),
        "mixed": Either((Plain("string"), Plain("integer"))),
        "table": Table(List(Either((Words(("a", 'b"c')), NULL)))),
        "place": Model("Place"),
        "tree": Either((Model("Tree"), NULL)),
        "colour": Model("Colour"),
        "nothing": NULL,
    }
    text = 'A comment */ that """ ends -} early \\ and {- begins.\n\nWith `code` and “quotes”.'
    every = tuple(Field(name, shape, text) for name, shape in shapes.items())
    controls = {name: Record(kind.__name__, "Said.", ()) for name, kind in CONTROLS.items()}
    reason = (Field("reason", Plain("string"), "Why"),)
    controls |= {name: Record(controls[name].name, "", reason) for name in ("stream.end", "stream.reset")}
    kind = Kind("odd_shop", True, text.partition("\n")[0], ("Odd", "Empty", *names))
    return Source(
        models=(
            Record("Colour", "", (), Words(("red", "green"))),
            Record("Place", text, (Field("x", Plain("number"), ""),)),
            Record("Tree", "", (Field("left", Either((Model("Tree"), NULL)), ""),)),
        ),
        events=(
            Record("Odd", text, every),
            Record("Empty", "", ()),
            *(Record(name, "", ()) for name in names),
        ),
        controls=controls,
        kinds=(kind, Kind("system", False, "All.", ("Empty",))),
        topics=(Topic("orders", kind, ("Odd",)),),
    )


def older() -> Source:
    """Return a catalogue of which this service's is a newer one.

    It has no CommentUpdated; a CommentAdded without `reply_to`; a CommentDeleted with a field that is not
    sent any more; and of all words only the first.
    """
    now = source()

    def less(record: Record) -> Record:
        fields = [field for field in record.fields if field.name != "reply_to"]
        if record.name == "CommentDeleted":
            fields.append(Field("why", Plain("string"), "Why it was deleted"))
        fields = [
            dataclasses.replace(field, shape=Words(field.shape.values[:1]))
            if isinstance(field.shape, Words)
            else field
            for field in fields
        ]
        return dataclasses.replace(record, fields=tuple(fields))

    def known(told: Kind | Topic) -> Any:
        return dataclasses.replace(
            told, events=tuple(name for name in told.events if name != "CommentUpdated")
        )

    return dataclasses.replace(
        now,
        events=tuple(less(record) for record in now.events if record.name != "CommentUpdated"),
        controls={name: less(record) for name, record in now.controls.items()},
        kinds=tuple(map(known, now.kinds)),
        topics=tuple(map(known, now.topics)),
    )


def write(language: str, source: Source, folder: Path) -> Path:
    """Write a client to a folder."""
    for name, text in WRITERS[language](source).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder
