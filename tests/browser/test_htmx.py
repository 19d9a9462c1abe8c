"""The example with htmx: comments live as HTML, by nothing but the SSE extension, through its habits."""

import re

import pytest
from playwright.sync_api import expect

from tests.browser import on_both
from tests.test_end_to_end import comment, item_of

STREAM = re.compile(r"/streams/items/")
CUT = r"^\[object Event\]$"  # what the extension logs of a connection that broke
PROBLEM = "application/problem+json"
FAILED = "Response Status Error Code|htmx:(afterRequest|sendError)"


@pytest.fixture
def alice(stack, server):
    return stack.login("alice", server)


@pytest.fixture
def item(alice):
    return item_of(alice, title="By htmx")


def texts(tab) -> list[str]:
    return tab.page.locator("#comments .comment__text").all_text_contents()


def shows(tab, *wanted: str) -> None:
    expect(tab.page.locator("#comments .comment__text")).to_have_text(list(wanted), timeout=20_000)
    assert texts(tab) == list(wanted)


def forgive(tab, said: str) -> None:
    """Leave out what htmx writes into the console that is no fault."""
    tab.faults = [fault for fault in tab.faults if not re.search(said, fault)]


def opened(tab):
    """Wait for the extension's next stream to be answered."""
    return tab.page.expect_response(lambda answer: STREAM.search(answer.url) and answer.status == 200)


@on_both
def test_comments_come_edited_and_go_as_html_and_nothing_else(server, alice, item, open_tab):
    there = comment(alice, item, "already there")
    tab = open_tab("bob", f"/demo/htmx/{item}/", at=server)
    asked = []
    tab.page.on("request", lambda request: asked.append((request.resource_type, request.url)))
    shows(tab, "already there")

    live = comment(alice, item, "live,\nin two lines")
    shows(tab, "already there", "live,\nin two lines")
    assert alice.patch(f"/api/comments/{there}", json={"text": "edited"}).status_code == 200
    shows(tab, "edited", "live,\nin two lines")
    assert alice.delete(f"/api/comments/{live}").status_code == 204
    shows(tab, "edited")

    assert [url for kind, url in asked if kind in ("fetch", "xhr", "document")] == []
    scripts = tab.page.locator("script").evaluate_all("all => all.map(each => each.getAttribute('src'))")
    assert [script.rpartition("/")[2] for script in scripts] == [
        "htmx-2.0.11.min.js",
        "sse-2.2.4.min.js",
        "faults.js",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "<script>window.hurt = 1</script>",
        "<img src=x onerror='window.hurt = 1'>",
        '"><b hx-get="/" hx-trigger="load">x</b>',
        "</div></li><li id=comments hx-swap-oob=true>gone</li>",
        "<template><div hx-swap-oob='delete:body'></div></template>",
        "&lt;script&gt; {{ event }} {% now 'Y' %}",
        "event: CommentDeleted\ndata: <b>\n\nid: 1",
    ],
)
def test_what_users_type_is_text_live_and_in_the_list(stack, alice, item, open_tab, text):
    tab = open_tab("bob", f"/demo/htmx/{item}/")
    expect(tab.page.locator("#comments")).to_be_attached()
    comment(alice, item, text)
    comment(alice, item, "after it")

    shows(tab, text, "after it")
    tab.page.reload()
    shows(tab, text, "after it")
    assert tab.page.evaluate("window.hurt") is None


@on_both
def test_what_was_missed_comes_when_the_network_is_back(server, alice, item, network, open_tab):
    comment(alice, item, "one")
    tab = open_tab("bob", f"/demo/htmx/{item}/", at=network.url)
    two = comment(alice, item, "two")
    shows(tab, "one", "two")

    for n in range(3):
        network.cut()
        comment(alice, item, f"missed {n}")
        network.restore()
        shows(tab, "one", "two", *(f"missed {k}" for k in range(n + 1)))
    network.cut()
    assert alice.delete(f"/api/comments/{two}").status_code == 204
    network.restore()

    shows(tab, "one", "missed 0", "missed 1", "missed 2")
    forgive(tab, CUT)


