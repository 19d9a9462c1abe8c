"""Adding, editing, deleting: by mouse and by keyboard alone, with any text, and when refused."""

import re

import pytest
from playwright.sync_api import expect

from tests.test_end_to_end import comment, item_of

TEXTS = [
    "<img src=x onerror='window.harmed=1'>",
    "</script><script>window.harmed=1</script>",
    "&lt;b&gt; &amp; \u2028 ${1+1} {{ 7*7 }} %3Cb%3E",
    "data: forged\n\nid: 1\nevent: CommentDeleted\ndata: {}",
    "  indented\n\n\ttabbed,   spaced  \nlast line",
    "\U0001f9d1\u200d\U0001f680 שלום \u202eabc עולם",
    "https://example.org/" + "long" * 400,
]


def test_what_was_typed_is_shown_as_it_was_typed_and_never_as_markup(stack, open_tab):
    alice = stack.login("alice")
    item = item_of(alice, title="<b>Bold</b>&amp;")
    for text in TEXTS:
        comment(alice, item, text)
    tab = open_tab("bob", f"/items/{item}")
    tab.is_live()
    for text in TEXTS:
        comment(alice, item, text + " (live)")

    expect(tab.comments).to_have_count(2 * len(TEXTS))

    assert tab.texts() == [*TEXTS, *(text + " (live)" for text in TEXTS)]
    expect(tab.page.get_by_role("heading", name="<b>Bold</b>&amp;")).to_be_visible()
    assert tab.page.locator(".tape img, .tape script, .comment__text *, h1 *").count() == 0
    assert tab.page.evaluate("window.harmed") is None


def test_a_comment_typed_here_arrives_as_it_was_typed(stack, open_tab):
    alice = stack.login("alice")
    item = item_of(alice)
    tab = open_tab("bob", f"/items/{item}")

    tab.comment("  two\n\n  lines\t")

    expect(tab.comments).to_have_count(1)
    [stored] = alice.get(f"/api/items/{item}/comments").json()["results"]
    assert stored["text"] == "  two\n\n  lines\t"


@pytest.mark.parametrize(("text", "why"), [("   ", "blank"), ("x" * 20_001, "at most 20000")])
def test_a_comment_that_is_refused_says_why_and_keeps_its_text(stack, open_tab, text, why):
    item = item_of(stack.login("alice"))
    tab = open_tab("bob", f"/items/{item}")

    tab.comment(text)

    box = tab.page.get_by_label("Add a comment")
    expect(box).to_have_attribute("aria-invalid", "true")
    expect(box).to_have_accessible_description(re.compile(why))
    expect(box).to_be_focused()
    expect(box).to_have_value(text)
    expect(tab.comments).to_have_count(0)


def test_a_comment_whose_answer_was_lost_is_posted_once(stack, open_tab):
    item = item_of(stack.login("alice"))
    tab = open_tab("bob", f"/items/{item}")
    tab.is_live()

    def lose_answer(route):
        if route.request.method == "POST":
            route.fetch()
            route.abort()
        else:
            route.continue_()

    tab.page.route("**/comments", lose_answer, times=1)
    tab.comment("Did it get there?")
    expect(tab.page.locator(".composer").get_by_role("alert")).to_contain_text("The server cannot be reached")
    tab.page.get_by_role("button", name="Comment", exact=True).click()

    expect(tab.page.get_by_label("Add a comment")).to_have_value("")
    comment(stack.login("alice"), item, "It did")
    tab.shows("Did it get there?", "It did")


def test_the_author_edits_and_deletes_and_others_do_not(stack, open_tab):
    alice = stack.login("alice")
    item = item_of(alice)
    comment(alice, item, "by alice")
    comment(stack.login("carol"), item, "by carol")
    bob = open_tab("bob", f"/items/{item}")
    bob.comment("by bob")
    bob.shows("by alice", "by carol", "by bob")

    for text in ("by alice", "by carol"):
        expect(bob.row(text).get_by_role("button")).to_have_count(0)
    expect(bob.row("by bob").get_by_role("button")).to_have_text(["Edit", "Delete"])

    owner = open_tab("alice", f"/items/{item}")
    expect(owner.row("by alice").get_by_role("button")).to_have_text(["Edit", "Delete"])
    expect(owner.row("by bob").get_by_role("button")).to_have_text(["Delete"])
    owner.row("by bob").get_by_role("button", name="Delete").click()
    owner.page.get_by_role("button", name="Delete", exact=True).last.click()
    owner.shows("by alice", "by carol")
    bob.shows("by alice", "by carol")


