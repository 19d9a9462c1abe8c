"""The calculator: what it says grows with what is asked, and the page says what the calculator does."""

import json
import math
import re
from dataclasses import fields, replace
from itertools import pairwise

import pytest

from bench.capacity import __main__ as command
from bench.capacity import measured, pages
from bench.capacity.load import Load, Nonsense
from bench.capacity.model import logs_needed, plan, share, steps
from bench.capacity.text import Answer
from bench.scaling.units import KEYS, UNITS

FOUND = measured.load()
USUAL = Load(connections=100_000, events=1_000, audience=50)
GROWING = ("connections", "events", "audience", "bytes", "opens", "replay", "missed", "reacted", "sessions")


def cores(load):
    return {each.name: each.cores for each in plan(load, FOUND).parts}


@pytest.mark.parametrize("name", GROWING)
def test_more_of_anything_never_needs_less_of_anything(name):
    values = {
        "connections": [50, 1_000, 30_000, 1_000_000],
        "audience": [0, 1, 50, 5_000],
        "sessions": [0, 0.5, 1],
        "replay": [0, 0.5, 1],
        "reacted": [0, 0.01, 0.5, 1],
        "bytes": [2, 200, 2_000, 20_000],
    }.get(name, [0, 1, 10, 100, 1_000, 5_000])
    found = [plan(replace(USUAL, **{name: value}), FOUND) for value in values]

    for less, more in pairwise(found):
        for before, after in zip(less.parts, more.parts, strict=True):
            assert after.cores >= before.cores * (1 - 1e-9), before.name
            assert after.memory_gb >= before.memory_gb * (1 - 1e-9), before.name
        for before, after in zip(less.limits, more.limits, strict=True):
            assert after.used >= before.used * (1 - 1e-9), before.name
        assert (more.disk_gb, more.egress_gb) >= (less.disk_gb, less.egress_gb)


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("connections", "web processes"),
        ("events", "PostgreSQL"),
        ("bytes", "Valkey"),
        ("opens", "Valkey"),
    ],
)
def test_what_is_asked_is_in_what_is_needed(name, part):
    more = replace(USUAL, **{name: 10 * (getattr(USUAL, name) or 100)})

    assert cores(more)[part] > cores(USUAL)[part]


def test_events_that_are_joined_or_appended_together_cost_less():
    usual = plan(USUAL, FOUND)

    joined, together = (plan(replace(USUAL, **{n: 10}), FOUND) for n in ("joined", "per_transaction"))

    assert joined.part("web processes").used < usual.part("web processes").used
    assert together.part("PostgreSQL").used < usual.part("PostgreSQL").used


def test_a_process_has_no_more_streams_than_it_may():
    asked = Load(connections=1_000_000, events=0, audience=0, opens=0, streams=10_000)

    assert plan(asked, FOUND).part("web processes").number >= 100


def test_nothing_is_needed_twice_where_one_process_is_enough():
    asked = Load(connections=100, events=1, audience=1)

    assert plan(asked, FOUND).part("web processes").number == 1
    assert logs_needed(asked, FOUND) == 1


def test_where_one_log_is_full_there_are_as_few_as_will_do():
    much = Load(connections=1_000_000, events=200_000, audience=1)
    number = logs_needed(much, FOUND)

    assert number > 1
    assert plan(share(much, number), FOUND).fits
    assert not plan(share(much, number - 1), FOUND).fits


def test_where_nothing_will_do_it_says_so():
    hopeless = Load(connections=1e9, events=1e9, database_sessions=1)

    assert logs_needed(hopeless, FOUND) is None
    answer = Answer.of(hopeless, FOUND)
    assert not answer.enough
    assert "does not fit" in answer.table()


def test_a_limit_is_met_where_it_is_said_to_be():
    for step in steps(USUAL, FOUND):
        below, above = (plan(USUAL.times(step.factor * by), FOUND) for by in (0.98, 1.02))
        used = [
            each.alone if step.name == "one web process" else
            next(limit.used for limit in each.limits if limit.name == step.name)
            for each in (below, above)
        ]  # fmt: skip
        assert used[0] <= 1.001, step
        if step.factor < 1e5:
            assert used[1] >= 0.999, step


def test_what_is_full_first_is_said_first():
    found = [each.factor for each in steps(USUAL, FOUND)]

    assert found == sorted(found)
    assert len(found) == len(plan(USUAL, FOUND).limits) + 1


def test_the_bill_is_the_sum_of_its_parts():
    said = Answer.of(USUAL, FOUND).as_json()

    parts = sum(each["price"] for each in said["parts"])
    assert said["price"]["total"] == pytest.approx(
        parts + said["price"]["disk"] + said["price"]["egress"], rel=1e-4
    )
    free = Answer.of(replace(USUAL, core=0, memory=0, disk=0, egress=0), FOUND).as_json()
    assert free["price"]["total"] == 0


