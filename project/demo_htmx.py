"""An item's comments with htmx and nothing else: rendered here, kept up to date by its stream as HTML."""

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from events import comments, items, log
from events.channels import item_channel
from events.errors import Invalid, TickertapeError
from events.http import problem
from events.models import Comment
from project.headers import OUR_FILES


@require_http_methods(["GET", "HEAD", "POST"])
@never_cache
def item(request: HttpRequest, item_id: int) -> HttpResponse:
    """Show an item; a POST of the form on it comments, and answers with the form anew."""
    if not request.user.is_authenticated:
        return redirect("page")  # where one logs in
    try:
        shown = items.get_item(request.user, item_id)
        if request.method == "POST":
            return _comment(request, item_id)
    except TickertapeError as error:
        return problem(error)
    listed, cursor = log.snapshot([item_channel(item_id)], lambda: list(_comments(item_id)))
    context = {"item": shown, "comments": listed, "cursor": str(cursor)}
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
    text, refused = request.POST.get("text", "").replace("\r\n", "\n"), ""
    try:
        comments.add_comment(request.user, item_id, text=text)  # type: ignore[arg-type]  # logged in
        text = ""
    except Invalid as error:
        refused = error.errors[0].message if error.errors else error.detail
    # 200 also where it was refused: htmx shows no other answer.
    return render(request, "project/htmx_form.html", {"item_id": item_id, "text": text, "refused": refused})
