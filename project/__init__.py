"""Wiring: settings, the URL map, the server entry and the Celery app."""
