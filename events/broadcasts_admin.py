"""Broadcasts in Django's admin: compose with a preview, review, send; the list, edits, recall, history.

Whatever is done here the verbs of `events.broadcasts` do, so it is in the log with who did it. Times
are in the admin's own zone: of their preferences, or else of their browser.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from django.contrib import admin, messages
from django.contrib.admin.views.main import ChangeList
from django.contrib.auth import get_user_model
from django.core.exceptions import PermissionDenied
from django.db.models import Model, Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.dateformat import format as date_format
from django.utils.text import Truncator
from django.views.decorators.http import require_POST

from events import audiences, broadcasts, edge, marks, preferences
from events.channels import SYSTEM
from events.composing import ComposeForm
from events.drafts import Draft
from events.errors import Invalid, TickertapeError
from events.models import Broadcast
from events.told import told

ZONE_COOKIE = "tickertape_zone"  # what the browser says of itself, set by composer.js
WORDS_SHOWN = 70  # characters of a broadcast in the list
NAMED = 5  # users of an audience; the others are counted


class StateFilter(admin.SimpleListFilter):
    """Where in its life a broadcast is."""

    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Name the four."""
        return [(name, name.capitalize()) for name in ("scheduled", "live", "expired", "recalled")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Broadcast]) -> QuerySet[Broadcast]:
        """Choose by the columns that make the state."""
        going = Q(recalled_at=None) & (Q(expires_at=None) | Q(expires_at__gt=timezone.now()))
        match self.value():
            case "scheduled":
                return queryset.filter(going, alert_id=None)
            case "live":
                return queryset.filter(going, alert_id__isnull=False)
            case "expired":
                return queryset.filter(recalled_at=None, expires_at__lte=timezone.now())
            case "recalled":
                return queryset.filter(recalled_at__isnull=False)
        return queryset


