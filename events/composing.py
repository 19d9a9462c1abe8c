"""The composer's form: what an admin types, as a draft, and what is wrong with that beside the field.

Times are of the zone that the form names. What the rules are, `events.drafts` and `events.audiences`
say; here their fields' names become the form's.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

from django import forms
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.utils import timezone

from events import audiences, drafts, preferences
from events.broadcasts import draft_of
from events.channels import SYSTEM, item_channel, user_channel
from events.drafts import Draft
from events.errors import FieldError, Invalid
from events.models import Broadcast

TO_THE_MINUTE = "%Y-%m-%dT%H:%M"  # as <input type="datetime-local"> has it
LOCAL = f"{TO_THE_MINUTE}:%S"
ONCE_BEGUN = ("to", "groups", "users", "item", "starts_at")  # is said, and cannot be changed any more


class LocalMoment(forms.DateTimeField):
    """A moment, in the zone that is current while the form is cleaned or shown."""

    widget = forms.DateTimeInput(attrs={"type": "datetime-local"})
    input_formats = (LOCAL, TO_THE_MINUTE)

    def prepare_value(self, value: Any) -> Any:
        """Return a moment as the browser has it; with its seconds only where there are some."""
        value = super().prepare_value(value)
        if isinstance(value, datetime):
            return value.strftime(LOCAL if value.second else TO_THE_MINUTE)
        return value


class ComposeForm(forms.Form):
    """What to say, to whom, and when."""

    severity = forms.ChoiceField(
        choices=[("info", "Info"), ("warning", "Warning"), ("critical", "Critical")],
        widget=forms.RadioSelect,
        initial="info",
        help_text="Critical is shown whatever people chose, in quiet hours too.",
    )
    title = forms.CharField(required=False, strip=False, help_text="May be left out.")
    message = forms.CharField(required=False, strip=False, widget=forms.Textarea(attrs={"rows": 4}))
    link = forms.CharField(required=False, help_text="https://… to read more; may be left out.")
    to = forms.ChoiceField(
        label="For",
        choices=[
            ("all", "Everyone"),
            ("groups", "Groups"),
            ("users", "Users"),
            ("item", "An item's watchers"),
        ],
        widget=forms.RadioSelect,
        required=False,
    )
    groups = forms.ModelMultipleChoiceField(
        Group.objects.order_by("name"), required=False, widget=forms.CheckboxSelectMultiple
    )
    users = forms.CharField(
        required=False, widget=forms.Textarea(attrs={"rows": 2}), help_text="User names, with commas between."
    )
    item = forms.IntegerField(required=False, min_value=1, label="Item", help_text="Its number.")
    starts_at = LocalMoment(required=False, label="Starts", help_text="Empty is at once.")
    expires_at = LocalMoment(required=False, label="Expires", help_text="Empty is when it is recalled.")
    time_zone = forms.ChoiceField(help_text="Of the times above.")
    broadcast_id = forms.UUIDField(widget=forms.HiddenInput, initial=uuid4)

    def __init__(self, data: Any = None, *, zone: str, broadcast: Broadcast | None = None) -> None:
        self.before = None if broadcast is None else draft_of(broadcast)
        self.begun = broadcast is not None and broadcast.alert_id is not None
        self._zone = data.get("time_zone", zone) if data else zone
        first = (
            {"time_zone": zone} if broadcast is None else {"time_zone": zone, **_typed(draft_of(broadcast))}
        )
        super().__init__(data, initial=first)
        zones: Any = self.fields["time_zone"]
        zones.choices = [(name, name) for name in sorted(preferences.zones())]
        if not Group.objects.exists():
            self.fields["groups"].help_text = "There is no group yet."
        for name in ONCE_BEGUN if self.begun else ():
            self.fields[name].disabled = True

    def full_clean(self) -> None:
        """Clean all, with the times in the zone that was chosen."""
        with timezone.override(_zone(self._zone)):
            super().full_clean()

    def local(self) -> timezone.override:
        """Return the context in which the form's times are to be shown."""
        return timezone.override(_zone(self._zone))

    def clean(self) -> dict[str, Any]:
        """Make the draft, and say beside each field what is wrong with it."""
        cleaned = super().clean() or {}
        if not self.errors:
            self.draft = self._draft(cleaned)
            if not self.errors:
                try:
                    drafts.check(self.draft, self.before)
                except Invalid as error:
                    self.refuse(error.errors)
        return cleaned

    def refuse(self, faults: Any) -> None:
        """Show what a verb has against the draft, beside the fields."""
        for fault in faults:
            field, message = _placed(fault)
            if fault.field == "audience":  # there is none: beside what was to hold it
                field = self.cleaned_data.get("to", "all").replace("all", "") or "to"
            self.add_error(field, message)

    def audience(self) -> tuple[str, ...]:
        """Return the audience as it was typed, whatever else is missing; raise Invalid."""
        self.errors  # noqa: B018  (cleans)
        found = self._audience(self.cleaned_data)
        if faults := [*audiences.faults(found)]:
            raise Invalid(errors=tuple(FieldError(*_placed(fault)) for fault in faults))
        return found

    def _draft(self, cleaned: Mapping[str, Any]) -> Draft:
        typed = Draft(
            message=cleaned["message"].replace("\r\n", "\n"),  # as browsers send line ends
            title=cleaned["title"],
            severity=cleaned["severity"],
            link=cleaned["link"] or None,
            audience=tuple(sorted(self._audience(cleaned))),
            starts_at=cleaned["starts_at"],
            expires_at=cleaned["expires_at"],
        )
        if self.begun and self.before:
            return replace(typed, audience=self.before.audience, starts_at=self.before.starts_at)
        return typed

    def _audience(self, cleaned: Mapping[str, Any]) -> tuple[str, ...]:
        match cleaned.get("to"):
            case "all":
                return (SYSTEM,)
            case "groups":
                return tuple(f"group:{group.name}" for group in cleaned.get("groups", ()))
            case "users":
                return self._users(cleaned.get("users", ""))
            case "item" if cleaned.get("item"):
                return (item_channel(cleaned["item"]),)
        return ()

    def _users(self, text: str) -> tuple[str, ...]:
        names = list(dict.fromkeys(filter(None, (name.strip() for name in re.split(r"[,\n]", text)))))
        users = get_user_model()._default_manager.filter(username__in=names, is_active=True)
        there = dict(users.values_list("username", "pk"))
        if unknown := [name for name in names if name not in there]:
            self.add_error("users", f"There is no active user {', '.join(unknown)}.")
        return tuple(user_channel(there[name]) for name in names if name in there)


def _zone(name: str) -> ZoneInfo:
    # What is none is refused as a choice; until then the times need some zone.
    return ZoneInfo(name if name in preferences.zones() else "UTC")


def _placed(fault: FieldError) -> tuple[str, str]:
    """Return a fault with the form's field that it is about, as a sentence."""
    message = f"{fault.message[:1].upper()}{fault.message[1:]}."
    part = re.match(r"audience(?:\.(groups|users|item))?", fault.field)
    if part is None:
        return fault.field, message
    return (part[1], message) if part[1] else ("to", "Say whom it is for.")


def _typed(draft: Draft) -> dict[str, Any]:
    """Return a draft as the form's fields would have it."""
    described = audiences.described(draft.audience)
    [to] = described
    users = get_user_model()._default_manager.filter(pk__in=described.get("users", ()))
    return {
        "severity": draft.severity,
        "title": draft.title,
        "message": draft.message,
        "link": draft.link or "",
        "to": to,
        "groups": [group.pk for group in Group.objects.filter(name__in=described.get("groups", ()))],
        "users": ", ".join(users.order_by("username").values_list("username", flat=True)),
        "item": described.get("item"),
        "starts_at": draft.starts_at,
        "expires_at": draft.expires_at,
    }
