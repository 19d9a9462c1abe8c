"""The page and our clients, in a real Chromium. A package, so that its fixtures end with its last test."""

import pytest

# Not all of them: what tells the servers apart is held outside the browser, where it takes less time.
on_both = pytest.mark.parametrize("server", ["daphne", "uvicorn"], indirect=True)
