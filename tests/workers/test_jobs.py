"""Jobs in real Celery workers: each ends as it should, however it ends."""

import time

import psutil
import pytest
import redis
from httpx_sse import connect_sse
from kombu import Connection

from tests.stack import Stack, eventually, listening

CANCEL_SECONDS = 5  # then a job that does not stop is killed


@pytest.fixture(scope="module")
def crew(postgres, valkey, tmp_path_factory):
    """A web process and a worker, with jobs of the tests' own; a lease of five seconds."""
    running = Stack(
        postgres,
        valkey,
        tmp_path_factory.mktemp("crew"),
        name="crew",
        DJANGO_SETTINGS_MODULE="tests.working.settings",
        WORKERS_JOB_LEASE_SECONDS="5",
        WORKERS_JOB_RESEND_SECONDS="2",
        WORKERS_JOB_CANCEL_SECONDS=str(CANCEL_SECONDS),
        TEST_VISIBILITY_SECONDS="1",
    )
    with running:
        running.start("uvicorn", "worker")
        yield running


@pytest.fixture(scope="module")
def alice(crew):
    return crew.login("alice")


@pytest.fixture(autouse=True)
def calm(crew):
    """Leave the worker running, and no job behind."""
    yield
    for name in ("worker", "worker2"):
        if name in crew.processes:
            crew.thaw(name)
    if "worker2" in crew.processes:
        crew.kill("worker2")
    if "worker" not in crew.processes:
        crew.start("worker")
    with crew.connect() as connection:
        connection.execute("UPDATE events_jobrun SET send_at = NULL, lease_until = NULL")


def ask(client, name, **params):
    answer = client.post(f"/api/jobs/{name}", json=params)
    assert answer.status_code == 202, answer.text
    return answer.json()["id"]


def job_of(client, job_id):
    return client.get(f"/api/jobs/{job_id}").json()


def ended(client, job_id, *, seconds=30):
    """Wait for a job's end."""

    def over():
        job = job_of(client, job_id)
        return job if job["state"] in ("complete", "failed", "cancelled") else None

    return eventually(over, seconds=seconds, every=0.05)


def running(client, job_id):
    eventually(lambda: job_of(client, job_id)["state"] == "running", seconds=30)


def history(crew, job_id):
    """Return the types of a job's events, in order."""
    with crew.connect() as connection:
        rows = connection.execute(
            "SELECT type FROM events_event WHERE %s = ANY (channels) ORDER BY id", [f"job:{job_id}"]
        )
        return [row[0] for row in rows]


def kill_children(crew):
    """Kill the processes that run jobs, and not the one that watches over them."""
    main = psutil.Process(crew.processes["worker"].pid)
    while len(main.children()) == 1 and main.children()[0].children():
        main = main.children()[0]  # the leash
    for child in main.children():
        child.kill()


# --- The ordinary ways ---------------------------------------------------------------------------------


def test_a_job_runs_and_completes(crew, alice):
    job_id = ask(alice, "slow", steps=3, seconds=0.3)

    job = ended(alice, job_id)

    assert (job["state"], job["result"], job["error"]) == ("complete", {"steps": 3, "tries": 1}, None)
    assert job["progress"] == {"done": 3, "total": 3, "message": "Step 3 of 3"}
    assert history(crew, job_id) == ["JobQueued", "JobStarted", "TaskComplete"]


def test_a_job_that_raises_fails_with_the_reason(crew, alice):
    job = ended(alice, ask(alice, "slow", fail="error", seconds=0))

    assert (job["state"], job["error"]) == ("failed", "It was told to fail at step 1.")
    assert history(crew, job["id"])[-1] == "JobFailed"


def test_a_job_that_fails_once_is_tried_again(crew, alice):
    job = ended(alice, ask(alice, "slow", fail="once", seconds=0))

    assert (job["state"], job["result"]) == ("complete", {"steps": 5, "tries": 2})
    assert history(crew, job["id"]) == [
        "JobQueued", "JobStarted", "JobRetrying", "JobStarted", "TaskComplete",
    ]  # fmt: skip


def test_celerys_own_retry_is_one_too(crew, alice):
    job = ended(alice, ask(alice, "native"))

    assert (job["state"], job["result"]) == ("complete", 3)
    assert history(crew, job["id"]).count("JobRetrying") == 2


