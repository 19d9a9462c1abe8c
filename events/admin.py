"""The admin's view of the log and of what it is about: to look at only.

A change made here would be one that no event records; the API's verbs make them.
"""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import Model, QuerySet
from django.http import HttpRequest

from events import broadcasts_admin, ingest  # noqa: F401  (importing the former registers it)
from events.logins import LoginForm
from events.models import ApiKey, Comment, Email, Event, Item, Job

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


@admin.register(Email)
class EmailAdmin(ReadOnlyAdmin):
    """Mails that were claimed, the latest first; one that was not sent is not tried again."""

    list_display = ("correlation_id", "email_type", "user_id", "claimed_at", "sent_at", "error")
    list_filter = ("email_type", ("sent_at", admin.EmptyFieldListFilter))
    search_fields = ("=user_id", "=correlation_id")
    ordering = ("-claimed_at",)


@admin.register(Job)
class JobAdmin(ReadOnlyAdmin):
    """Jobs, newest first."""

    list_display = ("id", "name", "owner_id", "state", "tries", "queued_at", "ended_at")
    list_filter = ("state", "name")
    search_fields = ("=id", "=owner_id")
    ordering = ("-event_id",)


class ApiKeyForm(forms.ModelForm):  # type: ignore[type-arg]  # no generic at run time
    """What a key is for, each pattern checked."""

    def clean(self) -> dict[str, Any]:
        """Refuse what is no pattern."""
        cleaned = super().clean() or {}
        for fault in ingest.pattern_faults(cleaned.get("channels") or [], cleaned.get("types") or []):
            self.add_error(fault.field, fault.message)
        return cleaned


@admin.register(ApiKey)
class ApiKeyAdmin(ReadOnlyAdmin):
    """Keys of other programs: made here, where the secret is shown once, and revoked here for good."""

    form = ApiKeyForm
    list_display = ("name", "beginning", "channels", "types", "created_at", "revoked_at")
    fields = ("name", "beginning", "channels", "types", "created_at", "revoked_at")
    ordering = ("-pk",)
    actions = ("revoke",)

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Let those who may add keys: what a key is for is said then, and never changed."""
        return request.user.has_perm("events.add_apikey")

    def has_revoke_permission(self, request: HttpRequest) -> bool:
        """Let those who may delete keys; the row stays, to say what the key was."""
        return request.user.has_perm("events.delete_apikey")

    def get_fields(self, request: HttpRequest, obj: Model | None = None) -> tuple[str, ...]:
        """Ask a new key for what it is for only."""
        return self.fields if obj else ("name", "channels", "types")

    def save_model(self, request: HttpRequest, obj: ApiKey, form: Any, change: bool) -> None:
        """Make the key, and show its secret: now or never."""
        made, secret = ingest.make_key(name=obj.name, channels=obj.channels, types=obj.types)
        obj.pk = made.pk
        obj.beginning, obj.digest = made.beginning, made.digest
        messages.warning(request, f"The key, shown only this once: {secret}")

    @admin.action(permissions=["revoke"], description="Revoke…")
    def revoke(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        """Revoke those chosen in the list."""
        for key in queryset.filter(revoked_at=None):
            ingest.revoke_key(key)
            self.log_change(request, key, "Revoked.")
        messages.success(request, "Revoked: they open nothing any more.")
