"""What a screenshot would show, as far as it can be counted: contrast, width, names, policy."""

import pytest
from playwright.sync_api import expect

from tests.test_end_to_end import comment, item_of

LEAST_CONTRAST = 4.5  # WCAG 2.2, 1.4.3, for text of any size

# The contrast of each text with the nearest background that is painted behind it.
CONTRASTS = """() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgb = (color) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const linear = (byte) => (byte <= 10 ? byte / 3294 : ((byte / 255 + 0.055) / 1.055) ** 2.4);
  const luminance = (color) => {
    const [x, y, z] = color.map(linear);
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const color = rgb(getComputedStyle(at).backgroundColor);
      if (color[3] === 255) return color;
    }
    return rgb(getComputedStyle(document.documentElement).backgroundColor);
  };
  const found = [];
  for (const element of document.querySelectorAll("body *")) {
    const text = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!text || !element.checkVisibility() || element.closest("script, noscript, .sr-only, .skip")) continue;
    const [a, b] = [luminance(rgb(getComputedStyle(element).color)), luminance(behind(element))];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    found.push([contrast, `${element.tagName}.${element.className}: ${element.textContent.slice(0, 40)}`]);
  }
  return found;
}"""

# Everything that can be focused and has no name to be called by.
NAMELESS = """() => [...document.querySelectorAll("a[href], button, input, textarea")]
  .filter((each) => each.checkVisibility())
  .filter((each) => !(each.ariaLabel || each.labels?.[0]?.textContent || each.textContent).trim())
  .map((each) => each.outerHTML)"""


def check_looks(tab) -> None:
    """Fail on text that is hard to read, on what sticks out at the side, and on nameless controls."""
    contrasts = tab.page.evaluate(CONTRASTS)
    assert contrasts
    assert [found for found in contrasts if found[0] < LEAST_CONTRAST] == []
    assert tab.page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0
    assert tab.page.evaluate(NAMELESS) == []


@pytest.mark.parametrize("width", [320, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_view_can_be_read_on_a_phone_and_on_a_desk(stack, open_tab, scheme, width):
    alice = stack.login("alice")
    item = item_of(alice, title="Pneumonoultramicroscopicsilicovolcanoconiosis", visibility="members")
    comment(alice, item, "https://example.org/" + "long" * 100)
    comment(alice, item, "line\n" * 40)
    tab = open_tab(color_scheme=scheme, viewport={"width": width, "height": 640})
    page = tab.page

    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_text("Type your user name.")).to_be_visible()
    check_looks(tab)

    tab.log_in("alice")
    page.goto("/")
    page.get_by_role("button", name="New item").click()
    page.get_by_role("button", name="Add item").click()
    expect(page.get_by_label("Title")).to_have_attribute("aria-invalid", "true")
    check_looks(tab)

    page.goto(f"/items/{item}")
    tab.is_live()
    tab.comment(" ")
    expect(page.get_by_label("Add a comment")).to_have_attribute("aria-invalid", "true")
    page.get_by_role("button", name="Delete").last.click()
    page.get_by_role("button", name="Edit").first.click()
    check_looks(tab)

    page.goto("/items/999999")
    tab.shows_light("refused")
    check_looks(tab)


def test_the_pages_policy_lets_nothing_in(open_tab):
    tab = open_tab()
    answer = tab.page.request.get("/")

    policy = answer.headers["content-security-policy"]

    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["cache-control"].endswith("private")
    assert "no-store" in answer.headers["cache-control"]
    with pytest.raises(Exception, match="TrustedHTML"):
        tab.page.evaluate("document.body.innerHTML = '<p>'")
    tab.faults.clear()  # that was this test's own


def test_nothing_is_loaded_from_elsewhere(stack, open_tab):
    item = item_of(stack.login("alice"))
    tab = open_tab()
    asked = []
    tab.page.on("request", lambda request: asked.append(request.url))
    tab.log_in("alice")

    tab.page.goto(f"/items/{item}")
    tab.is_live()

    base = stack.url("daphne") + "/"
    assert len(asked) > 10
    assert [url for url in asked if not url.startswith(base)] == []