@pytest.mark.parametrize(("many", "why"), [(0, "PayloadInvalid"), (1_100_000, "PayloadTooLarge")])
def test_a_result_that_is_not_json_or_too_large_fails_the_job(crew, alice, many, why):
    job = ended(alice, ask(alice, "odd", many=many))

    assert job["state"] == "failed"
    with crew.connect() as connection:
        [(kind,)] = connection.execute("SELECT error_type FROM events_job WHERE id = %s", [job["id"]])
    assert kind == why
    assert len(job["error"]) < 500


def test_what_is_said_after_the_end_is_refused_where_it_is_said(crew, alice):
    job_id = ask(alice, "late", seconds=0.5)
    ended(alice, job_id)

    eventually(lambda: crew.log("worker").read_text().count("Refused after the end.") == 2)
    assert history(crew, job_id) == ["JobQueued", "JobStarted", "TaskComplete"]


# --- Progress ------------------------------------------------------------------------------------------


def test_progress_comes_four_times_a_second_at_most_and_the_last_always(crew, alice):
    """Two thousand a second are said; events and what is sent come all, whole and in order."""
    crew.freeze("worker")  # it begins when somebody listens
    job_id = ask(alice, "tells", many=4000, seconds=2)
    with listening(alice, f"/streams/jobs/{job_id}/") as stream:
        crew.thaw("worker")
        got = [stream.opened, *stream.ended(seconds=30)]

    progress = [each for each in got if each.event == "JobProgressed"]
    assert progress[-1].data["done"] == 4000
    seconds = next(each for each in got if each.event == "TaskComplete").data["result"]
    assert 3 <= len(progress) <= 4 * seconds + 4, "the state, the last one, and one at the edge besides"
    assert [each.data["done"] for each in progress] == sorted(each.data["done"] for each in progress)
    sent = [(each.data["event"], each.data["data"]) for each in got if each.event == "JobSent"]
    assert sent == [(None, "two\nlines"), (None, [1, {"a": None}]), ("my_event", {"x": 1})]


def test_what_a_job_sends_is_itself_in_the_answer_to_who_asked(crew, alice):
    with connect_sse(
        alice, "POST", "/api/jobs/tells", json={"many": 1}, headers={"Accept": "text/event-stream"}
    ) as source:
        got = [(each.event, each.data) for each in source.iter_sse()]

    assert [each for each in got if each[0] not in ("start", "progress", "complete")] == [
        ("message", "two\nlines"), ("message", '[1,{"a":null}]'), ("my_event", '{"x":1}'),
    ]  # fmt: skip


def test_with_redis_away_a_running_job_goes_on_and_its_end_is_heard(crew, alice, valkey):
    job_id = ask(alice, "slow", steps=8, seconds=4)
    running(alice, job_id)
    with listening(alice, f"/streams/jobs/{job_id}/") as stream:
        client = redis.Redis.from_url(crew.environment["REDIS_URL"])
        client.execute_command("CLIENT", "PAUSE", 6000, "ALL")
        client.close()
        got = stream.ended(seconds=30)

    assert [each.event for each in got][-2:] == ["TaskComplete", "stream.end"]
    assert job_of(alice, job_id)["progress"]["done"] == 8


# --- Cancelled --------------------------------------------------------------------------------------------


def test_a_queued_job_that_is_cancelled_never_runs(crew, alice):
    busy = [ask(alice, "asks") for _ in range(2)]  # as many as the worker has processes
    for each in busy:
        running(alice, each)
    job_id = ask(alice, "slow", seconds=0)

    assert alice.delete(f"/api/jobs/{job_id}").status_code == 204
    for each in busy:
        assert alice.delete(f"/api/jobs/{each}").status_code == 204
        assert ended(alice, each)["state"] == "cancelled"

    done = ended(alice, ask(alice, "slow", seconds=0))
    assert done["state"] == "complete"
    assert job_of(alice, job_id)["state"] == "cancelled"
    assert history(crew, job_id) == ["JobQueued", "JobCancelled"]


