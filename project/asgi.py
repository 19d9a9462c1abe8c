"""The ASGI application: Django's, with streams that outlive their request."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")

import django

django.setup(set_prefix=False)

from streams.response import Handler  # noqa: E402 (needs the apps)

application = Handler()
