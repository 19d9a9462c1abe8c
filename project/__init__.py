"""Wiring: settings, the URL map, the server entry and the Celery app."""

from project.celery import app as celery_app

__all__ = ["celery_app"]
