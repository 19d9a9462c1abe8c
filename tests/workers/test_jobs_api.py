"""The HTTP API of jobs: what is refused writes nothing; what is asked for is queued, once."""

import json
import uuid
from datetime import datetime, timedelta

import pytest
from django.db import connection, transaction
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from events import jobs, runs
from events.models import Event, Job, JobFile, JobRun
from events.runs import Failure
from tests.events.support import code_of, fields_of, until_someone_waits
from workers import jobs as work
from workers import tasks


def nothing_written():
    return not Job.objects.exists() and not JobRun.objects.exists() and not _job_events()


def _job_events():
    return Event.objects.filter(type__startswith="Job").exists()


# --- Asking ---------------------------------------------------------------------------------------


def test_a_job_is_asked_for_by_name(users, api):
    answer = api("alice").post("/api/jobs/slow", {"steps": 2, "seconds": 0.5})

    assert answer.status_code == 202
    body = answer.json()
    assert answer["Location"] == f"/api/jobs/{body['id']}"
    assert body == {
        "id": body["id"], "name": "slow", "state": "queued", "progress": None, "result": None, "error": None,
        "params": {"steps": 2, "seconds": 0.5, "fail": "never", "at": 1}, "tries": 0,
        "created_at": body["created_at"], "started_at": None, "ended_at": None,
        "stopping": False, "file": None,
        "stream": f"/streams/jobs/{body['id']}/",
    }  # fmt: skip
    assert Job.objects.get().params == body["params"]
    assert abs(datetime.fromisoformat(body["created_at"]) - timezone.now()) < timedelta(minutes=1)


def test_a_job_says_that_it_was_asked_to_stop_until_it_has(users, api):
    client = api("alice")
    job_id = client.post("/api/jobs/slow").json()["id"]
    held = runs.claim(uuid.UUID(job_id), task_id="t")
    assert client.get(f"/api/jobs/{job_id}").json()["stopping"] is False

    assert client.delete(f"/api/jobs/{job_id}").status_code == 204

    assert client.get(f"/api/jobs/{job_id}").json()["stopping"] is True
    assert [row["stopping"] for row in client.get("/api/jobs").json()["results"]] == [True]
    with connection.cursor() as cursor:
        cursor.execute(jobs.LATEST, {"keys": [job_id]})
        assert json.loads(cursor.fetchone()[1])["stopping"] is True
    runs.stopped(held)
    assert client.get(f"/api/jobs/{job_id}").json()["stopping"] is False


def test_a_file_is_offered_while_it_is_kept(users, api):
    client = api("alice")
    job_id = client.post("/api/jobs/export").json()["id"]
    held = runs.claim(uuid.UUID(job_id), task_id="t")
    runs.attach(held, name="a.csv", content=iter([b"a,", b"b\n"]), content_type="text/csv")
    url = f"/api/jobs/{job_id}/file"
    runs.complete(held, {"rows": 1, "url": url, "file": "a.csv"})
    assert client.get(f"/api/jobs/{job_id}").json()["file"] == url
    assert client.get(url).content == b"a,b\n"

    JobFile.objects.update(created_at=timezone.now() - jobs.FILES_KEPT - timedelta(minutes=1))
    tasks.keep()

    assert client.get(f"/api/jobs/{job_id}").json()["file"] is None
    assert [row["file"] for row in client.get("/api/jobs").json()["results"]] == [None]
    assert code_of(client.get(url), 404) == "job_file_unknown"


def test_a_list_of_jobs_takes_as_many_queries_as_one(users, api):
    client = api("alice")
    counts = []
    for _ in range(2):
        for _ in range(3):
            client.post("/api/jobs/slow")
        with CaptureQueriesContext(connection) as queries:
            assert client.get("/api/jobs").status_code == 200
        counts.append(len(queries))
    assert counts[0] == counts[1]


@pytest.mark.parametrize("body", [None, {}, {"inputs": {}}, {"inputs": {"steps": 5}}])
def test_parameters_have_defaults_and_may_be_wrapped(users, api, body):
    assert api("alice").post("/api/jobs/slow", body).status_code == 202
    assert Job.objects.get().params["steps"] == 5


@pytest.mark.parametrize("name", ["export", "recount", "slow"])
def test_the_demo_offers_its_jobs(users, api, name):
    assert api("alice").post(f"/api/jobs/{name}").status_code == 202


@pytest.mark.parametrize("name", ["nope", "Slow", "slow.x", "%20", "..%2Fslow"])
def test_an_unknown_job_is_404(users, api, name):
    answer = api("alice").post(f"/api/jobs/{name}", {})
    assert answer.status_code == 404
    assert answer["Content-Type"] == "application/problem+json"
    assert nothing_written()


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({"steps": 0}, ["steps"]),
        ({"steps": "5"}, ["steps"]),
        ({"steps": 1.5}, ["steps"]),
        ({"steps": True}, ["steps"]),
        ({"steps": None}, ["steps"]),
        ({"steps": 1001, "seconds": -1, "fail": "maybe"}, ["steps", "seconds", "fail"]),
        ({"stepz": 5}, ["stepz"]),
        ({"inputs": {"steps": 0}}, ["steps"]),
        ({"inputs": {}, "steps": 1}, ["inputs"]),
        ([1], ["body"]),
        ("steps", ["body"]),
        ({"inputs": [1]}, ["body"]),
    ],
)
def test_wrong_parameters_are_named(users, api, body, fields):
    assert fields_of(api("alice").post("/api/jobs/slow", body), 422) == fields
    assert nothing_written()


