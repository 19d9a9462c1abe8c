"""Jobs in the log: what people do, who has one in hand, and what is folded from it."""

import datetime
import math
import uuid
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.db.models.functions import Now

from events import channels, erasure, jobs, log, readmodels, retention, runs
from events.channels import Channel
from events.errors import ChannelUnknown, PayloadInvalid, PayloadTooLarge
from events.jobs import JobOver, JobProgressed, JobUnknown, TooManyJobs
from events.models import Event, Job, JobFile, JobRun
from events.runs import Failure, RunLost
from tests.events.support import events_on, types_on, until_someone_waits

BROKEN = Failure("It broke.", "ValueError")
AGAIN = Failure("Not yet.", "OSError", retry_seconds=0)


@pytest.fixture
def job(users):
    """A queued job of alice's."""
    return jobs.queue(users.alice, name="export", params={"kind": "csv"})


@pytest.fixture
def run(job):
    """The job in hand."""
    return runs.claim(job.pk, task_id="t1")


def state(job):
    return Job.objects.get(pk=job.pk).state


def lapse(job):
    JobRun.objects.filter(pk=job.pk).update(lease_until=Now() - timedelta(seconds=1))


def reap(failure):
    with transaction.atomic():
        found = runs.take_lapsed()
        if found is not None:
            runs.fail_found(found, failure)
    return found


# --- What people do --------------------------------------------------------------------------------


def queue(user):
    return jobs.queue(user, name="export", params={})


def test_a_user_has_so_many_jobs_waiting_or_running_and_no_more(users, job, run, settings):
    settings.EVENTS_JOBS_PER_USER = 3
    waiting = [queue(users.alice), queue(users.alice)]

    with pytest.raises(TooManyJobs):
        queue(users.alice)

    assert Job.objects.count() == JobRun.objects.count() == 3
    queue(users.bob)  # each is counted alone
    runs.complete(run, None)
    queue(users.alice)
    jobs.cancel(users.alice, waiting[0].pk)
    queue(users.alice)
    with pytest.raises(TooManyJobs):
        queue(users.alice)


def test_one_that_is_to_be_tried_again_is_waiting(users, job, run, settings):
    settings.EVENTS_JOBS_PER_USER = 1
    runs.fail(run, AGAIN)

    with pytest.raises(TooManyJobs):
        queue(users.alice)


def test_of_two_asked_for_at_once_the_last_that_may_be_is_one(users, job, settings, held, background):
    settings.EVENTS_JOBS_PER_USER = 2
    with held(lambda: queue(users.alice)):
        other = background(lambda: queue(users.alice))
        until_someone_waits()

    with pytest.raises(TooManyJobs):
        other.result(20)
    assert Job.objects.count() == 2


def test_no_limit_is_none(users, settings):
    settings.EVENTS_JOBS_PER_USER = 0
    for _ in range(30):
        queue(users.alice)


def test_a_job_is_queued_with_its_event_for_its_channel_and_its_owner(users, job):
    for channel in (f"job:{job.pk}", f"user:{users.alice.pk}"):
        [(name, data)] = events_on(channel)
        assert name == "JobQueued"
        assert data["job_id"] == str(job.pk)
        assert data["user_id"] == str(users.alice.pk)
        assert (data["task_type"], data["params"]) == ("export", {"kind": "csv"})
    assert (job.state, job.owner_id, job.params) == ("queued", users.alice.pk, {"kind": "csv"})


def test_a_job_rolled_back_was_never_queued(users):
    with transaction.atomic():
        jobs.queue(users.alice, name="export", params={})
        transaction.set_rollback(True)

    assert not Job.objects.exists()
    assert not JobRun.objects.exists()
    assert not Event.objects.exists()


def test_parameters_that_json_has_no_room_for_queue_nothing(users):
    with pytest.raises(PayloadInvalid) as refused:
        jobs.queue(users.alice, name="export", params={"text": "a\x00b"})

    assert refused.value.errors[0].field == "params.text"
    assert not JobRun.objects.exists()


