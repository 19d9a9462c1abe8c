"""For templates of events."""

from datetime import UTC, datetime

from django import template

register = template.Library()


@register.filter
def moment(seconds: float) -> datetime:
    """Return the time that an event gives in Unix seconds, for `date` to show."""
    return datetime.fromtimestamp(seconds, UTC)
