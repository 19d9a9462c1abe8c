"""The twin of the write path: what the same requests cost where no log is kept.

The same framework, server, parsing, login and key; then a bare INSERT into a table without an order, as
an app has it that has no log. An address map of its own puts it beside the service.
"""

import json
from uuid import uuid4

from django.db import connection, transaction
from django.http import HttpRequest
from django.urls import path
from django.utils import timezone
from ninja import NinjaAPI, Router, Status

from events import items
from events.api import CommentOut, NewComment
from events.ingest import Bearer, Ids, NewEvents
from events.models import Item
from events.rest import JsonParser, Session, speak_problems, user_of
from project.urls import urlpatterns as service

TABLES = """
CREATE TABLE bench_event (
    id bigserial PRIMARY KEY, type text NOT NULL, data text NOT NULL, channels text[] NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE bench_comment (
    id uuid PRIMARY KEY, item_id bigint NOT NULL, author_id bigint NOT NULL, text text NOT NULL,
    created_at timestamptz NOT NULL
);
CREATE INDEX ON bench_comment (item_id, created_at);
"""
INTO, ROW = "INSERT INTO bench_event (type, data, channels) VALUES", "(%s, %s, %s)"

router = Router()


@router.post("/events", auth=Bearer(), response={201: Ids})
def insert_events(request: HttpRequest, body: NewEvents) -> Status[Ids]:
    """Insert rows, all of them or none, by one statement."""
    rows = [(event.type, json.dumps(event.data), event.channels) for event in body.events]
    with connection.cursor() as cursor:
        cursor.execute(
            f"{INTO} {', '.join([ROW] * len(rows))} RETURNING id", [value for row in rows for value in row]
        )
        ids = [str(made) for (made,) in cursor.fetchall()]
    return Status(201, Ids(ids=ids))


@router.post("/each/events", auth=Bearer(), response={201: Ids})
def insert_each_event(request: HttpRequest, body: NewEvents) -> Status[Ids]:
    """Insert rows, all of them or none, by a statement each."""
    ids = []
    with transaction.atomic(), connection.cursor() as cursor:
        for event in body.events:
            cursor.execute(f"{INTO} {ROW} RETURNING id", [event.type, json.dumps(event.data), event.channels])
            ids.append(str(cursor.fetchone()[0]))
    return Status(201, Ids(ids=ids))


@router.post("/items/{id:item_id}/comments", response={201: CommentOut})
def insert_comment(request: HttpRequest, item_id: int, body: NewComment) -> Status[CommentOut]:
    """Insert a comment on an item that one may read."""
    user = user_of(request)
    made, now = uuid4(), timezone.now()
    item: Item = items.get_item(user, item_id)
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO bench_comment (id, item_id, author_id, text, created_at)"
            " VALUES (%s, %s, %s, %s, %s)",
            [made, item.pk, user.pk, body.text, now],
        )
    said = {"id": str(made), "item_id": str(item_id), "author_id": str(user.pk), "text": body.text}
    more = {"author_name": user.get_username(), "reply_to": None, "created_at": now, "edited_at": None}
    return Status(201, CommentOut.model_validate({**said, **more}))


api = NinjaAPI(urls_namespace="bare", auth=Session(), parser=JsonParser(), docs_url=None)
speak_problems(api)
api.add_router("", router)

urlpatterns = [path("bare/", api.urls), *service]
handler400 = "events.http.bad_request"
handler404 = "project.pages.missing"
handler500 = "events.http.server_fault"