def test_its_owner_alone_may_read_it(users, job):
    assert jobs.get_job(users.alice, job.pk).pk == job.pk
    for other in (users.bob, users.admin):
        with pytest.raises(JobUnknown):
            jobs.get_job(other, job.pk)
        with pytest.raises(JobUnknown):
            jobs.cancel(other, job.pk)
        with pytest.raises(ChannelUnknown):
            channels.authorise(other, [Channel(f"job:{job.pk}")])
    channels.authorise(users.alice, [Channel(f"job:{job.pk}")])
    assert state(job) == "queued"


@pytest.mark.parametrize("key", ["1", "x", "-", str(uuid.UUID(int=0)), "ABC"])
def test_a_forged_id_is_an_unknown_channel(users, job, key):
    with pytest.raises(ChannelUnknown):
        channels.authorise(users.alice, [Channel(f"job:{key}")])


def test_an_id_has_one_spelling(users, job):
    for key in (str(job.pk).upper(), job.pk.hex):
        if key != str(job.pk):
            with pytest.raises(ChannelUnknown):
                channels.authorise(users.alice, [Channel(f"job:{key}")])


def test_a_queued_job_is_cancelled_at_once_and_never_runs(users, job):
    jobs.cancel(users.alice, job.pk)
    jobs.cancel(users.alice, job.pk)

    assert state(job) == "cancelled"
    assert types_on(f"job:{job.pk}") == ["JobQueued", "JobCancelled"]
    assert runs.claim(job.pk, task_id="t1") is None


def test_a_running_job_is_asked_to_stop_and_hears_it(users, job, run):
    assert runs.beat(run) is False
    jobs.cancel(users.alice, job.pk)

    assert state(job) == "running"
    assert runs.beat(run) is True
    runs.stopped(run)
    assert state(job) == "cancelled"
    assert types_on(f"job:{job.pk}") == ["JobQueued", "JobStarted", "JobCancelled"]


@pytest.mark.parametrize("end", [lambda run: runs.complete(run, 1), lambda run: runs.fail(run, BROKEN)])
def test_a_job_that_is_over_cannot_be_cancelled(users, job, run, end):
    end(run)
    before = types_on(f"job:{job.pk}")

    with pytest.raises(JobOver):
        jobs.cancel(users.alice, job.pk)
    assert types_on(f"job:{job.pk}") == before


def test_a_job_asked_to_stop_that_fails_is_cancelled_and_not_tried_again(users, job, run):
    jobs.cancel(users.alice, job.pk)
    runs.fail(run, AGAIN)

    assert state(job) == "cancelled"


# --- Claim and lease ---------------------------------------------------------------------------------


def test_a_message_that_comes_twice_claims_once(job, run):
    assert run is not None
    assert runs.claim(job.pk, task_id="t1") is None
    assert runs.claim(job.pk, task_id="t2") is None
    assert types_on(f"job:{job.pk}") == ["JobQueued", "JobStarted"]


def test_two_that_claim_at_once_take_turns(job, background, held):
    with held(lambda: runs.claim(job.pk, task_id="t1")):
        second = background(lambda: runs.claim(job.pk, task_id="t2"))
        until_someone_waits()
    assert second.result(20) is None
    assert types_on(f"job:{job.pk}") == ["JobQueued", "JobStarted"]


def test_a_claim_of_nothing_is_nothing(database):
    assert runs.claim(uuid.uuid4(), task_id="t1") is None


def test_a_job_completes(users, job, run):
    runs.complete(run, {"rows": 3, "text": "line\u2028end"})

    row = Job.objects.get(pk=job.pk)
    assert (row.state, row.result) == ("complete", {"rows": 3, "text": "line\u2028end"})
    assert row.ended_at >= row.started_at
    *_, (name, data) = events_on(f"user:{users.alice.pk}")
    assert name == "TaskComplete"
    assert set(data) == {"user_id", "job_id", "task_type", "result", "duration_ms"}
    assert data["duration_ms"] >= 0


