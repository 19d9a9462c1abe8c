"""The Celery app: every task of the installed apps, on the broker of the settings."""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")

app = Celery("tickertape")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