def test_parameters_where_none_are_declared_are_refused(users, api):
    assert fields_of(api("alice").post("/api/jobs/export", {"x": 1}), 422) == ["x"]
    assert nothing_written()


@pytest.mark.parametrize(
    ("body", "status"), [(b"{", 400), (b'{"steps": NaN}', 400), (b"\xff", 400), (b"x" * 1_100_000, 413)]
)
def test_a_body_that_cannot_be_read_is_refused(users, api, body, status):
    assert api("alice").post("/api/jobs/slow", body).status_code == status
    assert nothing_written()


def test_nobody_and_no_token_ask_for_nothing(users, api):
    assert code_of(api().post("/api/jobs/slow", {}), 401) == "not_logged_in"
    client = api("alice")
    client.headers.clear()
    assert code_of(client.post("/api/jobs/slow", {}), 403) == "csrf_failed"
    assert nothing_written()


def test_more_jobs_than_a_user_may_have_are_refused_whoever_asks_how(users, api, settings):
    settings.EVENTS_JOBS_PER_USER = 2
    alice = api("alice")
    first = alice.post("/api/jobs/slow").json()["id"]
    assert alice.post("/api/jobs/slow").status_code == 202
    events = Event.objects.count()

    assert code_of(alice.post("/api/jobs/slow"), 429) == "too_many_jobs"
    assert code_of(alice.post("/api/jobs/export", None, Idempotency_Key="k"), 429) == "too_many_jobs"

    assert Event.objects.count() == events
    alice.delete(f"/api/jobs/{first}")
    # What was refused was not done: the key is still good for it.
    assert alice.post("/api/jobs/export", None, Idempotency_Key="k").status_code == 202


def test_sent_again_with_its_key_a_request_queues_one_job(users, api):
    client = api("alice")
    first, second = (client.post("/api/jobs/slow", {}, Idempotency_Key="k") for _ in range(2))

    assert first.content == second.content
    assert second["Location"] == first["Location"]
    assert Job.objects.count() == 1


# --- Looking --------------------------------------------------------------------------------------


def test_a_job_shows_where_it_stands(users, api):
    client = api("alice")
    job_id = client.post("/api/jobs/slow", {}).json()["id"]
    held = runs.claim(uuid.UUID(job_id), task_id="t")
    runs.beat(held, progress={"done": 1, "total": 5, "message": "one"})

    body = client.get(f"/api/jobs/{job_id}").json()
    assert (body["state"], body["progress"]) == ("running", {"done": 1, "total": 5, "message": "one"})
    runs.fail(held, Failure("It broke.", "ValueError"))
    body = client.get(f"/api/jobs/{job_id}").json()
    assert (body["state"], body["error"], body["result"]) == ("failed", "It broke.", None)


def test_ones_own_jobs_are_listed_newest_first_by_pages(users, api):
    made = [str(jobs.queue(users.alice, name="slow", params={}).pk) for _ in range(5)]
    jobs.queue(users.bob, name="slow", params={})
    client = api("alice")

    first = client.get("/api/jobs?limit=3").json()
    second = client.get(f"/api/jobs?limit=3&after={first['next']}").json()

    assert [job["id"] for job in first["results"] + second["results"]] == made[::-1]
    assert second["next"] is None
    assert first["cursor"]
    assert fields_of(client.get("/api/jobs?after=x"), 422) == ["after"]


FORGED = ["1", "x", "..", str(uuid.UUID(int=1)), "0" * 32]


@pytest.mark.parametrize("job_id", FORGED)
def test_a_forged_id_is_404_everywhere(users, api, job_id):
    client = api("alice")
    for answer in (
        client.get(f"/api/jobs/{job_id}"),
        client.delete(f"/api/jobs/{job_id}"),
        client.get(f"/api/jobs/{job_id}/file"),
    ):
        assert answer.status_code == 404


def test_another_users_job_is_404_and_goes_on(users, api):
    job = jobs.queue(users.alice, name="slow", params={})
    held = runs.claim(job.pk, task_id="t")
    runs.attach(held, name="x.csv", content=b"x", content_type="text/csv")
    for name in ("bob", "admin"):
        client = api(name)
        assert code_of(client.get(f"/api/jobs/{job.pk}"), 404) == "job_unknown"
        assert code_of(client.delete(f"/api/jobs/{job.pk}"), 404) == "job_unknown"
        assert code_of(client.get(f"/api/jobs/{job.pk}/file"), 404) == "job_unknown"
    assert runs.beat(held) is False


def test_another_spelling_of_an_id_is_404(users, api):
    job = jobs.queue(users.alice, name="slow", params={})

    assert api("alice").get(f"/api/jobs/{job.pk.hex}").status_code == 404