@pytest.mark.parametrize(
    "result", [object(), {1}, math.nan, datetime.datetime.now(datetime.UTC), {"a": 2**53}, {1: 2}, "\ud800"]
)
def test_a_result_that_is_not_json_is_refused_and_nothing_written(job, run, result):
    with pytest.raises(PayloadInvalid):
        runs.complete(run, result)

    assert state(job) == "running"
    assert types_on(f"job:{job.pk}") == ["JobQueued", "JobStarted"]


def test_a_result_that_is_too_large_is_refused_and_the_run_still_in_hand(job, run, settings):
    with pytest.raises(PayloadTooLarge):
        runs.complete(run, "x" * settings.EVENTS_MAX_PAYLOAD_BYTES)

    runs.beat(run)
    runs.fail(run, BROKEN)
    assert state(job) == "failed"


def test_a_failure_ends_the_job_and_says_why(job, run):
    runs.fail(run, BROKEN)

    row = Job.objects.get(pk=job.pk)
    assert (row.state, row.error, row.error_type) == ("failed", "It broke.", "ValueError")
    assert types_on(f"job:{job.pk}")[-1] == "JobFailed"


def test_an_error_without_words_or_with_odd_ones_is_still_one():
    assert Failure.of(ValueError()).error == "ValueError"
    assert Failure.of(ValueError("a\x00b\ud800")).error == "ab?"
    assert len(Failure.of(ValueError("x" * 9000)).error) == runs.MOST_ERROR


def test_a_failure_to_be_tried_again_queues_it_and_it_starts_anew(job, run):
    runs.fail(run, AGAIN)
    assert state(job) == "queued"

    second = runs.claim(job.pk, task_id="t2")
    runs.complete(second, None)

    assert second.tries == 2
    row = Job.objects.get(pk=job.pk)
    assert (row.state, row.error, row.tries) == ("complete", "", 2)
    assert types_on(f"job:{job.pk}") == [
        "JobQueued", "JobStarted", "JobRetrying", "JobStarted", "TaskComplete",
    ]  # fmt: skip


def test_a_job_is_not_claimed_before_its_next_try_is_due(job, run):
    runs.fail(run, Failure("Not yet.", "OSError", retry_seconds=60))

    assert runs.claim(job.pk, task_id="t1") is None


def test_who_is_over_writes_nothing_and_is_told(users, job, run):
    runs.complete(run, 1)
    before = types_on(f"job:{job.pk}")

    for late in (
        lambda: runs.beat(run, progress={"done": 1, "total": 2, "message": ""}),
        lambda: runs.send(run, "late"),
        lambda: runs.complete(run, 2),
        lambda: runs.fail(run, BROKEN),
        lambda: runs.stopped(run),
        lambda: runs.attach(run, name="x", content=b"", content_type="text/csv"),
    ):
        with pytest.raises(JobOver):
            late()
    assert types_on(f"job:{job.pk}") == before
    assert jobs.progress_of([job.pk]) == {}
    assert not JobFile.objects.exists()


def test_a_lease_that_lapsed_is_noticed_and_the_old_run_writes_nothing_more(job, run):
    assert reap(AGAIN) is None
    lapse(job)

    assert reap(AGAIN).job_id == job.pk

    with pytest.raises(RunLost):
        runs.beat(run)
    second = runs.claim(job.pk, task_id="t1")  # the same message once more: fenced by number, not by name
    for late in (lambda: runs.complete(run, "old"), lambda: runs.send(run, "old"), lambda: runs.beat(run)):
        with pytest.raises(RunLost):
            late()
    runs.complete(second, "new")
    assert Job.objects.get(pk=job.pk).result == "new"