def test_it_speaks_to_programs(capsys):
    assert command.main(["--connections", "5000", "--events", "10", "--audience", "3", "--json"]) == 0

    said = json.loads(capsys.readouterr().out)
    assert said["load"]["deliveries"] == 30
    assert {each["part"] for each in said["parts"]} == {"web processes", "workers", "Valkey", "PostgreSQL"}
    assert said["fits"] is True


@pytest.mark.parametrize("name", [each.name for each in fields(Load)])
def test_the_most_of_anything_is_json(capsys, name):
    """Beside as many streams as there may be: an event has no more readers than that."""
    most = next(each.metadata["most"] for each in fields(Load) if each.name == name)
    asked = ["--connections", "1e9", f"--{name.replace('_', '-')}", str(most), "--json"]

    assert command.main(asked) == 0

    def constant(word):
        raise AssertionError(word)

    json.loads(capsys.readouterr().out, parse_constant=constant)


def test_a_default_that_cannot_be_is_as_much_as_can(capsys):
    assert command.main(["--connections", "10", "--json"]) == 0

    assert json.loads(capsys.readouterr().out)["load"]["audience"] == 10


def test_what_is_full_at_any_load_is_said_to_be(capsys):
    assert command.main(["--database-sessions", "1"]) == 0

    [line] = [line for line in capsys.readouterr().out.split("\n") if "at any load" in line]
    assert "PostgreSQL's sessions" in line
    assert not any(
        each.factor == 0 for each in steps(Load(connections=1e9, events=1e9, streams=1, opens=1e9), FOUND)
    )


def test_there_are_never_fewer_cores_than_are_used(capsys):
    for load in (Load(connections=1e6, events=1e6 / 3), Load(), Load(connections=1e9, events=1e9)):
        for each in plan(load, FOUND).parts:
            assert each.cores >= each.used, each


def test_a_write_to_a_reader_has_more_bytes_than_are_written():
    bare, full = (plan(replace(USUAL, overhead=bytes_), FOUND).egress_gb for bytes_ in (0, 85))
    joined = plan(replace(USUAL, overhead=85, joined=5), FOUND).egress_gb

    writes = USUAL.deliveries + USUAL.connections / 15
    assert full - bare == pytest.approx(85 * writes * USUAL.mean * 30 * 86_400 / 1e9)
    assert bare < joined < full


def test_no_more_is_reacted_to_than_a_whole_worker_did():
    [reacting] = [each for each in plan(Load(events=FOUND.reacted, reacted=1), FOUND).limits
                  if each.name.startswith("reacting")]  # fmt: skip

    assert reacting.used >= 1 / Load().headroom * 0.999


def test_what_is_none_by_noise_is_not_free(tmp_path):
    said = json.loads(measured.FILE.read_text())
    said["units"]["postgres.recheck_token"] |= {"value": 0, "low": 0, "high": 145}
    (tmp_path / "measured.json").write_text(json.dumps(said))

    assert measured.load(tmp_path / "measured.json").values["postgres.recheck_token"] == 145


@pytest.mark.parametrize("content", [None, "no JSON", "{}", "[]", '{"machine": 1, "mode": "full"}'])
def test_a_report_that_cannot_be_read_is_named(tmp_path, capsys, content):
    path = tmp_path / "report.json"
    if content is not None:
        path.write_text(content)
    before = measured.FILE.read_text()

    assert command.main(["--report", str(path)]) == 1

    assert str(path) in capsys.readouterr().out
    assert measured.FILE.read_text() == before


