"""The project's settings, with the twin of the write path beside the service."""

from project.settings import *  # noqa: F403

ROOT_URLCONF = "bench.bare"
