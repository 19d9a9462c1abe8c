"""The demo's jobs do real work: what is exported is what may be read, and a count finds what is wrong."""

import csv
import io
import tracemalloc
import uuid

import pytest

from events import comments, items, jobs, runs
from events.errors import Invalid
from events.models import Comment, JobFile
from project import demo_jobs
from workers import jobs as work
from workers.handle import Handle, Pulse


class Told:
    """A handle that writes down what it is told."""

    def __init__(self, held, user):
        self.held, self._user, self.said, self.tries = held, user, [], held.tries

    def user(self):
        return self._user

    def progress(self, done, total=None, message=""):
        self.said.append((done, total))

    def attach(self, name, content, *, content_type):
        runs.attach(self.held, name=name, content=content, content_type=content_type)
        return f"/api/jobs/{self.held.job_id}/file"


@pytest.fixture
def do(users):
    """Run a job's code as alice's; return its result and what it told."""

    def run(work_of, user=users.alice):
        held = runs.claim(jobs.queue(user, name="x", params={}).pk, task_id="t")
        handle = Told(held, user)
        return work_of(handle, work.Params()), handle

    return run


@pytest.fixture
def item(users):
    return items.create_item(users.alice, title="=1+1")


def rows(job_id):
    content = bytes(JobFile.objects.get(pk=job_id).content).decode("utf-8-sig")
    return list(csv.DictReader(io.StringIO(content)))


def test_an_export_holds_every_comment_that_its_owner_may_read(users, item, do):
    comments.add_comment(users.bob, item.pk, text="First, with a comma\nand two lines, “ü”")
    secret = items.create_item(users.bob, title="Bob's", visibility="members")
    comments.add_comment(users.bob, secret.pk, text="not for alice")

    result, handle = do(demo_jobs.export)

    [row] = rows(handle.held.job_id)
    assert (row["text"], row["author"]) == ("First, with a comma\nand two lines, “ü”", "bob")
    assert result["rows"] == 1
    assert result["url"] == f"/api/jobs/{handle.held.job_id}/file"
    assert handle.said[-1] == (1, 1)
    assert do(demo_jobs.export, users.bob)[0]["rows"] == 2


def test_an_export_does_not_stand_in_memory_beside_its_file(users, item, do):
    """Twice as many rows cost no more than the file has more of bytes."""

    class Weighed(Told):
        def attach(self, name, content, *, content_type):
            tracemalloc.start()
            self.size = sum(map(len, content))
            self.most = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            return ""

    text = "x" * 10_000
    for _ in range(600):
        comments.add_comment(users.bob, item.pk, text=text)
    held = runs.claim(jobs.queue(users.alice, name="x", params={}).pk, task_id="t")
    handle = Weighed(held, users.alice)

    assert demo_jobs.export(handle, work.Params())["rows"] == 600
    assert handle.size > 6_000_000
    assert handle.most < 1_500_000


def test_a_file_that_is_too_large_is_refused_before_it_is_whole(users, settings):
    settings.WORKERS_JOB_FILE_BYTES = 10
    held = runs.claim(jobs.queue(users.alice, name="x", params={}).pk, task_id="t")
    pulse = Pulse(held)
    taken = []

    def pieces():
        for number in range(100):
            taken.append(number)
            yield b"12345"

    with pytest.raises(Invalid):
        Handle(held, pulse).attach("x", pieces(), content_type="text/plain")

    assert len(taken) == 3
    assert not JobFile.objects.exists()


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "=cmd|' /C calc'!A0"])
def test_no_cell_is_a_formula(users, item, do, text):
    comments.add_comment(users.bob, item.pk, text=text)

    _, handle = do(demo_jobs.export)

    [row] = rows(handle.held.job_id)
    assert row["text"] == f"'{text}"
    assert row["title"] == "'=1+1"


def test_a_recount_of_what_is_right_finds_nothing(users, item, do):
    first = comments.add_comment(users.bob, item.pk, text="one")
    comments.add_comment(users.bob, item.pk, text="two")
    comments.delete_comment(users.bob, first.pk)
    gone = items.create_item(users.alice, title="gone")
    comments.add_comment(users.bob, gone.pk, text="three")
    items.delete_item(users.alice, gone.pk)

    assert do(demo_jobs.recount)[0] == {"items": 1, "comments": 1, "not_in_rows": 0}


def test_a_recount_finds_a_row_that_was_lost(users, item, do):
    lost = comments.add_comment(users.bob, item.pk, text="lost")
    Comment.objects.filter(pk=lost.pk).delete()

    assert do(demo_jobs.recount)[0] == {"items": 1, "comments": 0, "not_in_rows": 1}


def test_an_export_is_downloaded_by_who_asked_for_it(stack):
    alice = stack.login("alice")
    item_id = alice.post("/api/items", json={"title": "Exported"}).json()["id"]
    word = uuid.uuid4().hex
    alice.post(f"/api/items/{item_id}/comments", json={"text": f"=HYPERLINK({word})"})
    with alice.stream("POST", "/api/jobs/export", headers={"Accept": "text/event-stream"}) as answer:
        said = answer.read().decode()
    assert "event: complete" in said
    url = said.partition('"url":"')[2].partition('"')[0]

    file = alice.get(url)

    assert file.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert "attachment" in file.headers["Content-Disposition"]
    assert f"'=HYPERLINK({word})" in file.text
    assert stack.login("bob").get(url).status_code == 404
