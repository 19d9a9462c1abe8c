"""The Celery app: every task of the installed apps, on the broker of the settings."""

from typing import Any

from celery import Celery
from celery.signals import worker_init

from project.startup import settings_or_exit, settle
from workers import broker, clock

settings_or_exit()

app = Celery("tickertape")
broker.install(app)
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
clock.install(app)


@worker_init.connect  # type: ignore[untyped-decorator]
def _settle(**kwargs: Any) -> None:
    settle()  # before the children are forked: they share what nobody walks