def test_a_running_job_hears_that_it_is_cancelled(crew, alice):
    job_id = ask(alice, "slow", seconds=60)
    running(alice, job_id)
    began = time.monotonic()
    assert alice.delete(f"/api/jobs/{job_id}").status_code == 204

    assert ended(alice, job_id)["state"] == "cancelled"
    assert time.monotonic() - began < CANCEL_SECONDS, "it stopped by itself: nobody had to kill it"
    assert history(crew, job_id) == ["JobQueued", "JobStarted", "JobCancelled"]


def test_who_listens_is_told_that_a_job_was_asked_to_stop(crew, alice):
    job_id = ask(alice, "deaf", seconds=60)
    running(alice, job_id)
    with listening(alice, f"/streams/jobs/{job_id}/") as stream:
        first = stream.until(lambda got: got.event == "JobState")[-1]
        assert first.data["stopping"] is False

        assert alice.delete(f"/api/jobs/{job_id}").status_code == 204

        told = stream.until(lambda got: got.event == "JobCancelled", seconds=20)
    states = [got.data for got in told if got.event == "JobState"]
    assert [(state["state"], state["stopping"]) for state in states] == [("running", True)]


def test_a_job_that_does_not_hear_it_is_killed_and_cancelled(crew, alice):
    job_id = ask(alice, "nap", seconds=60)
    running(alice, job_id)
    assert alice.delete(f"/api/jobs/{job_id}").status_code == 204

    assert ended(alice, job_id)["state"] == "cancelled"
    assert history(crew, job_id)[-1] == "JobCancelled"
    assert ended(alice, ask(alice, "slow", seconds=0))["state"] == "complete", "the worker goes on"


def test_a_task_revoked_past_us_is_a_job_cancelled(crew, alice):
    job_id = ask(alice, "nap", seconds=60)
    running(alice, job_id)
    with crew.connect() as connection:
        [(task_id,)] = connection.execute("SELECT task_id FROM events_jobrun WHERE job_id = %s", [job_id])
    code = f"from project.celery import app;app.control.revoke('{task_id}', terminate=True, signal='SIGTERM')"
    crew.manage("shell", "--verbosity=0", "-c", code)

    assert ended(alice, job_id)["state"] == "cancelled"


# --- Time ---------------------------------------------------------------------------------------------------


def test_a_job_that_takes_too_long_says_so_and_is_tried_again_as_often_as_it_may(crew, alice):
    job = ended(alice, ask(alice, "brief", seconds=60))

    assert (job["state"], job["error"]) == ("failed", "It took longer than it may.")
    assert history(crew, job["id"]) == [
        "JobQueued", "JobStarted", "JobSent", "JobRetrying", "JobStarted", "JobSent", "JobFailed",
    ]  # fmt: skip


def test_a_soft_time_limit_too(crew, alice):
    job = ended(alice, ask(alice, "soft", seconds=60))

    assert (job["state"], job["error"]) == ("failed", "It took longer than it may.")


# --- Processes that die ------------------------------------------------------------------------------------


def test_a_killed_child_is_noticed_at_once_and_the_job_tried_again(crew, alice):
    job_id = ask(alice, "nap", seconds=60)
    running(alice, job_id)
    kill_children(crew)
    with crew.connect() as connection:  # nobody waits for it to lapse
        connection.execute(
            "UPDATE events_jobrun SET lease_until = now() + interval '1 hour' WHERE lease_until IS NOT NULL"
        )

    job = ended(alice, job_id)
    assert "JobRetrying" in history(crew, job_id)
    assert (job["state"], job["result"]) == ("complete", 2)


def test_a_killed_child_fails_a_job_that_may_run_once_only(crew, alice):
    job_id = ask(alice, "deaf", seconds=30)
    running(alice, job_id)
    kill_children(crew)

    job = ended(alice, job_id)
    assert (job["state"], job["error"]) == ("failed", "The process that ran it died.")


def test_a_job_that_kills_its_own_process(crew, alice):
    job = ended(alice, ask(alice, "slow", fail="crash", seconds=0))

    assert (job["state"], job["result"]) == ("complete", {"steps": 5, "tries": 2})


