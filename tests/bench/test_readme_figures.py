"""The README's figures are a run's, and no others."""

import json

import pytest

from bench import readme
from bench.figures import DAPHNE, NCHAN, UVICORN, Aim, Figure
from bench.scenarios import ALL


def report(*figures, **more):
    said = [vars_of(each) for each in figures]
    return {"machine": "2 cores", "mode": "full", "rounds": 3, "figures": said, **more}


def vars_of(figure: Figure) -> dict[str, object]:
    return {name: getattr(figure, name) for name in Figure.__slots__}


def test_a_row_has_each_servers_median():
    figures = [Figure("many", UVICORN, readme.many.BEST, "1/s", value) for value in (100, 300, 200)]
    lines = list(readme.table([report(*figures, Figure("many", NCHAN, readme.many.BEST, "1/s", 50))]))
    [row] = [line for line in lines if line.startswith("| to 2,000 channels")]
    assert [cell.strip() for cell in row.split("|")[2:-1]] == ["200", "", "50", ""]
    assert lines[-1] == "2 cores; medians of 3 rounds."


def test_a_later_report_adds_and_changes_nothing():
    one = Figure("opens", DAPHNE, "CPU of one by a token", "ms", 0.7)
    other = Figure("opens", DAPHNE, "CPU of one by a token", "ms", 0.5)
    more = Figure("opens", UVICORN, "CPU of one by a token", "ms", 0.6)
    lines = list(readme.table([report(one), report(other, more)]))
    [row] = [line for line in lines if line.startswith("| opening one by a token")]
    assert [cell.strip() for cell in row.split("|")[2:-1]] == ["0.6", "0.7", "", ""]


def test_every_row_is_of_a_quantity_that_is_aimed_at_or_measured():
    from importlib import import_module

    aims: list[Aim] = [aim for name in ALL for aim in import_module(f"bench.scenarios.{name}").AIMS]
    named = {(aim.scenario, aim.quantity) for aim in aims}
    assert {(row.scenario, row.quantity) for row in [*readme.ROWS, *readme.ONE_WORKER]} <= named


def test_the_readme_has_a_place_for_them_and_keeps_the_rest():
    before = readme.README.read_text()
    after = readme.write(before, [report(Figure("many", UVICORN, readme.many.BEST, "1/s", 123_456))])
    assert "123,456" in after
    assert before.split(readme.BEGIN)[0] == after.split(readme.BEGIN)[0]
    assert before.split(readme.END)[1] == after.split(readme.END)[1]
    assert readme.write(after, [json.loads(json.dumps(report()))]) == readme.write(before, [report()])


def test_a_readme_without_a_place_is_refused():
    with pytest.raises(ValueError, match="begin figures"):
        readme.write("# A readme", [report()])
