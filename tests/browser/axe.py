"""What bars people from a page, as axe-core finds it; without npm it finds nothing."""

from tests import npm
from tests.browser.tab import Tab

GRAVE = ("serious", "critical")

RUN = """async () => {
  const { violations } = await axe.run(document, { resultTypes: ["violations"] });
  return violations.map(({ impact, id, help, nodes }) =>
    [impact, `${id}: ${help}: ${nodes.map((node) => node.target).join(" | ")}`]);
}"""


def grave_faults(tab: Tab) -> list[str]:
    """Return what axe-core calls serious or critical in the page as it is now."""
    packages = npm.packages()
    if packages is None:
        return []
    if not tab.page.evaluate("'axe' in window"):
        tab.page.evaluate((packages / "axe-core" / "axe.min.js").read_text())
    return [words for impact, words in tab.page.evaluate(RUN) if impact in GRAVE]