@admin.register(Broadcast)
class BroadcastAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # no generic at run time
    """Broadcasts, the newest first, for those who may send them; others of the staff may be let look on."""

    list_display = ("what", "state", "severity", "delivered", "dismissed", "whom", "starts", "expires")
    list_filter = (StateFilter, "severity")
    search_fields = ("title", "message")
    ordering = ("-event_id",)
    actions = None
    change_list_template = "admin/events/broadcast/list.html"

    class Media:
        """What makes the preview live, and tells the server the browser's time zone."""

        css = {"all": ("events/toast.css", "events/composer.css")}  # noqa: RUF012  (Django reads it)
        js = ("events/composer.js",)

    # --- Who may ------------------------------------------------------------------------------

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Let those look who may broadcast, or may look at broadcasts."""
        return broadcasts.may_broadcast(request.user) or request.user.has_perm("events.view_broadcast")  # type: ignore[arg-type]

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Let those compose who may broadcast."""
        return broadcasts.may_broadcast(request.user)  # type: ignore[arg-type]

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Let those change what is not over who may broadcast."""
        over = isinstance(obj, Broadcast) and broadcasts.state(obj) in ("expired", "recalled")
        return self.has_add_permission(request) and not over

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Refuse: it is recalled, which everyone hears of."""
        return False

    # --- The list -----------------------------------------------------------------------------

    @admin.display(description="broadcast")
    def what(self, broadcast: Broadcast) -> str:
        """Return its title, or how it begins."""
        return Truncator(broadcast.title or broadcast.message).chars(WORDS_SHOWN)

    @admin.display(description="state")
    def state(self, broadcast: Broadcast) -> str:
        """Say where in its life it is."""
        return broadcasts.state(broadcast)

    @admin.display(description="for")
    def whom(self, broadcast: Broadcast) -> str:
        """Say whom it is for."""
        return str(getattr(broadcast, "whom_in_words", ""))

    @admin.display(ordering="starts_at")
    def starts(self, broadcast: Broadcast) -> str:
        """Say when it starts, or did."""
        return short(broadcast.starts_at)

    @admin.display(ordering="expires_at", empty_value="–")
    def expires(self, broadcast: Broadcast) -> str | None:
        """Say when it expires, if it does by itself."""
        return short(broadcast.expires_at) if broadcast.expires_at else None

    @admin.display(empty_value="unknown")
    def delivered(self, broadcast: Broadcast) -> int | None:
        """Say to how many connections it was handed, at least."""
        return getattr(broadcast, "delivered_to", None)

    @admin.display
    def dismissed(self, broadcast: Broadcast) -> int:
        """Say how many dismissed it."""
        return getattr(broadcast, "dismissed_by", 0)

    def get_changelist_instance(self, request: HttpRequest) -> ChangeList:
        """Look up for a whole page of the list what is not in its rows."""
        found = super().get_changelist_instance(request)
        count(list(found.result_list))
        return found

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show the list, with times in the admin's zone."""
        zone = zone_of(request)
        with timezone.override(ZoneInfo(zone)):
            context = {"title": "Broadcasts", "zone": zone, **(extra_context or {})}
            return rendered(super().changelist_view(request, context))

    # --- Composing ------------------------------------------------------------------------------

    def get_urls(self) -> list[URLPattern]:
        """Add the pages of a broadcast that Django has none for."""
        view = self.admin_site.admin_view
        own = [
            path("estimate/", view(require_POST(self.estimate)), name="events_broadcast_estimate"),
            path("<uuid:broadcast_id>/recall/", view(self.recall_view), name="events_broadcast_recall"),
        ]
        return [*own, *super().get_urls()]

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Compose; then review; then send."""
        if not self.has_add_permission(request):
            raise PermissionDenied
        form = ComposeForm(request.POST or None, zone=zone_of(request))
        if not form.is_bound or not form.is_valid() or "_back" in request.POST:
            return self._show(request, "compose", form=form, title="Compose a broadcast")
        if "_send" not in request.POST:
            return self._review(request, form)
        send = partial(broadcasts.send, broadcast_id=form.cleaned_data["broadcast_id"])
        sent = self._try(form, lambda: send(request.user, form.draft))  # type: ignore[arg-type]
        if sent is None:
            return self._show(request, "compose", form=form, title="Compose a broadcast")
        messages.success(request, "Sent." if broadcasts.state(sent) == "live" else "Scheduled.")
        return HttpResponseRedirect(reverse("admin:events_broadcast_change", args=[sent.pk]))

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """Show one, with its figures; to be changed, where it is not over."""
        broadcast = self._get(request, object_id)
        if not self.has_change_permission(request, broadcast):
            return self._show(request, "compose", broadcast=broadcast, form=None, title=self.what(broadcast))
        form = ComposeForm(request.POST or None, zone=zone_of(request), broadcast=broadcast)
        if form.is_bound and form.is_valid():
            changes = {name: getattr(form.draft, name) for name in Draft.__dataclass_fields__}
            change = partial(broadcasts.change, request.user, broadcast.pk, **changes)  # type: ignore[arg-type]
            if self._try(form, change) is not None:
                messages.success(request, "Changed.")
                return HttpResponseRedirect(request.path)
        return self._show(request, "compose", broadcast=broadcast, form=form, title=self.what(broadcast))

    def recall_view(self, request: HttpRequest, broadcast_id: UUID) -> HttpResponse:
        """Ask whether to take one back, and do."""
        broadcast = self._get(request, str(broadcast_id))
        if not self.has_change_permission(request, broadcast):
            raise PermissionDenied
        if request.method == "POST":
            broadcasts.recall(request.user, broadcast.pk)  # type: ignore[arg-type]
            messages.success(request, "Recalled.")
            return HttpResponseRedirect(reverse("admin:events_broadcast_change", args=[broadcast.pk]))
        return self._show(request, "recall", broadcast=broadcast, title="Recall this broadcast?")

    def history_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show what the log says of one."""
        broadcast = self._get(request, object_id)
        steps = told(broadcasts.history(broadcast))
        return self._show(
            request, "history", broadcast=broadcast, steps=steps, title=f"History: {self.what(broadcast)}"
        )

    def estimate(self, request: HttpRequest) -> HttpResponse:
        """Answer how many would get what is being composed."""
        if not self.has_add_permission(request):
            raise PermissionDenied
        try:
            audience = ComposeForm(request.POST, zone="UTC").audience()
        except Invalid:
            return JsonResponse({"words": ""})
        return JsonResponse({"words": str(audiences.estimate(audience))})

    def _review(self, request: HttpRequest, form: ComposeForm) -> HttpResponse:
        return self._show(
            request,
            "review",
            form=form,
            said=form.draft,
            whom=in_words(form.draft.audience, names_of(named(form.draft.audience))),
            everyone=SYSTEM in form.draft.audience,
            figures=audiences.estimate(form.draft.audience),
            title="Review, then send",
            zone=form.cleaned_data["time_zone"],
        )

    def _try(self, form: ComposeForm, verb: Callable[[], Broadcast]) -> Broadcast | None:
        """Do what the form asks for; None where it was refused, which the form then says."""
        try:
            return verb()
        except Invalid as error:
            form.refuse(error.errors)
        except TickertapeError as error:
            form.add_error(None, error.detail)
        return None

    def _get(self, request: HttpRequest, object_id: str) -> Broadcast:
        if not self.has_view_permission(request):
            raise PermissionDenied
        broadcast = self.get_object(request, object_id)
        if not isinstance(broadcast, Broadcast):
            raise Http404
        return broadcast

    def _show(self, request: HttpRequest, page: str, **context: Any) -> HttpResponse:
        """Answer with one of the pages, its times in the admin's zone."""
        broadcast, zone = context.get("broadcast"), context.setdefault("zone", zone_of(request))
        if broadcast is not None:
            count([broadcast])
            context["state"] = broadcasts.state(broadcast)
            context["whom"] = broadcast.whom_in_words
            context["figures"] = audiences.estimate(broadcast.audience)
            context["inside"] = page != "compose"  # of a page that is about the broadcast's own
            context["may_change"] = self.has_change_permission(request, broadcast)
        if form := context.get("form"):
            typed = {name: form[name].value() or "" for name in ("severity", "title", "message", "link")}
            safe = typed["link"].startswith(("https://", "http://"))  # it may be refused just now
            context["typed"] = {**typed, "link": typed["link"] if safe else ""}
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "media": self.media,
            "said": broadcast,
            **context,
        }
        template = f"admin/events/broadcast/{page}.html"
        with timezone.override(ZoneInfo(zone)):
            return rendered(TemplateResponse(request, template, context))


