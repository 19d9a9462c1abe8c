"""An issuer of tokens that is not us: its keys, its key set, what it signs."""

import json
import time
from pathlib import Path

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as new_ec_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key as new_rsa_key

NAME = "https://app.example.org"
SECRET = b"0123456789abcdef0123456789abcdef"
KEYS = {
    "RS256": new_rsa_key(65537, 2048),
    "ES256": new_ec_key(SECP256R1()),
    "EdDSA": Ed25519PrivateKey.generate(),
    "HS256": SECRET,
}


def public(algorithm: str, **more: object) -> dict[str, object]:
    """Return a key as a member of a JWK Set, named by its algorithm."""
    key = KEYS[algorithm]
    family = jwt.get_algorithm_by_name(algorithm)
    found = family.to_jwk(key if algorithm == "HS256" else key.public_key(), as_dict=True)
    found.pop("key_ops", None)
    return {**found, "kid": algorithm, "alg": algorithm, **more}


def token(*channels: str, by: str = "ES256", kid: str = "", seconds: float = 300, **more: object) -> str:
    """Return a token as the issuer signs them; what is None in `more` is left out."""
    now = int(time.time())
    said = {"iss": NAME, "aud": "tickertape", "sub": "anna", "channels": [*channels], "iat": now}
    said |= {"exp": now + seconds, **more}
    said = {name: value for name, value in said.items() if value is not None}
    # By the lower half of the library: the upper one refuses to sign what is not right.
    data = json.dumps(said).encode()
    return jwt.PyJWS().encode(data, KEYS[by], by, headers={"kid": kid or by, "typ": "JWT"})


def write(path: Path, *keys: dict[str, object]) -> None:
    """Write a key set, all at once."""
    path.with_suffix(".new").write_text(json.dumps({"keys": keys}))
    path.with_suffix(".new").replace(path)


def setting(jwks: object, *channels: str, **more: object) -> str:
    """Return the setting that lets the issuer's tokens count."""
    return json.dumps([{"issuer": NAME, "channels": channels or ["item:*"], "jwks": jwks, **more}])
