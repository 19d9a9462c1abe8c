"""Jobs as their owner sees them: the same in every tab, whenever it was opened, whatever dies."""

import json
import re

import pytest
from playwright.sync_api import expect

from tests.browser.breaking import Breaking
from tests.proxy import Proxy
from tests.stack import ROOT, Stack, eventually
from tests.test_end_to_end import comment, item_of
from tests.workers.test_jobs import kill_children

LEASE_SECONDS = 3
SLACK_SECONDS = 6  # a look, and the way to the page; still less than a lease by default
CANCEL_SECONDS = 8


@pytest.fixture(scope="module")
def crew(postgres, valkey, chromium, tmp_path_factory):
    """A service of these tests' own: its workers are killed, and a user may have three jobs."""
    running = Stack(
        postgres,
        valkey,
        tmp_path_factory.mktemp("cards"),
        name="cards",
        DJANGO_SETTINGS_MODULE="tests.working.settings",
        WORKERS_JOB_LEASE_SECONDS=str(LEASE_SECONDS),
        WORKERS_JOB_CANCEL_SECONDS=str(CANCEL_SECONDS),
        EVENTS_JOBS_PER_USER="3",
    )
    with running:
        running.start("daphne", "worker")
        yield running


@pytest.fixture(autouse=True)
def calm(crew):
    """Leave a worker running, and no job behind."""
    yield
    if "worker" in crew.processes:
        crew.thaw("worker")
    else:
        crew.start("worker")
    for user in ("alice", "bob"):
        client = crew.login(user)
        for job in client.get("/api/jobs").json()["results"]:
            client.delete(f"/api/jobs/{job['id']}")
        eventually(lambda client=client: all(over(job) for job in client.get("/api/jobs").json()["results"]))
    crew.rest()  # or the next test's pages would be told of these jobs' ends
    with crew.connect() as connection:
        connection.execute("DELETE FROM events_job")


def over(job):
    return job["state"] in ("complete", "failed", "cancelled")


@pytest.fixture
def panel(crew, open_tab):
    """Open a tab with the panel of jobs open in it, and wait until it has its jobs and its stream."""

    def open_one(user="alice", *, at="", **options):
        tab = open_tab(user, at=at or crew.url("daphne"), **options)
        tab.open_jobs()
        expect(tab.page.get_by_text("Loading your jobs…")).to_be_hidden()
        return tab

    return open_one


def value(tab, nth=0) -> float:
    """Return how far the bar is."""
    return tab.jobs.nth(nth).locator("progress").evaluate("bar => bar.position")


def watch(tab) -> None:
    """Note from now on all that the first card says; some of it is there for a second only."""
    tab.page.evaluate(
        """() => {
          window.seen = [];
          const panel = document.querySelector(".drop--jobs");
          const look = () => {
            const card = panel.querySelector(".job");
            const text = (name) => card.querySelector(name).textContent.trim();
            const now = card && `${text(".job__state")}: ${text(".job__line")}`;
            if (now && window.seen.at(-1) !== now) window.seen.push(now);
          };
          new MutationObserver(look).observe(panel, { subtree: true, childList: true, characterData: true });
          look();
        }"""
    )


def saw(tab, *wanted, seconds=20) -> None:
    """Wait until the card has said this, each a pattern, in this order, whatever it said in between."""

    def all_of_it() -> bool:
        seen = iter(tab.page.evaluate("window.seen"))
        return all(any(re.fullmatch(each, said) for said in seen) for each in wanted)

    eventually(all_of_it, seconds=seconds, every=0.1)


DIED = "The process that ran it died."


def start_worker(crew, name) -> None:
    """Start a worker and wait until it has work to do."""
    log = crew.log(name)
    before = log.read_text().count(" ready.") if log.exists() else 0
    crew.start(name)
    eventually(lambda: log.read_text().count(" ready.") > before, seconds=30)


# --- In every tab, and for nobody else ------------------------------------------------------------


