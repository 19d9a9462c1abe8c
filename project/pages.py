"""The page a person opens: one document for `/` and each item's address; its modules do the rest.

Promised: nothing is loaded from elsewhere, no script or style is written into the document,
and nothing a user typed is ever parsed as HTML; the policy has the browser enforce all three.
"""

from pathlib import Path
from typing import Any

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt, ensure_csrf_cookie
from django.views.decorators.http import require_http_methods, require_safe

from events import digests
from project.management.commands import demo

# `frame-ancestors` says what X-Frame-Options says, to browsers that prefer it. Trusted Types
# without any policy turn innerHTML and its kin into errors (W3C Trusted Types, 4.2).
CONTENT_SECURITY_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    ]
)

# Told to the browser at once, so that it need not find each module's imports one after the other.
MODULES = sorted(f"project/{file.name}" for file in (Path(__file__).parent / "static/project").glob("*.js"))


@require_safe
@never_cache  # it says who is logged in
@ensure_csrf_cookie
def page(request: HttpRequest, item_id: int | None = None) -> HttpResponse:
    """Answer with the page; which item is open, its script reads from the address."""
    response = render(request, "project/page.html", {"boot": _boot(request), "modules": MODULES})
    response["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
    return response


def missing(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer for the framework's `handler404`: a person sees a page, a program gets problem+json of it."""
    response = render(request, "project/missing.html", status=404)
    response["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
    return response


@require_http_methods(["GET", "HEAD", "POST"])
@csrf_exempt  # a mail client posts it, without cookies (RFC 8058); the link itself is the secret
@never_cache
def unsubscribe(request: HttpRequest, token: str) -> HttpResponse:
    """Ask whether to stop a user's digests, and stop them; following the link alone does nothing."""
    try:
        user = digests.subscriber(token)
    except digests.UnsubscribeLinkInvalid:
        raise Http404 from None
    done = request.method == "POST"
    if done:
        digests.unsubscribe(user)
    response = render(request, "project/unsubscribe.html", {"done": done})
    response["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
    return response


def _boot(request: HttpRequest) -> dict[str, Any]:
    """Return what the script needs before its first request."""
    user = request.user
    return {
        "user": {"id": str(user.pk), "username": user.get_username()} if user.is_authenticated else None,
        "demo_users": [{"username": name, "password": f"demo-{name}"} for name in demo.USERS]
        if settings.MODE == "demo"
        else [],
        "demo_jobs": not settings.PRODUCTION,
    }
