"""What reaches a log, and what does not."""

import io
import logging

from daphne.server import logger as daphne

from project.logs import FactsFormatter


def test_daphne_names_no_request_by_its_address():
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(FactsFormatter())
    daphne.addHandler(handler)
    try:
        # As it does where an application goes on long after its client left.
        daphne.warning(
            "Application instance %r for connection %s took too long", "<Task>", "uri=/?token=secret"
        )
    finally:
        daphne.removeHandler(handler)

    assert "took too long" in out.getvalue()
    assert "secret" not in out.getvalue()