def test_a_job_is_the_same_in_all_tabs_of_its_owner_and_nothing_to_others(panel, crew):
    here, there = panel(), panel()
    bobs = panel("bob"), panel("bob")

    here.start_slow(seconds=60)

    for tab in (here, there):
        tab.shows_job("Running")
        eventually(lambda tab=tab: value(tab) > 0)
        expect(tab.page.get_by_role("button", name="Jobs, 1 under way")).to_be_visible()
    crew.freeze("worker")  # so that nobody tells anything more
    late = panel()
    late.shows_job("Running", line=re.compile(r"\d+ % · Step \d+ of 20"))
    assert value(late) > 0
    crew.thaw("worker")

    there.page.get_by_role("button", name="Cancel: Slow job").click()

    for tab in (here, there, late):
        tab.shows_job("Cancelled")
        expect(tab.page.get_by_role("button", name="Jobs", exact=True)).to_be_visible()
        expect(tab.jobs.locator("progress")).to_be_hidden()
    for tab in bobs:
        expect(tab.page.get_by_text("You have asked for no job yet.")).to_be_visible()
        expect(tab.jobs).to_have_count(0)


def test_the_jobs_channel_is_left_when_it_is_over(panel, crew):
    tab = panel()
    asked = []
    tab.page.on("request", lambda request: asked.append(request.url))
    tab.start_slow(seconds=2)
    tab.shows_job("Done", line="20 steps")
    job = crew.login("alice").get("/api/jobs").json()["results"][0]["id"]

    def channels():
        tab.page.evaluate("1")  # Playwright hears of requests while it is asked something
        return [re.findall(r"channel=([^&]+)", url) for url in asked if "/streams/" in url]

    eventually(lambda: channels() == [[f"job%3A{job}"], []])


# A stream that takes longer than this to be replaced is said to: a busy machine may take so long.
WIRE = (ROOT / "project/static/project/wire.js").read_text()
[CHANGING_MS] = re.findall(r"^const CHANGING_MS = ([\d_]+);", WIRE, re.MULTILINE)
PATIENT = f"""(() => {{
  const {{ setTimeout }} = window;
  window.setTimeout = (then, ms, ...rest) => setTimeout(then, ms === {CHANGING_MS} ? 60_000 : ms, ...rest);
}})()"""


def test_the_light_stays_live_while_a_jobs_channel_comes_and_goes(crew, open_tab):
    """The stream is another one each time, from the same place: nothing is wrong, so nobody hears of it."""
    alice = crew.login("alice")
    item = item_of(alice)
    tab = open_tab(at=crew.url("daphne"))
    tab.page.add_init_script(PATIENT)
    tab.log_in("alice")
    tab.page.goto(f"/items/{item}")
    tab.is_live()
    tab.mark()
    asked = []
    tab.page.on("request", lambda request: asked.append(request.url))

    job = alice.post("/api/jobs/slow", json={"steps": 4, "seconds": 2}).json()["id"]

    def channels():
        tab.page.evaluate("1")  # Playwright hears of requests while it is asked something
        return [f"job%3A{job}" in url for url in asked if "/streams/me/" in url]

    eventually(lambda: channels() == [True, False])
    eventually(lambda: over(alice.get(f"/api/jobs/{job}").json()))
    comment(alice, item, "Heard all the same")
    tab.shows("Heard all the same")
    assert tab.lights == ["live"]
    assert tab.not_reloaded


def test_two_users_have_their_own(panel):
    alice, bob = panel(), panel("bob")
    alice.start_slow(seconds=0.5)
    bob.start_slow(seconds=0.5, fail="error")

    alice.shows_job("Done", line="20 steps")
    bob.shows_job("Failed", line="It was told to fail at step 10.")
    for tab in (alice, bob):
        expect(tab.jobs).to_have_count(1)


