"""What is made of figures: medians, aims, tables and plots."""

import json
import xml.etree.ElementTree as ET
from types import SimpleNamespace

import pytest

from bench import report
from bench.figures import NCHAN, UVICORN, Aim, Figure, compare, medians
from bench.plots import Axis, Plot, draw

SPEED = "deliveries a second"


def figure(value, *, subject=UVICORN, quantity=SPEED, at=None):
    return Figure("made", subject, quantity, "1/s", value, at)


def one(aim, *figures):
    [outcome] = compare([aim], figures)
    return outcome


def test_the_median_of_the_rounds_counts():
    rounds = [figure(value) for value in (10, 1_000, 12)]

    assert medians([*rounds, figure(3, at=5.0)]) == [figure(12), figure(3, at=5.0)]


@pytest.mark.parametrize(
    ("reached", "least", "met", "ratio"),
    [(30, True, True, 1.5), (10, True, False, 0.5), (10, False, True, 2.0), (40, False, False, 0.5)],
)
def test_an_aim_is_met_or_not_whichever_way_it_points(reached, least, met, ratio):
    outcome = one(Aim("made", UVICORN, SPEED, 20, least=least), figure(reached))

    assert (outcome.met, outcome.ratio) == (met, ratio)


def test_an_aim_may_be_a_number_of_times_what_a_peer_reached():
    aim = Aim("made", UVICORN, SPEED, 1.2, times=NCHAN, at=1_000)

    outcome = one(aim, figure(130, at=1_000), figure(100, subject=NCHAN, at=1_000), figure(7, subject=NCHAN))

    assert (outcome.wanted, outcome.reached, outcome.met) == (120, 130, True)


def test_nothing_is_said_of_what_was_not_measured():
    outcome = one(Aim("made", UVICORN, SPEED, 1.2, times=NCHAN), figure(130))

    assert (outcome.met, outcome.ratio) == (None, None)


@pytest.fixture
def run():
    scenario = SimpleNamespace(
        TITLE="Made up",
        __doc__="What is done,\nand how to read it.",
        AIMS=[Aim("made", UVICORN, SPEED, 20, times=NCHAN)],
        PLOTS=[Plot("speed", "Speed", "made", SPEED, "streams"), Plot("none", "None", "made", "else", "x")],
    )
    figures = [figure(5e6), figure(1e5, subject=NCHAN), figure(3, at=10), figure(4, at=20)]
    return report.Run("full", 3, {"made": scenario}, figures, ["One remark."])


def test_the_report_has_aims_and_figures_for_people(run):
    text = report.markdown(run)

    row = "| made: deliveries a second | tickertape-uvicorn | ≥ 20 × nchan | 2,000,000 1/s"
    assert f"{row} | 5,000,000 1/s | 2.50 | met |" in text
    assert "| deliveries a second | 1/s | 5,000,000 | 100,000 |" in text
    assert "What is done, and how to read it." in text
    assert "- One remark." in text


def test_the_report_is_written_for_people_and_programs_with_its_plots(run, tmp_path):
    report.write(run, tmp_path / "new" / "folder")

    written = {path.name for path in (tmp_path / "new" / "folder").iterdir()}
    said = json.loads((tmp_path / "new" / "folder" / "report.json").read_text())
    assert written == {"report.md", "report.json", "speed.svg"}  # there is nothing to draw of the other
    assert "none.svg" not in report.markdown(run)
    assert said["aims"][0]["met"] is True
    assert {
        "scenario": "made",
        "subject": UVICORN,
        "quantity": SPEED,
        "unit": "1/s",
        "value": 4,
        "at": 20,
    } in said["figures"]


@pytest.mark.parametrize("log", [False, True])
def test_a_plot_has_each_line_its_name_and_its_words(log):
    plot = Plot("speed", "Speed & more", "made", SPEED, "streams", log_x=log, log_y=log)
    lines = {"one": [(1, 10), (1_000, 12)], "two": [(1, 11), (1_000, 12)], "three": [(5, 12)]}

    root = ET.fromstring(draw(plot, lines, "1/s"))

    texts = [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]
    described = root.find("{http://www.w3.org/2000/svg}desc").text
    drawn = [path for path in root.iter("{http://www.w3.org/2000/svg}path") if " line" in path.get("class")]
    assert texts[0] == "Speed & more"
    assert {"one", "two", "three", "1/s", "streams"} <= set(texts)
    assert "two: 11 1/s at 1, 12 1/s at 1,000" in described
    assert len(drawn) == 3


def test_names_of_lines_that_end_together_stand_apart():
    lines = {name: [(1, 10), (2, 10)] for name in ("one", "two", "three")}

    root = ET.fromstring(draw(Plot("a", "A", "made", SPEED, "x"), lines, ""))

    levels = [float(t.get("y")) for t in root.iter("{http://www.w3.org/2000/svg}text") if t.text in lines]
    assert min(b - a for a, b in zip(sorted(levels), sorted(levels)[1:], strict=False)) >= 18


@pytest.mark.parametrize(
    ("values", "log"), [([3, 17_500], False), ([0.4, 950], True), ([5], False), ([0], False)]
)
def test_an_axis_holds_all_values_and_names_round_ones(values, log):
    axis = Axis.over(values, 0, 100, log=log)

    assert all(0 <= axis.place(value) <= 100 for value in values)
    assert 2 <= len(axis.ticks) <= 8
    assert axis.ticks[-1] == pytest.approx(axis.high)