def test_a_beat_renews_the_lease(job, run):
    lapse(job)
    runs.beat(run)

    assert reap(BROKEN) is None


def test_two_that_reap_do_not_meet(job, run, background):
    lapse(job)
    with transaction.atomic():
        found = runs.take_lapsed()
        assert background(lambda: reap(BROKEN)).result(20) is None
        runs.fail_found(found, BROKEN)

    assert types_on(f"job:{job.pk}").count("JobFailed") == 1


def test_a_lease_is_renewed_while_the_run_sends_in_a_long_transaction(job, run, background):
    with transaction.atomic():
        runs.send(run, "first")
        background(lambda: runs.beat(run)).result(20)


def test_a_process_that_died_ends_only_the_run_that_it_had(job, run):
    assert runs.fail_task("another", lambda *_: BROKEN) is False
    assert state(job) == "running"
    assert runs.fail_task("t1", lambda *_: BROKEN) is True
    assert runs.fail_task("t1", lambda *_: BROKEN) is False
    assert types_on(f"job:{job.pk}").count("JobFailed") == 1


def test_a_message_revoked_from_outside_cancels_its_job(job, users):
    with transaction.atomic():
        runs.sent(runs.take_due(), task_id="t1")
    assert runs.revoke_task("other") is False
    assert runs.revoke_task("t1") is True
    assert runs.revoke_task("t1") is False
    assert state(job) == "cancelled"


# --- Messages to the broker ------------------------------------------------------------------------


def send_due():
    with transaction.atomic():
        found = runs.take_due()
        if found is not None:
            runs.sent(found, task_id=f"t{uuid.uuid4()}")
        return found


def test_a_queued_job_is_due_at_once_and_again_later_each_time_longer(job, settings):
    waits = []
    for _ in range(8):
        assert send_due().job_id == job.pk
        assert send_due() is None
        with connection.cursor() as cursor:
            cursor.execute("SELECT extract(epoch FROM send_at - now()) FROM events_jobrun")
            waits.append(round(float(cursor.fetchone()[0]) / settings.WORKERS_JOB_RESEND_SECONDS))
        JobRun.objects.update(send_at=Now())

    assert waits == [1, 2, 4, 8, 16, 20, 20, 20]


def test_a_job_that_is_queued_no_more_is_not_sent(job):
    runs.claim(job.pk, task_id="t1")

    assert send_due() is None


def test_who_was_asked_to_stop_and_goes_on_is_overdue(users, job, run):
    assert runs.overdue(0) == []
    jobs.cancel(users.alice, job.pk)
    JobRun.objects.update(cancel_at=Now() - timedelta(seconds=30))

    assert runs.overdue(20) == ["t1"]
    assert runs.overdue(60) == []


# --- Progress and what is sent -----------------------------------------------------------------------


def test_progress_is_kept_with_the_run_and_not_in_the_log(job, run):
    before = Event.objects.count()
    runs.beat(run, progress={"done": 1, "total": 2, "message": "half"})

    assert jobs.progress_of([job.pk]) == {job.pk: {"done": 1, "total": 2, "message": "half"}}
    assert Event.objects.count() == before


def test_a_run_begins_without_the_progress_of_the_one_before_it(job, run):
    runs.beat(run, progress={"done": 3, "total": 5, "message": "three"})
    runs.fail(run, AGAIN)
    assert jobs.progress_of([job.pk]) != {}, "it stands while it waits"

    runs.claim(job.pk, task_id="t2")

    assert jobs.progress_of([job.pk]) == {}


def test_a_transient_event_cannot_be_appended(job):
    with transaction.atomic(), pytest.raises(TypeError, match="transient"):
        log.append(JobProgressed(job_id=str(job.pk), done=1), channels=[Channel(f"job:{job.pk}")])