def test_what_a_job_sends_is_on_its_card_in_every_tab_also_late(panel, crew):
    tabs = [panel(), panel()]
    client = crew.login("alice")
    client.post("/api/jobs/tells", json={"many": 40, "seconds": 1})
    sent = ["two\nlines", '[1,{"a":null}]', 'my_event: {"x":1}']
    for tab in tabs:
        tab.shows_job("Done")
        expect(tab.jobs.first.locator(".job__sent li")).to_have_text(sent)
    late = panel()
    late.shows_job("Done")
    expect(late.jobs.first.locator(".job__sent li")).to_have_text(sent)

    client.post("/api/jobs/deaf", json={"seconds": 60})
    for tab in [*tabs, panel()]:
        tab.shows_job("Running")
        expect(tab.jobs.first.get_by_role("list", name="What it sent")).to_have_text('{"try":1}')


def polls(tab) -> int:
    """Load the page anew, and return how often it asked what its jobs sent."""
    asked = []
    tab.page.on("request", lambda request: asked.append(request.url))
    tab.page.reload()
    tab.open_jobs()
    tab.shows_job("Done")
    return sum("/streams/poll/" in url for url in asked)


def test_what_jobs_sent_is_asked_for_until_there_is_no_more_of_it(panel, crew):
    """Each answer has a job's state as well, which is always there."""
    tab = panel()
    crew.login("alice").post("/api/jobs/tells", json={"many": 1, "seconds": 0})
    tab.shows_job("Done")

    assert polls(tab) == 2


def test_of_a_job_that_sent_more_than_is_asked_for_nothing_old_is_shown_as_the_latest(panel, crew):
    tab = panel()
    crew.login("alice").post("/api/jobs/floods", json={"many": 25})
    tab.shows_job("Done")
    assert tab.jobs.first.locator(".job__sent li").last.text_content().startswith("24 ")

    assert polls(tab) == 20
    expect(tab.jobs.first.locator(".job__sent li")).to_have_count(0)


def test_what_jobs_sent_is_asked_for_again_where_its_answer_breaks_off(panel, crew):
    crew.login("alice").post("/api/jobs/tells", json={"many": 1, "seconds": 0})
    tab = panel()
    tab.shows_job("Done")
    expect(tab.jobs.first.locator(".job__sent li")).to_have_count(3)

    with Breaking(crew.url("daphne"), b"GET /streams/poll/") as network:
        late = panel(at=network.url)
        late.shows_job("Done")
        expect(late.jobs.first.locator(".job__sent li")).to_have_count(3)
        assert network.broken == 2


@pytest.mark.parametrize("status", [403, 404])
def test_jobs_are_shown_where_what_they_sent_is_refused(panel, crew, status):
    tab = panel()
    crew.login("alice").post("/api/jobs/tells", json={"many": 1, "seconds": 0})
    tab.shows_job("Done")
    refusal = {"title": "No", "detail": "Not to you.", "status": status, "errors": []}
    answer = {"status": status, "content_type": "application/problem+json", "body": json.dumps(refusal)}
    tab.page.route("**/streams/poll/?*", lambda route: route.fulfill(**answer))

    assert polls(tab) == 1
    expect(tab.jobs.first.locator(".job__sent li")).to_have_count(0)


def test_every_tab_says_that_a_job_is_to_stop_also_late(panel, crew):
    here, there = panel(), panel()
    crew.login("alice").post("/api/jobs/deaf", json={"seconds": 60})
    for tab in (here, there):
        tab.shows_job("Running")

    here.page.get_by_role("button", name="Cancel: deaf").click()

    for tab in (here, there):
        tab.shows_job("Stopping")
    crew.freeze("worker")  # which would end it before who comes late has looked
    for tab in (here, there, panel()):
        tab.shows_job("Stopping")
        expect(tab.page.get_by_role("button", name="Cancel: deaf")).to_have_attribute("aria-disabled", "true")
    crew.thaw("worker")
    for tab in (here, there):
        tab.shows_job("Cancelled", seconds=CANCEL_SECONDS + 20)


# --- What goes wrong --------------------------------------------------------------------------------


STEPS = "|".join(f"{5 * n} % · Step {n} of 20" for n in range(20))  # of which a busy machine leaves some out


