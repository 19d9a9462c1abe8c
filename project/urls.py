"""The whole map."""

from typing import Any

from django.conf import settings
from django.contrib import admin
from django.urls import include, path
from ninja import NinjaAPI
from ninja.openapi.schema import OpenAPISchema

import events.api
import events.broadcasts_api
import events.inbox_api
import events.ingest
import events.log_api
import streams.api
import workers.api
from events.rest import JsonParser, Session, speak_problems
from project import catalogue, pages
from streams import openapi
from streams import views as live


class Api(NinjaAPI):
    """Ninja's, whose description has the streams too, which are none of its operations."""

    def get_openapi_schema(self, **more: Any) -> OpenAPISchema:
        """Return the description."""
        described = super().get_openapi_schema(**more)
        described["paths"].update(openapi.paths())
        return described


api = Api(
    title="Tickertape",
    version="1",
    description=(
        "Items, their comments, and who reads them. Log in at `/api/session`; send its `csrf_token` "
        "as `X-CSRFToken` with every change. Errors are problem+json. A list has the `cursor` to stream "
        "from. Streams and their events are described at `/events/` and in `/api/asyncapi.json`."
    ),
    auth=Session(),
    parser=JsonParser(),
)
speak_problems(api)
# Addresses are tried in their order: first where programs append.
api.add_router("", events.log_api.router)  # to which `events.ingest` adds the way in
api.add_router("", events.api.router)
api.add_router("", events.broadcasts_api.router)
api.add_router("", events.inbox_api.router)
api.add_router("", streams.api.router)
api.add_router("", workers.api.router)

urlpatterns = [
    path("streams/", include("streams.urls")),  # first: a crowd asks for them at once
    path("api/asyncapi.json", catalogue.describe, name="asyncapi"),
    path("api/", api.urls),
    path("", pages.page, name="page"),
    path("items/<int:item_id>", pages.page, name="item"),
    path("unsubscribe/<str:token>", pages.unsubscribe, name="unsubscribe"),
    path("admin/", admin.site.urls),
    path("events/", catalogue.page, name="events"),
    path("healthz", live.healthz),
    path("readyz", live.readyz),
    path("metrics", live.show_metrics),
]

if not settings.PRODUCTION:
    from project import demo_htmx, demo_views

    urlpatterns += [
        path("demo/htmx/<int:item_id>/", demo_htmx.item),
        path("demo/tokens/", demo_views.tokens),
        path("demo/tokens/thread/", demo_views.tokens_from_a_thread),
    ]

handler400 = "events.http.bad_request"
handler404 = "project.pages.missing"
handler500 = "events.http.server_fault"
