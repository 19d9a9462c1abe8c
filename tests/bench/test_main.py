"""The command: what it takes, and what it does where a scenario cannot be done."""

import contextlib
from types import SimpleNamespace

import pytest

from bench import __main__ as command
from bench.figures import UVICORN, Figure
from bench.servers import Trouble


def scenario(*found, name="made"):
    def run(context):
        for each in found:
            if isinstance(each, BaseException):
                raise each
            yield Figure(name, UVICORN, "speed", "1/s", each * context.round)

    return SimpleNamespace(TITLE="Made up", __doc__="Made up.", SECONDS=(1, 1), AIMS=(), PLOTS=(), run=run)


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Return what a run of some scenarios exits with, and its report; nothing is started."""
    monkeypatch.setattr(command, "Deployment", lambda folder, cores: contextlib.nullcontext())
    monkeypatch.setattr(command, "peers", lambda folder, cores, wanted: ([], ["nchan is left out: why not."]))

    def run(*arguments, **made):
        for name in ("ALL", "USUAL", "QUICK"):
            monkeypatch.setattr(command.scenarios, name, tuple(made))
        monkeypatch.setattr(command.scenarios, "QUICK_SUBJECTS", ())
        monkeypatch.setattr(command, "import_module", lambda name: made[name.rpartition(".")[2]])
        status = command.main([*arguments, "--out", str(tmp_path / "out")])
        return status, (tmp_path / "out" / "report.md").read_text()

    return run


def test_rounds_are_run_and_their_medians_reported(run):
    status, report = run(made=scenario(10.0))

    assert status == 0
    assert "| speed | 1/s | 20 |" in report  # of 10, 20 and 30
    assert "full, 3 round(s)" in report
    assert "- nchan is left out: why not." in report


def test_what_is_done_once_is_reckoned_once(run, capsys, monkeypatch):
    monkeypatch.setattr(command.scenarios, "ONCE", ("slow",))
    slow, made = scenario(10.0, name="slow"), scenario(10.0)
    slow.SECONDS, made.SECONDS = (1, 600), (1, 60)
    run(slow=slow, made=made)

    assert "3 round(s) of slow, made: about 13 min" in capsys.readouterr().out


def test_the_quick_mode_has_one_round(run):
    status, report = run("--quick", made=scenario(10.0))

    assert (status, "| speed | 1/s | 10 |" in report) == (0, True)


def test_without_names_all_is_run_but_what_reckons_capacity_and_in_quick_mode_what_fits_two_minutes():
    full, quick = command.options([]), command.options(["--quick"])
    assert full.names == [name for name in command.scenarios.ALL if name != "scale"]
    assert (full.subjects, full.rounds, quick.rounds) == ("", command.ROUNDS, 1)
    assert quick.subjects == "tickertape-uvicorn,nchan"
    assert set(quick.names) < set(full.names)
    chosen = command.options(["--quick", "--only", "rows,scale", "--subjects", "tickertape-daphne"])
    assert (chosen.names, chosen.subjects) == (["rows", "scale"], "tickertape-daphne")


@pytest.mark.parametrize("trouble", [Trouble("nobody came"), ZeroDivisionError("nobody came")])
def test_what_cannot_be_done_is_said_and_keeps_nothing_from_the_rest(run, trouble):
    status, report = run("--rounds", "1", broken=scenario(5.0, trouble, name="broken"), made=scenario(7.0))

    assert status == 1
    assert "nobody came" in report
    assert "broken, round 1, broke off" in report
    assert "| speed | 1/s | 7 |" in report


def test_what_was_found_before_an_interruption_is_written_down(run):
    status, report = run(made=scenario(10.0, KeyboardInterrupt()))

    assert status == 130
    assert "| speed | 1/s | 10 |" in report
    assert "- The run was interrupted." in report


def test_only_what_there_is_can_be_chosen(capsys):
    with pytest.raises(SystemExit, match="2"):
        command.options(["--only", "idle,nothing"])

    assert "there is no scenario “nothing”; there are: single" in capsys.readouterr().err

    with pytest.raises(SystemExit, match="2"):
        command.options(["--subjects", "apache"])

    assert "there is no server “apache”; there are: tickertape-uvicorn" in capsys.readouterr().err
