"""Reactions: what follows from an event. Celery; the only place that retries."""