def test_a_retry_is_seen_and_its_end(panel):
    tabs = panel(), panel()
    for tab in tabs:
        watch(tab)

    tabs[0].start_slow(seconds=6, fail="once")

    for tab in tabs:
        tab.shows_job("Done", line="20 steps, at try 2", seconds=30)
        saw(tab, r"Trying again: It was told to fail at the first try\.", f"Running, try 2: ({STEPS})")


def test_a_job_whose_process_is_killed_is_tried_again_before_ones_eyes(panel, crew):
    tabs = panel(), panel()
    tabs[0].start_slow(seconds=60)
    for tab in tabs:
        tab.shows_job("Running")
        watch(tab)

    kill_children(crew)
    with crew.connect() as connection:  # nobody waits for it to lapse
        connection.execute(
            "UPDATE events_jobrun SET lease_until = now() + interval '1 hour' WHERE lease_until IS NOT NULL"
        )

    for tab in tabs:
        saw(tab, f"Trying again: {re.escape(DIED)}")
        tab.shows_job("Running, try 2")


def test_a_job_whose_worker_is_killed_says_so_within_its_lease(panel, crew):
    tabs = panel(), panel()
    tabs[0].start_slow(seconds=60)
    for tab in tabs:
        tab.shows_job("Running")
        watch(tab)
    start_worker(crew, "worker2")
    try:
        crew.kill("worker")

        for tab in tabs:
            saw(tab, f"Trying again: {re.escape(DIED)}", seconds=LEASE_SECONDS + SLACK_SECONDS)
            tab.shows_job("Running, try 2")
        start_worker(crew, "worker")
        crew.kill("worker2")

        for tab in tabs:
            tab.shows_job("Failed", line=DIED, seconds=LEASE_SECONDS + SLACK_SECONDS)
    finally:
        if "worker2" in crew.processes:
            crew.kill("worker2")


def test_a_result_that_is_not_json_is_a_failure_with_the_reason(panel):
    tab = panel()
    tab.start_slow(seconds=0.2, fail="result")
    tab.shows_job("Failed", line=re.compile("JSON"))

    tab.page.get_by_role("button", name="Again: Slow job").click()

    expect(tab.jobs).to_have_count(2)
    tab.shows_job("Failed", line=re.compile("JSON"))


def test_what_ended_while_the_network_was_away_is_right_when_it_is_back(panel, crew, tmp_path):
    client = crew.login("alice")
    with Proxy(crew.url("daphne")) as network:
        tab = panel(at=network.url)
        client.post("/api/jobs/waits", json={"note": str(tmp_path / "end")})
        tab.shows_job("Running")
        network.cut()
        expect(tab.page.get_by_text("Reconnecting. What is here may be old.")).to_be_visible()
        (tmp_path / "end").touch()
        eventually(lambda: over(client.get("/api/jobs").json()["results"][0]))
        tab.shows_job("Running")
        network.restore()

        tab.shows_job("Done", line="it came", seconds=40)


def test_what_is_refused_is_said_where_it_was_asked(panel):
    tab = panel()
    tab.start_slow(seconds="-1")
    expect(tab.page.get_by_label("Seconds")).to_have_attribute("aria-invalid", "true")
    expect(tab.page.get_by_text("Input should be greater than or equal to 0.")).to_be_visible()
    expect(tab.jobs).to_have_count(0)
    tab.page.get_by_label("Seconds").fill("ten")
    tab.page.get_by_role("button", name="Start", exact=True).click()
    expect(tab.page.get_by_text("Type a number.")).to_be_visible()
    tab.page.get_by_label("Seconds").fill("60")
    tab.page.get_by_role("button", name="Start", exact=True).click()
    tab.shows_job("Running")
    for count in (2, 3):
        tab.start_slow(seconds=60)
        expect(tab.jobs).to_have_count(count)

    tab.page.get_by_role("button", name="Export comments").click()

    expect(tab.page.get_by_text("You have as many jobs waiting or running as you may")).to_be_visible()
    expect(tab.jobs).to_have_count(3)


