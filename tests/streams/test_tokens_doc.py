"""What `docs/tokens.md` shows, as a reader would use it."""

import json
import re

from django.http import HttpRequest

from events.channels import Channel
from streams.permission import SessionAsItIs, admit
from tests.issuer import KEYS, public, write
from tests.stack import ROOT

DOC = (ROOT / "docs/tokens.md").read_text()


def test_a_token_as_the_document_signs_it_opens_what_its_setting_grants(settings, tmp_path):
    [setting] = re.findall(r"```json\n(.*?)```", DOC, re.DOTALL)
    [code] = re.findall(r"```python\n(.*?)```", DOC, re.DOTALL)
    keys = tmp_path / "jwks.json"
    write(keys, public("ES256", kid="2026-11"))
    settings.STREAMS_TOKEN_ISSUERS = setting.replace("/run/secrets/app-jwks.json", str(keys))
    assert str(keys) in [each["jwks"] for each in json.loads(settings.STREAMS_TOKEN_ISSUERS)]
    written = {"PRIVATE_KEY": KEYS["ES256"]}
    exec(code, written)

    request = HttpRequest()
    request.session = SessionAsItIs(None)
    request.COOKIES = {"tickertape_token": written["token"]("anna", "group:team", "item:7")}
    reader, channels = admit(request, lambda user: [Channel("group:team"), Channel("item:7")])

    assert channels == {"group:team", "item:7"}
    assert reader.user_id == "https://app.example.org|anna"
