"""The streams' addresses."""

from django.urls import path

from streams import poll, views

urlpatterns = [
    path("", views.channels),
    path("poll/", poll.poll),
    path("me/", views.me),
    path("items/<str:item_id>/", views.item),
    path("jobs/<str:job_id>/", views.job),
]