def test_again_after_an_answer_that_broke_off_starts_one_job(panel, crew):
    client = crew.login("alice")
    client.post("/api/jobs/slow", json={"seconds": 0})
    with Breaking(crew.url("daphne"), b"POST /api/jobs/slow ", left=1) as network:
        tab = panel(at=network.url)
        tab.shows_job("Done")
        card = tab.page.locator(".job").last
        again = card.get_by_role("button", name="Again: Slow job")
        again.click()
        expect(card.get_by_role("alert")).to_have_text("The server's answer broke off. Try again.")
        expect(tab.jobs).to_have_count(2)  # it was started all the same

        again.click()

        tab.says("Slow job: started.")
        expect(tab.jobs).to_have_count(2)
        assert network.broken == 1
        assert len(client.get("/api/jobs").json()["results"]) == 2

        again.click()  # this once more is meant

        expect(tab.jobs).to_have_count(3)


# --- What comes of it ---------------------------------------------------------------------------------


def test_an_export_is_downloaded(panel, crew):
    client = crew.login("alice")
    item = client.post("/api/items", json={"title": "Sheets"}).json()["id"]
    client.post(f"/api/items/{item}/comments", json={"text": "=1+1"})
    tab = panel()

    tab.page.get_by_role("button", name="Export comments").click()
    tab.shows_job("Done", line=re.compile(r"^\d+ comments?$"))
    with tab.page.expect_download() as download:
        tab.page.get_by_role("link", name=re.compile(r"Download comments-.*\.csv")).click()

    text = download.value.path().read_text(encoding="utf-8-sig")
    assert text.startswith("item,title,comment")
    assert "'=1+1" in text

    with crew.connect() as connection:
        connection.execute("DELETE FROM events_jobfile")
    tab.page.reload()
    tab.open_jobs()
    tab.shows_job("Done", line=re.compile(r"^\d+ comments?\. The file is no longer kept\.$"))
    expect(tab.page.get_by_role("link", name=re.compile("Download"))).to_be_hidden()


def test_the_bell_leads_to_the_job_that_it_tells_of(panel):
    tab = panel()
    tab.start_slow(seconds=0.2)
    tab.shows_job("Done")
    tab.page.keyboard.press("Escape")
    tab.open_bell()

    tab.page.get_by_role("button", name="Your job “slow” is done").first.click()

    expect(tab.page.get_by_role("dialog", name="My jobs")).to_be_visible()
    expect(tab.page.get_by_role("dialog", name="Notifications")).to_be_hidden()
    expect(tab.jobs.first).to_be_in_viewport()
    assert tab.focused() == "My jobs"


# A job's events in their order, as two tries that end in each way.
TOLD = [
    ["JobQueued", {"task_type": "slow", "params": {}, "timestamp": 1}],
    ["JobStarted", {"attempt": 1, "timestamp": 2}],
    ["JobRetrying", {"attempt": 1, "error": "Not yet.", "retry_at": 4}],
    ["JobStarted", {"attempt": 2, "timestamp": 4}],
]
ENDS = [
    ["TaskComplete", {"result": {"steps": 1}, "duration_ms": 1500}],
    ["JobFailed", {"error": "It broke.", "error_type": "E", "timestamp": 6}],
    ["JobCancelled", {"timestamp": 6}],
]


@pytest.mark.parametrize("end", ENDS)
def test_events_that_a_row_knows_already_change_nothing(panel, end):
    differ = panel().page.evaluate(
        """async (told) => {
          const { after, fromQueued } = await import("/static/project/job.js");
          const change = (job, [type, event]) =>
            type === "JobQueued" ? job ?? fromQueued(event) : after(job, type, { job_id: "1", ...event });
          const whole = JSON.stringify(told.reduce(change, null));
          const wrong = [];
          for (let row = 1; row <= told.length; row++)
            for (let from = 0; from <= row; from++) {
              const snapshot = told.slice(0, row).reduce(change, null);
              const job = JSON.stringify(told.slice(from).reduce(change, snapshot));
              if (job !== whole) wrong.push([row, from, job]);
            }
          return wrong;
        }""",
        [*TOLD, end],
    )
    assert differ == []


