"""The catalogue in a browser: to be read on a phone and on a desk, to be searched, to be linked to."""

import re

import pytest
from playwright.sync_api import expect

from tests.browser.test_looks import faults_of

# What is painted where an element is: itself, unless something covers it.
AT_ITS_PLACE = """it => {
  const { x, y } = it.getBoundingClientRect();
  return document.elementFromPoint(x + 2, y + 2).closest(".entry")?.id;
}"""


@pytest.mark.parametrize("width", [320, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_catalogue_can_be_read_on_a_phone_and_on_a_desk(open_tab, scheme, width):
    tab = open_tab(path="/events/", color_scheme=scheme, viewport={"width": width, "height": 640})

    expect(tab.page.get_by_role("article", name="CommentAdded")).to_be_visible()
    tab.page.goto("/events/#NotificationRaised")
    tab.page.get_by_label("Find by name").fill("nothing at all is so")
    tab.page.get_by_label("Find by name").fill("")
    assert faults_of(tab) == []


def test_an_entry_is_found_by_its_name_a_field_and_what_it_means(open_tab):
    tab = open_tab(path="/events/")
    shown = tab.page.get_by_role("article")
    find = tab.page.get_by_label("Find by name")

    find.fill("commentadded")
    expect(shown).to_have_count(1)
    find.fill("retry_at unix")
    expect(shown).to_have_count(1)
    expect(shown).to_contain_text("JobRetrying")
    expect(tab.page.get_by_role("status")).to_have_text(re.compile(r"^1 of \d\d$"))
    find.fill("quagga")
    expect(shown).to_have_count(0)
    expect(tab.page.get_by_role("status")).to_have_text("Nothing holds all of these words.")

    tab.page.get_by_role("link", name="ItemCreated").first.click()
    expect(tab.page.get_by_role("article", name="ItemCreated")).to_be_in_viewport()
    assert tab.page.url.endswith("/events/#ItemCreated")


def test_an_address_leads_to_its_entry_below_what_stays_in_view(open_tab):
    tab = open_tab(path="/events/#TaskComplete")
    heading = tab.page.get_by_role("heading", name="TaskComplete")

    expect(heading).to_be_in_viewport()
    assert heading.evaluate(AT_ITS_PLACE) == "TaskComplete"


def test_without_a_script_all_of_it_is_there(chromium, stack):
    context = chromium.new_context(base_url=stack.url("daphne"), java_script_enabled=False)
    page = context.new_page()
    page.goto("/events/")

    expect(page.get_by_role("article", name="CommentAdded")).to_be_visible()
    expect(page.get_by_label("Find by name")).to_be_hidden()
    context.close()


def test_the_front_page_links_to_it(open_tab):
    tab = open_tab()

    tab.page.get_by_role("link", name="Events").click()

    expect(tab.page.get_by_role("heading", name="Types of events")).to_be_visible()