@pytest.fixture
def other(crew):
    """A second worker, frozen: what is asked for goes to the first."""
    crew.start("worker2")
    eventually(lambda: " ready." in crew.log("worker2").read_text(), seconds=30)
    crew.freeze("worker2")
    yield
    crew.log("worker2").write_text("")


def test_a_killed_worker_is_noticed_by_another_one(crew, alice, other):
    job_id = ask(alice, "nap", seconds=60)
    once = ask(alice, "deaf", seconds=60)
    running(alice, job_id)
    running(alice, once)
    crew.kill("worker")
    crew.thaw("worker2")

    job = ended(alice, job_id)
    assert (job["state"], job["result"]) == ("complete", 2)
    assert ended(alice, once)["error"] == "The process that ran it died."
    assert "JobRetrying" in history(crew, job_id)


def test_a_worker_frozen_past_its_lease_writes_nothing_when_it_wakes(crew, alice, other):
    job_id = ask(alice, "nap", seconds=15)
    running(alice, job_id)
    crew.freeze("worker")
    crew.thaw("worker2")

    job = ended(alice, job_id, seconds=60)
    assert (job["state"], job["result"]) == ("complete", 2)
    before = history(crew, job_id)
    log = crew.log("worker")
    crew.thaw("worker")
    eventually(lambda: "given up" in log.read_text(), seconds=30)

    assert history(crew, job_id) == before
    assert job_of(alice, job_id) == job


# --- The broker ---------------------------------------------------------------------------------------------


def test_a_message_that_the_broker_lost_is_sent_again(crew, alice):
    crew.freeze("worker")
    job_id = ask(alice, "slow", seconds=0)
    time.sleep(0.5)  # whatever the web process told the broker
    client = redis.Redis.from_url(crew.environment["REDIS_URL"])
    client.flushall()
    crew.thaw("worker")

    assert ended(alice, job_id)["state"] == "complete"
    client.close()


def test_a_job_sent_to_a_broker_that_forgets_it_is_sent_again(crew, alice):
    """Sent, unclaimed, and gone: only the database knows of it."""
    busy = [ask(alice, "asks") for _ in range(2)]
    for each in busy:
        running(alice, each)
    job_id = ask(alice, "slow", seconds=0)
    with crew.connect() as connection:
        eventually(
            lambda: connection.execute(
                "SELECT sends > 0 FROM events_jobrun WHERE job_id = %s", [job_id]
            ).fetchone()[0]
        )
    client = redis.Redis.from_url(crew.environment["REDIS_URL"])
    client.flushall()
    client.close()
    for each in busy:
        alice.delete(f"/api/jobs/{each}")

    assert ended(alice, job_id)["state"] == "complete"
    assert history(crew, job_id) == ["JobQueued", "JobStarted", "TaskComplete"]


def test_a_job_longer_than_the_brokers_visibility_time_out_runs_once(crew, alice, tmp_path):
    """`held` acknowledges late, and the broker gives out again after a second what was not acknowledged."""
    over = tmp_path / "over"
    job_id = ask(alice, "held", note=str(over))
    running(alice, job_id)
    left = f"job={job_id}"
    options = {"visibility_timeout": 1}
    with Connection(crew.environment["REDIS_URL"], transport_options=options) as broker:

        def given_out_again():
            """What every worker does now and then: give out again what seems lost."""
            broker.default_channel.qos.restore_visible(interval=1)
            return left in crew.log("worker").read_text()

        try:
            eventually(given_out_again, seconds=30, every=0.2)
            assert job_of(alice, job_id)["state"] == "running", "it was given out again while it ran"
        finally:
            over.touch()

    job = ended(alice, job_id)
    assert (job["state"], job["result"]) == ("complete", 1)
    assert history(crew, job_id) == ["JobQueued", "JobStarted", "TaskComplete"]


def test_a_message_that_comes_ten_times_runs_the_job_once(crew, alice):
    job_id = ask(alice, "nap", seconds=0.5)
    code = f"from project.celery import app;[app.send_task('jobs.nap', args=['{job_id}']) for _ in range(10)]"
    crew.manage("shell", "--verbosity=0", "-c", code)

    assert ended(alice, job_id)["state"] == "complete"
    time.sleep(1)
    assert history(crew, job_id) == ["JobQueued", "JobStarted", "JobSent", "TaskComplete"]