def rendered(response: HttpResponse) -> HttpResponse:
    """Return a response whose page is made now, in the zone that is current."""
    if isinstance(response, TemplateResponse):
        response.render()
    return response


def zone_of(request: HttpRequest) -> str:
    """Return the name of an admin's time zone."""
    user_id = request.user.pk or 0
    chosen = preferences.of([user_id])[user_id].time_zone
    given = request.COOKIES.get(ZONE_COOKIE, "") if chosen == "UTC" else chosen
    return given if given in preferences.zones() else "UTC"


def named(audience: Sequence[str]) -> list[int]:
    """Return the users of an audience who are named where it is put into words: a few."""
    return [int(user_id) for user_id in audiences.described(audience).get("users", ())[:NAMED]]


def in_words(audience: Sequence[str], names: Mapping[int, str]) -> str:
    """Say whom an audience means, with the names of those that `named` returns."""
    described = audiences.described(audience)
    if groups := described.get("groups"):
        return ("group " if len(groups) == 1 else "groups ") + ", ".join(groups)
    if users := described.get("users"):
        more = len(users) - NAMED
        return ", ".join(names[pk] for pk in named(audience)) + (f" and {more} more" if more > 0 else "")
    return f"watchers of item {described['item']}" if "item" in described else "everyone"


def short(moment: datetime) -> str:
    """Return a moment of the current zone in few characters."""
    local = timezone.localtime(moment)
    return date_format(local, "j M, H:i" if local.year == timezone.localtime().year else "j M Y, H:i")


def names_of(user_ids: Iterable[int]) -> Mapping[int, str]:
    """Return the names of users, by one query; of who is gone, the number."""
    wanted = set(user_ids)
    found = get_user_model()._default_manager.in_bulk(wanted) if wanted else {}
    return {pk: found[pk].get_username() if pk in found else f"user {pk}" for pk in wanted}


def count(rows: list[Any]) -> None:
    """Note on broadcasts what is counted of them, and the names of their authors and audiences."""
    ids = [row.pk for row in rows]
    delivered, dismissed = edge.delivered(ids) or {}, marks.dismissals(ids)
    names = names_of(pk for row in rows for pk in (row.author_id, *named(row.audience)))
    for row in rows:
        row.delivered_to = delivered.get(row.pk)
        row.dismissed_by = dismissed[row.pk]
        row.author_name = names[row.author_id]
        row.whom_in_words = in_words(row.audience, names)
