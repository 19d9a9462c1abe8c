"""What a screenshot would show, as far as it can be counted: contrast, width, names, bars, policy."""

import pytest
from playwright.sync_api import expect

from tests import npm
from tests.browser import axe
from tests.browser.states import LONG_WORD, STATES, World
from tests.browser.tab import Tab
from tests.stack import eventually
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


def faults_of(tab: Tab) -> list[object]:
    """Return what is hard to read, what sticks out at the side, what has no name, what axe-core finds."""
    contrasts = tab.page.evaluate(CONTRASTS)
    assert contrasts
    beyond = tab.page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    return [
        *(found for found in contrasts if found[0] < LEAST_CONTRAST),
        *([f"{beyond} px too wide"] if beyond > 0 else []),
        *tab.page.evaluate(NAMELESS),
        *axe.grave_faults(tab),
    ]


@pytest.fixture(scope="module")
def world(stack) -> World:
    """Make what there is to be shown once for all sizes and colours."""
    return World(stack)


@pytest.mark.timeout(400)  # it is many states, and a page each, on machines that may be busy
@pytest.mark.parametrize("width", [320, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_state_can_be_read_on_a_phone_and_on_a_desk(world, open_tab, scheme, width):
    tab = open_tab(color_scheme=scheme, viewport={"width": width, "height": 640})
    for name, reach in STATES.items():
        reach(tab, world)
        assert faults_of(tab) == [], name


def edges(tab: Tab, selector: str) -> dict[str, float]:
    """Return where something stands in the window."""
    return tab.page.locator(selector).first.evaluate("each => each.getBoundingClientRect().toJSON()")


def test_on_a_phone_nothing_stands_in_the_way_of_anything(stack, world, open_tab):
    """The bell's count is beside the user's mark; a toast above an item's title, scrolled or not."""
    admin, item = stack.login("admin"), item_of(world.alice, title=f"{LONG_WORD} and more")
    for number in range(12):
        comment(world.alice, item, f"Comment {number}")
    tab = open_tab("alice", f"/items/{item}", viewport={"width": 360, "height": 640})
    tab.is_live()
    expect(tab.bell.locator(".badge")).to_be_visible()
    assert edges(tab, ".bell .badge")["right"] + 12 <= edges(tab, ".bar__user")["left"]
    assert edges(tab, ".bar__user-area")["right"] <= 360

    said = {"title": "Maintenance", "message": "Back at noon", "audience": {"all": True}}
    sent = admin.post("/api/broadcasts", json=said).json()["id"]
    try:
        expect(tab.page.locator(".toast")).to_be_visible()
        for wheel in (0, 5_000, -5_000):
            tab.page.mouse.move(180, 400)
            tab.page.mouse.wheel(0, wheel)
            eventually(
                lambda: 0 <= edges(tab, ".toast")["top"] < edges(tab, ".toast")["bottom"]
                <= edges(tab, ".item__title")["top"] < 500, every=0.1,
            )  # fmt: skip
            assert faults_of(tab) == []
        tab.page.get_by_role("button", name="Dismiss").click()
        expect(tab.page.locator(".toast")).to_have_count(0)
        assert edges(tab, "#toasts")["height"] == 0
    finally:
        admin.delete(f"/api/broadcasts/{sent}")


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


def test_what_bars_people_is_found(open_tab):
    if npm.packages() is None:
        pytest.skip(f"axe-core is not here, for want of {npm.HOW_TO_GET_IT}")
    tab = open_tab()

    tab.page.evaluate("document.querySelector('main').append(document.createElement('select'))")

    [found] = axe.grave_faults(tab)
    assert found.startswith("select-name: ")