# --- Stopping -------------------------------------------------------------------------------------


def test_a_job_is_cancelled_by_delete_and_again_harmlessly(users, api):
    client = api("alice")
    job_id = client.post("/api/jobs/slow", {}).json()["id"]

    assert [client.delete(f"/api/jobs/{job_id}").status_code for _ in range(2)] == [204, 204]
    assert client.get(f"/api/jobs/{job_id}").json()["state"] == "cancelled"


def test_a_job_that_is_over_cannot_be_cancelled(users, api):
    job = jobs.queue(users.alice, name="slow", params={})
    runs.complete(runs.claim(job.pk, task_id="t"), None)

    assert code_of(api("alice").delete(f"/api/jobs/{job.pk}"), 409) == "job_over"


def test_a_cancel_that_meets_the_end_comes_before_or_after_it(users, api, held, background):
    job = jobs.queue(users.alice, name="slow", params={})
    run = runs.claim(job.pk, task_id="t")
    client = api("alice")
    with held(lambda: runs.complete(run, None)):
        cancelling = background(lambda: client.delete(f"/api/jobs/{job.pk}"))
        until_someone_waits()
    assert code_of(cancelling.result(20), 409) == "job_over"


# --- Files ----------------------------------------------------------------------------------------


def test_a_job_without_a_file_has_none(users, api):
    job = jobs.queue(users.alice, name="slow", params={})

    assert code_of(api("alice").get(f"/api/jobs/{job.pk}/file"), 404) == "job_file_unknown"


def test_a_file_is_downloaded_and_not_shown(users, api):
    job = jobs.queue(users.alice, name="slow", params={})
    held = runs.claim(job.pk, task_id="t")
    runs.attach(held, name="Zoë\r\n.csv", content=b"\x00<b>", content_type="text/csv; charset=utf-8")

    answer = api("alice").get(f"/api/jobs/{job.pk}/file")
    assert (answer.status_code, answer.content) == (200, b"\x00<b>")
    assert answer["Content-Disposition"].startswith("attachment; ")
    assert answer["X-Content-Type-Options"] == "nosniff"


# --- The clock ------------------------------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch):
    """Time that passes only where a test says so; the clock of a worker has looked for long."""
    at = [1000.0]
    monkeypatch.setattr(work.time, "monotonic", lambda: at[0])
    monkeypatch.setattr(work, "_seen", at[0])
    monkeypatch.setattr(work, "_steady_since", 0.0)
    return lambda seconds: at.__setitem__(0, at[0] + seconds)


@pytest.fixture
def lapsed(users):
    """A job whose run did not renew its lease."""
    job = jobs.queue(users.alice, name="slow", params={})
    runs.claim(job.pk, task_id="t")
    JobRun.objects.update(lease_until=Now() - timedelta(seconds=1))
    return job


def test_after_the_database_was_away_runs_may_renew_their_leases_first(lapsed, clock):
    clock(60)  # in which no look was answered
    work.look()
    assert Job.objects.get().state == "running"
    for _ in range(7):
        clock(0.5)
        work.look()
    assert Job.objects.get().state == "queued"


def test_a_broker_that_hangs_does_not_hide_a_dead_worker(users, lapsed, clock, monkeypatch):
    def hang(name, *arguments, **options):
        if name == "jobs.slow":
            clock(8)
            raise work.BrokerAway

    monkeypatch.setattr(work.current_app, "send_task", hang)
    JobRun.objects.update(lease_until=None)
    jobs.queue(users.alice, name="slow", params={})
    with pytest.raises(work.BrokerAway):
        work.look()
    JobRun.objects.filter(pk=lapsed.pk).update(lease_until=Now() - timedelta(seconds=1))
    clock(0.5)
    with pytest.raises(work.BrokerAway):
        work.look()

    assert Job.objects.get(pk=lapsed.pk).state == "queued"


# --- From code ------------------------------------------------------------------------------------


def test_code_asks_for_a_job_within_its_own_transaction(users):
    with transaction.atomic():
        work.start(users.alice, "slow", {})
        transaction.set_rollback(True)
    assert nothing_written()

    with pytest.raises(work.NameUnknown):
        work.start(users.alice, "nope", {})


def test_no_row_is_locked_while_the_broker_is_told(users, monkeypatch):
    job = jobs.queue(users.alice, name="slow", params={})
    open_while_sending = []

    def send_task(name, *arguments, **options):
        if name == "jobs.slow":  # and no hint of another test's
            open_while_sending.append(connection.in_atomic_block)

    monkeypatch.setattr(work.current_app, "send_task", send_task)
    work.look()

    assert open_while_sending == [False]
    assert JobRun.objects.get(pk=job.pk).sends == 1


def test_a_broker_that_is_away_leaves_the_job_due(users, monkeypatch):
    jobs.queue(users.alice, name="slow", params={})

    def away(*arguments, **options):
        raise work.BrokerAway

    monkeypatch.setattr(work.current_app, "send_task", away)
    with pytest.raises(work.BrokerAway):
        work.look()

    assert JobRun.objects.get().sends == 0
    with transaction.atomic():
        assert runs.take_due() is not None