def test_so_many_logs_as_are_asked_for(capsys):
    assert command.main(["--logs", "3", "--json"]) == 0

    said = json.loads(capsys.readouterr().out)
    assert (said["logs"], said["parts"][1]["number"]) == (3, 3)


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        (["--connections", "0"], "--connections is 0, and must be at least 1"),
        (["--events", "-1"], "--events is -1, and must be at least 0"),
        (["--events", "nan"], "--events is not a number"),
        (["--connections", "inf"], "--connections is not a number"),
        (["--sessions", "1.5"], "--sessions is 1.5, and must be at most 1"),
        (["--headroom", "1"], "--headroom is 1, and must be at most 0.95"),
        (["--joined", "0"], "--joined is 0, and must be at least 1"),
        (["--per-transaction", "0.5"], "--per-transaction is 0.5, and must be at least 1"),
        (["--connections", "10", "--audience", "11"], "--audience is more than --connections"),
        (["--events", "1e300"], "--events is 1e+300, and must be at most 1e+09"),
        (["--core", "1e300"], "--core is 1e+300, and must be at most 1e+06"),
        (["--logs", "1000000"], "--logs must be at most 100000"),
        (["--logs", "0"], "--logs must be at least 1"),
        (["--rounds", "0"], "--rounds must be at least 1"),
        (["--events", "many"], "invalid float value: 'many'"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(capsys, asked, why):
    with pytest.raises(SystemExit, match="2"):
        command.main(asked)

    assert why in capsys.readouterr().err


def test_every_input_has_its_bounds():
    for each in fields(Load):
        assert each.metadata["about"]
        for wrong in (-math.inf, math.inf, 1e300, -1e300):
            with pytest.raises(Nonsense, match=each.name.replace("_", "-")):
                Load(**{each.name: wrong})


def test_every_unit_is_measured_and_each_has_a_name_of_its_own():
    assert len(KEYS) == len(UNITS)
    assert FOUND.values.keys() == UNITS.keys()
    for name in ("web.event", "web.write", "valkey.subscriber", "postgres.append", "postgres.place"):
        assert FOUND.values[name] > 0, name


def test_the_figures_name_no_machine_and_no_path():
    text = measured.FILE.read_text()

    assert re.match(r"\d+ × .+, Python 3\.\d+\.\d+$", FOUND.machine)
    assert "Linux" not in text
    assert "/" + "tmp" not in text


@pytest.mark.parametrize(
    "broken",
    [
        lambda said: said["units"].pop("web.event"),
        lambda said: said["units"].update({"web.other": {}}),
        lambda said: said["units"]["web.event"].update(value=-1),
        lambda said: said["units"]["web.event"].update(unit="ms"),
        lambda said: said.pop("machine"),
    ],
)
def test_figures_that_are_not_whole_are_refused(tmp_path, broken):
    said = json.loads(measured.FILE.read_text())
    broken(said)
    (tmp_path / "measured.json").write_text(json.dumps(said))

    with pytest.raises(measured.Unmeasured, match=r"measured\.json"):
        measured.load(tmp_path / "measured.json")


def test_without_figures_it_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(measured.load, "__defaults__", (tmp_path / "none.json",))

    assert command.main([]) == 1
    assert "none.json: FileNotFoundError" in capsys.readouterr().out


def test_a_report_becomes_figures():
    def figure(key, value):
        each = UNITS[key]
        return {"scenario": "scale", "subject": each.part, "quantity": each.what, "unit": each.unit,
                "value": value, "at": None}  # fmt: skip

    figures = [figure(key, value) for value in (1.0, 5.0, 3.0) for key in UNITS]
    curve = {"scenario": "scale", "subject": "Valkey", "quantity": "full", "unit": "1/s", "value": 7, "at": 4}
    report = {"machine": "2 × A Processor, Linux 1.2-host, Python 3.9.1", "mode": "full", "rounds": 3,
              "figures": [*figures, curve]}  # fmt: skip

    said = measured.of_reports([report])

    assert said["units"]["web.event"] == {"value": 3.0, "unit": "µs", "low": 1.0, "high": 5.0}
    assert said["curves"] == {"Valkey": {"full [1/s]": [(4, 7.0)]}}
    assert said["machine"] == "2 × A Processor, Python 3.9.1"  # whoever writes it down
    with pytest.raises(measured.Unmeasured, match="on what"):
        measured.of_reports([report | {"machine": "mine"}])
    with pytest.raises(measured.Unmeasured, match=r"web\.event"):
        measured.of_reports([report | {"figures": [f for f in figures if "nobody" not in f["quantity"]]}])
    assert measured.of_reports([report, report])["rounds"] == 6
    with pytest.raises(measured.Unmeasured, match="different"):
        measured.of_reports([report, report | {"mode": "quick"}])


def test_the_page_says_what_the_calculator_says_now():
    text = pages.PAGE.read_text()

    assert {found["name"] for found in pages.BLOCK.finditer(text)} == {
        "machine", "summary", "units", "full", "fleets", "check",
        *(f"example {name}" for name in pages.EXAMPLES),
    }  # fmt: skip
    assert pages.page(text, FOUND) == text, "python -m bench.capacity --docs writes it anew"


def test_the_pictures_are_drawn_of_the_figures_there_are():
    for path, drawn in pages.pictures(FOUND).items():
        assert path.read_text() == drawn, path.name
        assert path.name in pages.PAGE.read_text()


def test_the_page_names_every_input_of_its_formulas():
    text = pages.PAGE.read_text()

    formulas = text.partition("## The formulas")[2].partition("## Examples")[0]
    for name in UNITS:
        plain = re.sub(r"_(session|token)$", "", name)
        assert plain in formulas, name