def test_what_a_job_sends_is_on_its_own_channel_in_order(users, job, run):
    runs.send(run, "text")
    runs.send(run, {"a": [1]}, event="my_event")
    runs.complete(run, None)

    got = [data for name, data in events_on(f"job:{job.pk}") if name == "JobSent"]
    assert [(each["event"], each["data"]) for each in got] == [(None, "text"), ("my_event", {"a": [1]})]
    assert "JobSent" not in types_on(f"user:{users.alice.pk}")


# --- Rebuild and erasure ------------------------------------------------------------------------------


def live_a_while(users):
    """Jobs in every state, by every way there."""
    for person in (users.alice, users.bob):
        for way in ("queue", "start", "retry", "complete", "fail", "cancel", "stop"):
            job = jobs.queue(person, name="slow", params={"way": way})
            if way == "queue":
                continue
            if way == "cancel":
                jobs.cancel(person, job.pk)
                continue
            run = runs.claim(job.pk, task_id="t")
            match way:
                case "retry":
                    runs.fail(run, AGAIN)
                case "complete":
                    runs.send(run, "x")
                    runs.complete(run, {"n": 1.5, "text": "ü\u2028"})
                case "fail":
                    runs.fail(run, BROKEN)
                case "stop":
                    runs.stopped(run)


def rows():
    return list(Job.objects.order_by("event_id").values())


def test_a_rebuild_makes_the_same_rows(users):
    live_a_while(users)
    before = rows()
    assert {row["state"] for row in before} == set(Job.State.values)
    Job.objects.all().delete()

    rebuilt = readmodels.rebuild(readmodels.registered()["jobs"])

    assert rebuilt == readmodels.Rebuilt(rows=14, removed=0, added=14)
    assert rows() == before


def test_a_rebuild_leaves_what_is_in_hand_in_hand(users, job, run):
    Job.objects.all().delete()
    readmodels.rebuild(readmodels.registered()["jobs"])

    runs.complete(run, "done")
    assert Job.objects.get().result == "done"


def test_erasure_leaves_nothing_of_a_persons_jobs_but_that_there_were_some(users):
    def words():
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT string_agg(t, ' ') FROM (SELECT data FROM events_event"
                " UNION ALL SELECT j::text FROM events_job j UNION ALL SELECT r::text FROM events_jobrun r"
                " UNION ALL SELECT encode(content, 'escape') FROM events_jobfile) AS x (t)"
            )
            return cursor.fetchone()[0]

    ends = [
        lambda run: runs.complete(run, {"said": "Zanzibar"}),
        lambda run: runs.fail(run, Failure("Zanzibar is away", "OSError")),
        lambda run: runs.fail(run, Failure("Zanzibar is away", "OSError", retry_seconds=60)),
    ]
    for end in ends:
        run = runs.claim(jobs.queue(users.bob, name="x", params={"q": "Zanzibar"}).pk, task_id="t")
        runs.beat(run, progress={"done": 1, "total": 2, "message": "Zanzibar"})
        runs.send(run, "Zanzibar")
        runs.attach(run, name="Zanzibar.csv", content=b"Zanzibar", content_type="text/csv")
        end(run)
    other = jobs.queue(users.alice, name="x", params={"q": "alice's"})
    assert "Zanzibar" in words()

    erased = erasure.erase_user(users.bob, by="test")

    assert "Zanzibar" not in words()
    assert erased.rows["jobs"] == 3
    assert Job.objects.get(pk=other.pk).params == {"q": "alice's"}
    before = rows()
    readmodels.rebuild(readmodels.registered()["jobs"])
    assert rows() == before


def test_a_file_is_kept_for_a_week(users, job, run):
    runs.attach(run, name="x.csv", content=b"x", content_type="text/csv")
    dict(retention.sweep())
    assert JobFile.objects.exists()

    JobFile.objects.update(created_at=Now() - timedelta(days=7, seconds=1))
    assert dict(retention.sweep())["job files"] == 1
    assert not JobFile.objects.exists()
