"""The Celery app: every task of the installed apps, on the broker of the settings."""

from celery import Celery

from project.startup import settings_or_exit
from workers import broker, clock

settings_or_exit()

app = Celery("tickertape")
broker.install(app)
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
clock.install(app)
