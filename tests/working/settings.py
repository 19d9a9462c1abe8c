"""The project's settings with one more app, and a lease that lapses soon."""

import os

from project.settings import *  # noqa: F403
from project.settings import CELERY_BROKER_TRANSPORT_OPTIONS as OURS
from project.settings import INSTALLED_APPS as APPS
from project.settings import LOGGING as LOG

INSTALLED_APPS = [*APPS, "tests.working"]
LOGGING = {**LOG, "loggers": {**LOG["loggers"], "workers": {"level": "INFO"}}}

if "TEST_VISIBILITY_SECONDS" in os.environ:
    CELERY_BROKER_TRANSPORT_OPTIONS = {
        **OURS,
        "visibility_timeout": float(os.environ["TEST_VISIBILITY_SECONDS"]),
    }
