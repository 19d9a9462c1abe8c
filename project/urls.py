"""The whole map."""

from django.contrib import admin
from django.urls import include, path

from streams import views as live

urlpatterns = [
    path("admin/", admin.site.urls),
    path("streams/", include("streams.urls")),
    path("healthz", live.healthz),
    path("readyz", live.readyz),
]
