"""The page, in a real Chromium. A package, so that its fixtures end with its last test."""