def test_a_stream_that_the_extension_makes_anew_loses_nothing_and_doubles_nothing(
    server, alice, item, network, open_tab
):
    there = comment(alice, item, "there")
    tab = open_tab("bob", f"/demo/htmx/{item}/", at=network.url)
    one, two = comment(alice, item, "one"), comment(alice, item, "two")
    assert alice.patch(f"/api/comments/{one}", json={"text": "one, edited"}).status_code == 200
    shows(tab, "there", "one, edited", "two")
    # A proxy before a server that is away: any status but 200, and the browser's own EventSource gives up.
    tab.page.route(STREAM, lambda route: route.fulfill(status=502, body="away"))
    with tab.page.expect_response(lambda answer: answer.status == 502):
        network.cut()
        network.restore()
    three = comment(alice, item, "three")
    assert alice.delete(f"/api/comments/{two}").status_code == 204
    assert alice.patch(f"/api/comments/{there}", json={"text": "there, edited"}).status_code == 200

    with opened(tab) as answer:
        tab.page.unroute(STREAM)
    assert "last-event-id" not in answer.value.request.all_headers()
    shows(tab, "there, edited", "one, edited", "three")
    assert alice.patch(f"/api/comments/{three}", json={"text": "three, edited"}).status_code == 200
    comment(alice, item, "four")

    shows(tab, "there, edited", "one, edited", "three, edited", "four")
    # What is replayed of a comment that is gone by now has nowhere to go to; htmx says so, and goes on.
    forgive(tab, f"{CUT}|htmx:oobErrorNoTarget")


def test_a_place_that_is_lost_loads_the_list_anew(server, alice, item, open_tab):
    comment(alice, item, "one")
    tab = open_tab("bob", "/", at=server)
    lost = re.compile(r"last_event_id=[^\"&]*")

    def age(route):
        answer = route.fetch()
        route.fulfill(response=answer, body=lost.sub("last_event_id=0000000000-1", answer.text()))

    tab.page.route(re.compile("/demo/htmx/"), age, times=1)
    tab.page.goto(f"/demo/htmx/{item}/")
    expect(tab.page.locator("#tape")).not_to_have_attribute("sse-connect", re.compile("0000000000-1$"))
    comment(alice, item, "two")

    shows(tab, "one", "two")


def test_a_list_that_could_not_be_loaded_anew_is_asked_for_again(server, alice, item, open_tab):
    comment(alice, item, "one")
    tab = open_tab("bob", "/", at=server)
    lost = re.compile(r"last_event_id=[^\"&]*")
    asked = []

    def answer(route):
        asked.append(route.request.url)
        if len(asked) == 1:
            page = route.fetch()
            route.fulfill(response=page, body=lost.sub("last_event_id=0000000000-1", page.text()))
        elif len(asked) == 2:
            route.fulfill(status=502, content_type="text/html", body="<h1>Bad gateway</h1>")
        elif len(asked) == 3:
            route.abort()
        else:
            route.continue_()

    tab.page.route(re.compile("/demo/htmx/"), answer)
    tab.page.goto(f"/demo/htmx/{item}/")
    fault = tab.page.locator("#tape").get_by_role("alert")
    expect(fault).to_have_text(re.compile(r"error \(502\)\. .*are asked for again"))
    expect(fault).to_have_text(re.compile(r"cannot be reached\. .*are asked for again"))
    expect(tab.page.locator("#tape")).not_to_have_attribute("sse-connect", re.compile("0000000000-1$"))
    comment(alice, item, "two")

    shows(tab, "one", "two")
    expect(fault).to_have_text("")
    assert len(asked) == 4
    forgive(tab, FAILED)


@pytest.mark.parametrize("by", ["the form", "a reset"])
def test_who_is_logged_out_meanwhile_is_led_to_where_one_logs_in(item, open_tab, by):
    tab = open_tab("bob", f"/demo/htmx/{item}/")
    token = next(each["value"] for each in tab.page.context.cookies() if each["name"] == "csrftoken")
    assert tab.page.request.delete("/api/session", headers={"X-CSRFToken": token}).ok

    if by == "the form":
        write(tab, "too late")
    else:
        tab.page.evaluate("htmx.trigger('#tape > [hx-get]', 'sse:stream.reset')")

    expect(tab.page.get_by_role("heading", name="Log in")).to_be_visible()
    assert tab.page.evaluate("location.pathname") == "/"
    forgive(tab, CUT)


