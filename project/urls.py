"""The whole map."""

from django.contrib import admin
from django.urls import path

from project import pages

urlpatterns = [
    path("", pages.page, name="page"),
    path("items/<int:item_id>", pages.page, name="item"),
    path("admin/", admin.site.urls),
]
