"""An item's comments with htmx and nothing else: rendered here, kept up to date by its stream as HTML."""

from typing import Any
from uuid import uuid4

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from events import comments, items, log
from events.channels import item_channel
from events.errors import Invalid, TickertapeError
from events.http import problem
from events.idempotency import KeyReused, once_done
from events.models import Comment
from project.headers import OUR_FILES


@require_http_methods(["GET", "HEAD", "POST"])
@never_cache
def item(request: HttpRequest, item_id: int) -> HttpResponse:
    """Show an item; a POST of the form on it comments, and answers with the form anew."""
    if not request.user.is_authenticated:  # "page" is where one logs in
        if "HX-Request" in request.headers:  # would follow a redirection, and put that page into its part
            return HttpResponse(status=204, headers={"HX-Redirect": reverse("page")})
        return redirect("page")
    try:
        shown = items.get_item(request.user, item_id)
        if request.method == "POST":
            return _comment(request, item_id)
    except TickertapeError as error:
        return problem(error)
    listed, cursor = log.snapshot([item_channel(item_id)], lambda: list(_comments(item_id)))
    context = {"item": shown, "comments": listed, "cursor": str(cursor), "key": uuid4().hex}
    response = render(request, "project/htmx.html", context)
    # Not the page's policy: htmx parses HTML, which Trusted Types without a policy forbid.
    response["Content-Security-Policy"] = OUR_FILES
    return response


def _comments(item_id: int) -> Any:
    """Yield comments as their events have them, for the same template."""
    for row in Comment.objects.filter(item_id=item_id).order_by("event_id"):
        yield {
            "comment_id": str(row.pk),
            "author_name": row.author_name,
            "text": row.text,
            "timestamp": row.created_at.timestamp(),
        }


def _comment(request: HttpRequest, item_id: int) -> HttpResponse:
    # A form's line ends are CR LF (WHATWG HTML, 4.10.22.4); what was typed are LF.
    text, refused, fault = request.POST.get("text", "").replace("\r\n", "\n"), "", ""
    try:
        once_done(request, lambda: _add(request, item_id, text))
        text = ""
    except KeyReused:  # the answer to another text did not come
        fault = "What was sent before was added already. If this is to be added as well, send it again."
    except Invalid as error:
        refused = error.errors[0].message if error.errors else error.detail
    # 200 also where it was refused: htmx shows no other answer. The next comment has a key of its own.
    form = {"item_id": item_id, "text": text, "refused": refused, "fault": fault, "key": uuid4().hex}
    return render(request, "project/htmx_form.html", form)


def _add(request: HttpRequest, item_id: int, text: str) -> None:
    comments.add_comment(request.user, item_id, text=text)  # type: ignore[arg-type]  # logged in