def write(tab, text: str) -> None:
    tab.page.get_by_label("Add a comment").fill(text)
    tab.page.get_by_role("button", name="Comment").click()


def lose_the_answer(tab) -> None:
    """Have the next comment arrive, and its answer not."""

    def lose(route):
        route.fetch()
        route.abort()

    tab.page.route(re.compile("/demo/htmx/"), lose, times=1)


def test_a_comment_that_is_sent_again_is_there_once(alice, item, open_tab):
    tab = open_tab("bob", f"/demo/htmx/{item}/")
    lose_the_answer(tab)

    write(tab, "once")
    shows(tab, "once")
    expect(tab.page.locator("form").get_by_role("alert")).to_contain_text("cannot be reached")
    tab.page.get_by_role("button", name="Comment").click()
    expect(tab.page.get_by_label("Add a comment")).to_have_value("")
    expect(tab.page.locator("form").get_by_role("alert")).to_have_text("")
    tab.page.get_by_label("Add a comment").fill("twice clicked")
    tab.page.get_by_role("button", name="Comment").dblclick()
    expect(tab.page.get_by_label("Add a comment")).to_have_value("")
    write(tab, "once")

    shows(tab, "once", "twice clicked", "once")
    listed = alice.get(f"/api/items/{item}/comments").json()["results"]
    assert [each["text"] for each in listed] == ["once", "twice clicked", "once"]
    forgive(tab, FAILED)


def test_another_text_after_an_answer_that_was_lost_is_asked_about(item, open_tab):
    tab = open_tab("bob", f"/demo/htmx/{item}/")
    lose_the_answer(tab)
    write(tab, "first")
    shows(tab, "first")
    expect(tab.page.locator("form").get_by_role("alert")).to_contain_text("cannot be reached")

    write(tab, "second")
    expect(tab.page.locator("form").get_by_role("alert")).to_contain_text("was added already")
    expect(tab.page.get_by_label("Add a comment")).to_have_value("second")
    tab.page.get_by_role("button", name="Comment").click()

    shows(tab, "first", "second")
    forgive(tab, FAILED)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (
            {"status": 502, "content_type": "text/html", "body": "<h1>Bad gateway</h1>"},
            r"error \(502\)\. Your text",
        ),
        ({"status": 403, "content_type": PROBLEM, "body": '{"detail": "Not you <b>."}'}, r"^Not you <b>\.$"),
    ],
)
def test_why_a_comment_was_not_taken_is_said(item, open_tab, answer, words):
    tab = open_tab("bob", f"/demo/htmx/{item}/")
    tab.page.route(re.compile("/demo/htmx/"), lambda route: route.fulfill(**answer), times=1)

    write(tab, "kept")
    expect(tab.page.locator("form").get_by_role("alert")).to_have_text(re.compile(words))
    expect(tab.page.get_by_label("Add a comment")).to_have_value("kept")
    tab.page.get_by_role("button", name="Comment").click()

    shows(tab, "kept")
    forgive(tab, FAILED)


def test_a_comment_is_written_by_its_form_and_refused_beside_its_field(server, item, open_tab):
    tab = open_tab("bob", f"/demo/htmx/{item}/", at=server)
    field = tab.page.get_by_label("Add a comment")

    field.fill("From\nthe form")
    tab.page.get_by_role("button", name="Comment").click()
    shows(tab, "From\nthe form")
    expect(field).to_have_value("")
    field.fill("   ")
    tab.page.get_by_role("button", name="Comment").click()
    expect(field).to_have_accessible_description(re.compile("The text .*blank"))
    assert texts(tab) == ["From\nthe form"]


def test_who_is_not_logged_in_is_led_to_where_one_does(open_tab, stack, alice, item):
    tab = open_tab(None, f"/demo/htmx/{item}/")

    expect(tab.page.get_by_role("heading", name="Log in")).to_be_visible()
    hidden = item_of(alice, visibility="members")
    assert stack.login("bob").get(f"/demo/htmx/{hidden}/").status_code == 403
