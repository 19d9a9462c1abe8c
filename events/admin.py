"""The admin's view of the log and of what it is about: to look at only.

A change made here would be one that no event records; the API's verbs make them.
"""

from django.contrib import admin
from django.db.models import Model
from django.http import HttpRequest

from events.logins import LoginForm
from events.models import Comment, Event, Item

admin.site.login_form = LoginForm


class ReadOnlyAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # no generic at run time
    """Shows rows to staff with the permission to view them; adds, changes and deletes none."""

    show_full_result_count = False  # the log is long, and counting it all reads it all

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Refuse."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Refuse."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Refuse."""
        return False


@admin.register(Event)
class EventAdmin(ReadOnlyAdmin):
    """The log, newest first."""

    list_display = ("id", "position", "type", "channels", "actor_id", "parked", "created_at")
    list_filter = (("parked", admin.EmptyFieldListFilter), "created_at")
    search_fields = ("=type", "=id", "=position")
    search_help_text = "An event type, id or position"
    ordering = ("-id",)


@admin.register(Item)
class ItemAdmin(ReadOnlyAdmin):
    """Items, newest first."""

    list_display = ("id", "title", "owner", "visibility", "created_at")
    list_select_related = ("owner",)
    list_filter = ("visibility",)
    search_fields = ("title",)
    ordering = ("-id",)


@admin.register(Comment)
class CommentAdmin(ReadOnlyAdmin):
    """Comments, newest first."""

    list_display = ("id", "item_id", "author_name", "created_at", "edited_at")
    search_fields = ("=item__id", "author_name")
    ordering = ("-event_id",)