def test_older_jobs_are_a_click_away(panel, crew):
    client = crew.login("alice")
    for n in range(12):
        made = client.post("/api/jobs/slow", json={"steps": 1, "seconds": 0}).json()["id"]
        eventually(lambda made=made: over(client.get(f"/api/jobs/{made}").json()))
        assert n < 12
    tab = panel()
    expect(tab.jobs).to_have_count(10)

    tab.page.get_by_role("button", name="Older jobs").click()

    expect(tab.jobs).to_have_count(12)
    expect(tab.page.get_by_role("button", name="Older jobs")).to_be_hidden()


def test_a_text_is_streamed_token_by_token(panel):
    tab = panel()
    text = tab.page.locator(".launch__text")
    text.evaluate(
        """(text) => {
          window.came = [];
          new MutationObserver(() => came.push(performance.now())).observe(text, { childList: true });
        }"""
    )
    tab.page.get_by_role("button", name="Stream a text").click()

    expect(text).to_contain_text("It stopped in 1970. This one goes on.")
    assert text.text_content().startswith("A ticker tape")
    began, *_, ended = tab.page.evaluate("came")
    assert ended - began > 1_000, "not token by token"
    tab.page.keyboard.press("Escape")
    tab.page.get_by_role("button", name="Jobs", exact=True).click()
    expect(text).to_be_hidden()


def test_a_browsers_fetch_hears_a_job_in_the_answer_to_its_own_request(panel, tmp_path):
    tab = panel()

    tab.page.evaluate(
        """(note) => {
          const token = document.cookie.match(/csrftoken=([^;]*)/)[1];
          const json = {"Content-Type": "application/json", "X-CSRFToken": token};
          const read = async () => {
            const answer = await fetch("/api/jobs/waits", {
              method: "POST",
              body: JSON.stringify({note}),
              headers: {...json, Accept: "text/event-stream"},
            });
            for await (const chunk of answer.body.pipeThrough(new TextDecoderStream())) window.heard += chunk;
          };
          window.heard = "";
          window.reading = read();
        }""",
        str(tmp_path / "end"),
    )
    eventually(lambda: "event: progress\n" in tab.page.evaluate("heard"))  # it comes as it happens
    (tmp_path / "end").touch()
    tab.page.evaluate("reading")

    names = re.findall(r"(?m)^event: (.*)$", tab.page.evaluate("heard"))
    names = [name for name in names if not name.startswith("stream.")]
    assert (names[0], names[-1]) == ("start", "complete")
    assert set(names[1:-1]) == {"progress"}
    tab.shows_job("Done", line="it came")


# --- For everybody --------------------------------------------------------------------------------------


def test_a_keyboard_starts_and_cancels_a_job_and_never_loses_its_place(crew, open_tab):
    tab = open_tab("alice", at=crew.url("daphne"))
    keys = tab.page.keyboard
    tab.tab_to("Jobs")
    keys.press("Enter")
    assert tab.focused() == "My jobs"
    tab.tab_to("Slow job…")
    keys.press("Enter")
    assert tab.focused() == "It fails"
    keys.press("Tab")
    keys.press("ControlOrMeta+a")
    keys.type("60")
    keys.press("Enter")
    tab.shows_job("Running")
    expect(tab.page.get_by_role("button", name="Slow job…")).to_be_focused()
    tab.tab_to("Cancel: Slow job")

    keys.press("Enter")

    tab.shows_job("Cancelled")
    assert tab.focused() == "Again: Slow job"
    assert "Slow job: cancelled." in tab.said()
    keys.press("Escape")
    expect(tab.page.get_by_role("dialog", name="My jobs")).to_be_hidden()
    assert tab.focused() == "Jobs"


def test_a_screen_reader_hears_of_starts_and_retries_and_not_of_each_step(panel):
    tab = panel()
    tab.start_slow(seconds=2, fail="once")
    tab.shows_job("Done", line="20 steps, at try 2")

    tab.says("is done")
    assert tab.said().splitlines() == [
        "Slow job: started.", "Slow job: it failed and is tried again.", "Your job “slow” is done"
    ]  # fmt: skip
