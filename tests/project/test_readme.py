"""The README's tour, as a reader would run it: its own words, in a shell, with curl."""

import re
import shutil
import subprocess

import pytest

from tests.stack import ROOT

TOUR = re.search(
    r"## A tour of five minutes with curl.*?```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.S
)


def until(sign, file):
    """Return what waits in a shell until a file has a sign in it."""
    return f"until grep -q {sign} {file}; do sleep 0.1; done;"


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed: apt-get install curl")
def test_the_tour_of_the_readme_shows_what_it_says(stack, server, tmp_path):
    script = TOUR[1].replace("http://127.0.0.1:8000", server)
    # Where a reader waits for a second, here it is for what is to come.
    for sign in ("stream.open", "Hello"):
        assert "sleep 1;" in script
        script = script.replace("sleep 1;", until(sign, "tape"), 1)
    # The last stream goes on until Ctrl-C; here until it is live.
    *script, last = script.replace("curl -N -b jar", "curl -sN -b jar").strip().splitlines()
    script += [f"{last} > live & STREAM=$!", f"{until('stream.live', 'live')} kill $STREAM; cat live"]
    script = "\n".join(script).replace("curl ", "curl -m 50 ")  # or it would outlive a shell that is ended
    ran = subprocess.run(["bash", "-c", script], cwd=tmp_path, text=True, capture_output=True, timeout=60)
    tape = (tmp_path / "tape").read_text()
    resumed = ran.stdout.rpartition("event: stream.open")[2]

    assert "event: stream.open" in tape
    assert '"text":"Hello"' in tape
    assert "Missed" not in tape
    assert '"mode":"resumed"' in resumed
    assert resumed.count("event: CommentAdded") == 1
    assert '"text":"Missed"' in resumed
    assert "event: stream.live" in resumed
