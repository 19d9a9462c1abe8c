"""The system's Chromium: where it is, and how it is started."""

import shutil

NAMES = ("chromium", "chromium-browser", "google-chrome")
# It would look for updates and Google's hosts at every start.
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip


def executable() -> str | None:
    """Return the path of a Chromium, if there is one."""
    return next(filter(None, map(shutil.which, NAMES)), None)
