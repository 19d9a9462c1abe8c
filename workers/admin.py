"""The admin's view of reactions that failed: what, to which event, why, when next; retry and drop.

Both ask first, for one or for many, and say what they did in the admin's own history.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.models import CHANGE, DELETION, LogEntry
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.text import Truncator

from events.admin import ReadOnlyAdmin
from workers import parked
from workers.models import Delivery
from workers.parked import Outcome

ERROR_SHOWN = 100  # characters of an error in the list; its page shows all


@dataclass(frozen=True, slots=True)
class Step:
    """What a person can do about a failed reaction."""

    name: str
    permission: str
    work: Callable[[Iterable[int]], Outcome]
    flag: int
    title: str
    consequence: str
    done: str


RETRY = Step(
    "retry",
    "change",
    parked.retry,
    CHANGE,
    "Retry reactions",
    "They run as soon as a worker is free, in the order of their events. New events of the same subjects wait"
    " for them; events that were reacted to since they were parked are not reacted to again.",
    "Told to run again.",
)
DROP = Step(
    "drop",
    "delete",
    parked.drop,
    DELETION,
    "Drop reactions",
    "What they would have done is not done, now or later. The events themselves stay in the log.",
    "Dropped.",
)


class ParkedFilter(admin.SimpleListFilter):
    """Parked, or waiting for another try."""

    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Name the two."""
        return [("parked", "Parked"), ("waiting", "Waiting")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Delivery]) -> QuerySet[Delivery]:
        """Choose by whether they gave up."""
        if self.value() not in ("parked", "waiting"):
            return queryset
        return queryset.filter(parked_at__isnull=self.value() == "waiting")


@admin.register(Delivery)
class DeliveryAdmin(ReadOnlyAdmin):
    """Reactions that failed or wait behind one that did; the parked ones first."""

    list_display = ("position", "subject", "state", "why", "tries", "next_try", "reaction")
    list_filter = (ParkedFilter, "reaction")
    search_fields = ("=position", "=subject", "reaction")
    search_help_text = "A position, a subject such as item:42, or part of a reaction's name"
    ordering = ("parked_at", "position")
    actions = ("retry", "drop")
    change_form_template = "admin/workers/delivery/change_form.html"

    @admin.display(ordering="parked_at")
    def state(self, delivery: Delivery) -> str:
        """Say whether it gave up."""
        return "waiting" if delivery.parked_at is None else "parked"

    @admin.display(description="error")
    def why(self, delivery: Delivery) -> str:
        """Return the beginning of the last error."""
        return Truncator(delivery.error).chars(ERROR_SHOWN) or "waits behind an earlier one"

    @admin.display(ordering="due_at", empty_value="never")
    def next_try(self, delivery: Delivery) -> Any:
        """Return when it is tried again, if it is."""
        return delivery.due_at if delivery.parked_at is None else None

    # --- Who may ------------------------------------------------------------------------------

    def has_retry_permission(self, request: HttpRequest) -> bool:
        """Let those who may change deliveries."""
        return request.user.has_perm("workers.change_delivery")

    def has_drop_permission(self, request: HttpRequest) -> bool:
        """Let those who may delete deliveries."""
        return request.user.has_perm("workers.delete_delivery")

    # --- What they can do -----------------------------------------------------------------------

    @admin.action(permissions=["retry"], description="Retry…")
    def retry(self, request: HttpRequest, queryset: QuerySet[Delivery]) -> HttpResponse | None:
        """Retry those chosen in the list."""
        return self._ask_or_do(request, RETRY, queryset)

    @admin.action(permissions=["drop"], description="Drop…")
    def drop(self, request: HttpRequest, queryset: QuerySet[Delivery]) -> HttpResponse | None:
        """Drop those chosen in the list."""
        return self._ask_or_do(request, DROP, queryset)

    def get_urls(self) -> list[URLPattern]:
        """Add a page for each button."""
        view = self.admin_site.admin_view
        own = [
            path(
                f"<path:object_id>/{step.name}/", view(self._page(step)), name=f"workers_delivery_{step.name}"
            )
            for step in (RETRY, DROP)
        ]
        return [*own, *super().get_urls()]

    def _page(self, step: Step) -> Callable[..., HttpResponse]:
        def page(request: HttpRequest, object_id: str) -> HttpResponse:
            if not self.has_view_permission(request):
                raise PermissionDenied
            chosen = self.get_object(request, unquote(object_id))
            if chosen is None:
                messages.info(request, "That reaction is no longer there: it was done, or dropped.")
                return self._back()
            return self._ask_or_do(request, step, Delivery.objects.filter(pk=chosen.pk)) or self._back()

        return page

    def _back(self) -> HttpResponse:
        return HttpResponseRedirect(reverse("admin:workers_delivery_changelist"))

    def _ask_or_do(self, request: HttpRequest, step: Step, chosen: QuerySet[Delivery]) -> HttpResponse | None:
        """Ask whether they are sure; once they said so, do it and say what came of it."""
        if not request.user.has_perm(f"workers.{step.permission}_delivery"):
            raise PermissionDenied
        if request.method == "POST" and request.POST.get("sure"):
            self._do(request, step, [row.pk for row in chosen])
            return None
        context = {
            **self.admin_site.each_context(request),
            "title": step.title,
            "opts": self.model._meta,
            "step": step,
            "chosen": chosen.order_by("position"),
            "action_checkbox_name": ACTION_CHECKBOX_NAME,
            "from_list": "action" in request.POST,
        }
        return TemplateResponse(request, "admin/workers/delivery/confirm.html", context)

    def _do(self, request: HttpRequest, step: Step, ids: list[int]) -> None:
        outcome = step.work(ids)
        if outcome.done:
            LogEntry.objects.log_actions(request.user.pk, outcome.done, step.flag, step.done)  # type: ignore[arg-type]
            messages.success(request, f"{step.done} {len(outcome.done)} of {len(ids)}.")
        if outcome.busy:
            messages.warning(
                request, f"{outcome.busy} left alone: a worker is trying them right now, or they are gone."
            )