def test_an_open_edit_survives_what_arrives_meanwhile(stack, open_tab):
    alice = stack.login("alice")
    item = item_of(alice)
    draft = comment(alice, item, "a draft")
    tab = open_tab("alice", f"/items/{item}")
    tab.page.get_by_role("button", name="Edit").click()
    box = tab.page.get_by_label("Edit your comment")
    box.fill("a better")

    alice.patch(f"/api/comments/{draft}", json={"text": "a draft, edited elsewhere"})
    comment(stack.login("bob"), item, "meanwhile")
    tab.shows("a draft, edited elsewhere", "meanwhile")

    expect(box).to_be_focused()
    box.press("End")
    box.press_sequentially(" draft")
    box.press("Control+Enter")
    tab.shows("a better draft", "meanwhile")
    expect(tab.row("a better draft").get_by_text("edited")).to_be_visible()


def test_everything_can_be_done_with_the_keyboard_alone(stack, open_tab):
    alice = stack.login("alice")
    tab = open_tab()
    keys = tab.page.keyboard
    expect(tab.page.get_by_label("User name")).to_be_focused()
    keys.type("bob")
    keys.press("Tab")
    keys.type("demo-bob")
    keys.press("Enter")

    expect(tab.page.get_by_role("heading", name="Items")).to_be_focused()
    tab.tab_to("New item")
    keys.press("Enter")
    keys.type("By keyboard")
    keys.press("Enter")
    expect(tab.page.get_by_role("heading", name="By keyboard")).to_be_focused()
    tab.is_live()

    tab.tab_to("Add a comment")
    keys.type("My first")
    keys.press("Enter")
    keys.type("comment")
    keys.press("Control+Enter")
    expect(tab.comments).to_have_count(1)
    expect(tab.page.get_by_label("Add a comment")).to_have_value("")  # the answer may come after the event
    assert tab.texts() == ["My first\ncomment"]
    assert tab.focused() == "Add a comment"

    tab.tab_to("Edit", back=True)
    keys.press("Enter")
    assert tab.focused() == "Edit your comment"
    keys.press("Control+a")
    keys.type("My second")
    keys.press("Control+Enter")
    tab.shows("My second")
    expect(tab.page.get_by_role("button", name="Edit")).to_be_focused()

    keys.press("Enter")
    keys.type(" thoughts")
    keys.press("Escape")
    expect(tab.page.get_by_role("button", name="Edit")).to_be_focused()
    tab.shows("My second")

    item = tab.page.url.rpartition("/")[2]
    comment(alice, item, "A neighbour")
    tab.shows("My second", "A neighbour")
    tab.tab_to("Delete")
    keys.press("Enter")
    keys.press("Escape")
    assert tab.focused().startswith("Delete “My second”")
    keys.press("Enter")
    keys.press("Enter")
    tab.shows("A neighbour")
    expect(tab.page.locator(".comment").filter(has_text="A neighbour")).to_be_focused()
    tab.says("Comment deleted.")


def test_who_reads_further_up_stays_there_and_is_told_of_new_comments(stack, open_tab):
    alice = stack.login("alice")
    item = item_of(alice)
    for number in range(40):
        comment(alice, item, f"comment {number}")
    tab = open_tab("bob", f"/items/{item}", viewport={"width": 800, "height": 500})
    tab.is_live()
    expect(tab.row("comment 39")).to_be_in_viewport()

    comment(alice, item, "at the end")
    expect(tab.row("at the end")).to_be_in_viewport()

    tab.page.evaluate("window.scrollTo(0, 0)")
    comment(alice, item, "further down")
    told = tab.page.get_by_role("button", name="1 new comment")
    expect(told).to_be_visible()
    expect(tab.row("comment 0")).to_be_in_viewport()
    told.click()
    expect(tab.row("further down")).to_be_in_viewport()
    expect(told).to_be_hidden()
