"""What a process's hub knows of itself, for Prometheus (text exposition format 0.0.4)."""

from typing import Any

from streams.hub import Hub

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


_PRESSURE = [
    ("oldest_writer_seconds", "gauge", "Age of the oldest open transaction that has written."),
    ("oldest_transaction_seconds", "gauge", "Age of the oldest open transaction that holds cleaning up."),
    ("unplaced_events", "gauge", "Committed events without a position."),
    ("oldest_unplaced_seconds", "gauge", "Since the transaction of the oldest of them began."),
    ("replication_held_transactions", "gauge", "Transactions since what replication keeps from cleaning up."),
]


def render(hub: Hub, pressure: tuple[Any, ...] = ()) -> str:
    """Return the process's metrics, one sample each; `pressure` is what PRESSURE_SQL found, if it could."""
    samples = [
        ("connections", "gauge", "Open streams.", hub.connections),
        ("position", "gauge", "The position up to which this process has handed events out.", hub.position),
        ("log_head", "gauge", "The log's last position, as of the last look.", hub.head),
        ("log_oldest", "gauge", "The first position that the log still keeps.", hub.oldest),
        ("ring_events", "gauge", "Events held in memory for replay.", len(hub.ring)),
        ("ring_bytes", "gauge", "Memory of the events held for replay.", hub.ring.bytes),
        ("log_reads_total", "counter", "Pages of the log read for replay.", hub.replay.reads),
        ("database_up", "gauge", "Whether the log answered the last look.", int(hub.database_up)),
        ("redis_up", "gauge", "Whether Redis brings new events.", int(hub.redis_up)),
        ("worker_up", "gauge", "Whether a worker's clock has ticked lately.", int(hub.worker_up)),
        ("draining", "gauge", "Whether this process ends its streams.", int(hub.draining)),
        *((*sample, value) for sample, value in zip(_PRESSURE, pressure, strict=False)),
    ]
    return "".join(
        f"# HELP tickertape_{name} {text}\n# TYPE tickertape_{name} {kind}\ntickertape_{name} {value}\n"
        for name, kind, text, value in samples
    )
