"""The smallest Django project that serves django-eventstream; it runs in that one's environment."""

import django
from django.conf import settings

settings.configure(
    SECRET_KEY="not-secret-measured-only-" + "x" * 32,
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    INSTALLED_APPS=[
        "django.contrib.contenttypes",
        "django.contrib.auth",
        "django_eventstream",
    ],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    LOGGING_CONFIG=None,
)
django.setup()

from django.core.asgi import get_asgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import include, path
from django_eventstream import send_event


async def publish(request: HttpRequest) -> HttpResponse:
    """Send the body, which is JSON already, to a channel."""
    send_event(request.GET["channel"], "message", request.body.decode(), json_encode=False)
    return HttpResponse(status=200)


async def alive(request: HttpRequest) -> HttpResponse:
    """Say that the process answers."""
    return HttpResponse(status=200)


urlpatterns = [
    path("events/", include("django_eventstream.urls")),
    path("publish/", publish),
    path("alive/", alive),
]
application = get_asgi_application()
