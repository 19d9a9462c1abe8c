"""An issuer of stream tokens that the measured service believes: so a crowd needs no users."""

import base64
import json
import secrets
import time
from functools import cache

import jwt

ISSUER = "bench"
KEY = secrets.token_bytes(32)  # of this run; nothing else knows it
HOURS = 20  # that a token is good for


def setting() -> str:
    """Return what STREAMS_TOKEN_ISSUERS has to be."""
    secret = base64.urlsafe_b64encode(KEY).decode().rstrip("=")
    key = {"kty": "oct", "alg": "HS256", "kid": ISSUER, "k": secret}
    return json.dumps([{"issuer": ISSUER, "channels": ["item:*"], "jwks": {"keys": [key]}}])


@cache
def token() -> str:
    """Return a token that opens the channel of any item."""
    now = int(time.time())
    said = {"iss": ISSUER, "aud": "tickertape", "sub": "crowd", "channels": ["item:*"]}
    times = {"iat": now, "exp": now + HOURS * 3600}
    return jwt.encode({**said, **times}, KEY, algorithm="HS256", headers={"kid": ISSUER})
