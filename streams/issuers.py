"""Who else may sign stream tokens: issuers of STREAMS_TOKEN_ISSUERS, each with its public keys.

An issuer vouches for users that we have no row of, so what its token names is what its holder may
read, and no more than the setting grants the issuer. Keys come as a JWK Set (RFC 7517), in the
setting or in a file of its own, which is read again when it changes: that is how keys are rotated,
and a key that is taken out ends what it signed. Nothing is ever fetched.
"""

import json
import logging
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import jwt
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from events.errors import ChannelMalformed
from streams.scope import check_pattern

OURS = "tickertape"  # the issuer of what we sign, and its audience
# Pinned by the key and never taken from the token (RFC 8725, 3.1). Only an `oct` key is for HS256.
ALGORITHMS = frozenset(
    {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "HS256"}
)
KINDS = frozenset({"RSA", "EC", "OKP", "oct"})

logger = logging.getLogger(__name__)
Keys = Mapping[str, jwt.PyJWK]


class _Given(BaseModel):
    """An issuer as the setting has it."""

    model_config = ConfigDict(extra="forbid", strict=True)

    issuer: Annotated[str, Field(min_length=1, max_length=200)]
    audience: Annotated[str, Field(min_length=1, max_length=200)] = OURS
    channels: Annotated[list[str], Field(min_length=1)]
    jwks: str | dict[str, Any]


class Issuer:
    """Somebody whose tokens count, for some channels."""

    def __init__(self, given: _Given) -> None:
        """Read the keys; raise OSError, ChannelMalformed, or ValueError, which says who is meant."""
        self.name = given.issuer
        self.audience = given.audience
        self.channels = tuple(map(check_pattern, given.channels))
        self._file = Path(given.jwks) if isinstance(given.jwks, str) else None
        self._stamp = self._changed()
        try:
            self._keys = keys_of(given.jwks if isinstance(given.jwks, dict) else self._read())
        except json.JSONDecodeError:  # its text would quote a secret
            raise ValueError(f"{self.name} has a file of keys that is not JSON") from None
        except ValueError as error:
            raise ValueError(f"{self.name} {error}") from None

    def key(self, name: object) -> jwt.PyJWK | None:
        """Return the key of a `kid`, as it is now. Reads a file: not in an event loop."""
        stamp = self._changed()
        if stamp != self._stamp:
            self._stamp = stamp
            try:
                self._keys = keys_of(self._read())
            except (OSError, ValueError) as error:
                facts = {"issuer": self.name, "error": type(error).__name__}
                logger.error("The keys of an issuer cannot be read; its earlier ones count.", extra=facts)
        return self._keys.get(name) if isinstance(name, str) else None

    def _changed(self) -> object:
        """Return what is another when the file is."""
        if self._file is None:
            return None
        try:
            found = self._file.stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size

    def _read(self) -> Any:
        assert self._file is not None  # noqa: S101 (a set in the setting never changes)
        return json.loads(self._file.read_text())


def keys_of(jwks: Any) -> Keys:
    """Return the keys of a JWK Set that tokens can be verified by; raise ValueError, quoting no key.

    What is for something else than signatures, or of a sort that is not taken, is left out, as RFC 7517, 5,
    has it: a set may serve others, too.
    """
    listed = jwks.get("keys") if isinstance(jwks, dict) else None
    if not isinstance(listed, list):
        raise ValueError("has no JWK Set: there is no list of `keys`")
    found: dict[str, jwt.PyJWK] = {}
    for place, each in enumerate(listed):
        if not isinstance(each, dict) or each.get("use", "sig") != "sig":
            continue
        if each.get("kty") not in KINDS or each.get("alg", "HS256") not in ALGORITHMS:
            continue
        name = each.get("kid")
        if not isinstance(name, str) or not name or name in found:
            raise ValueError(f"has no `kid` of its own at keys.{place}")
        found[name] = _key(each, place)
    if not found:
        raise ValueError("has no key to verify signatures by")
    return found


def _key(said: dict[str, Any], place: int) -> jwt.PyJWK:
    symmetric = said.get("kty") == "oct"
    if not symmetric and "d" in said:
        raise ValueError(f"has a private key at keys.{place}: give the public one")
    try:
        key = jwt.PyJWK(said)
    except (jwt.PyJWTError, ValueError, TypeError, KeyError):  # their texts quote the key
        raise ValueError(f"has a key at keys.{place} that cannot be read") from None
    if key.algorithm_name not in ALGORITHMS:  # as ES256K, which only the curve says
        raise ValueError(f"has an algorithm at keys.{place} that is not taken")
    if symmetric and said.get("alg") != "HS256":
        raise ValueError(f"has a secret at keys.{place} that does not say that it is for HS256")
    if key.Algorithm.check_key_length(key.key):
        raise ValueError(f"has a key at keys.{place} that is too short")
    return key


def find(name: object) -> Issuer | None:
    """Return the issuer of a name, if its tokens count."""
    return read(settings.STREAMS_TOKEN_ISSUERS).get(name) if isinstance(name, str) else None


@cache
def read(given: str) -> Mapping[str, Issuer]:
    """Return the issuers of a setting: JSON, or the path of a file of it; raise ImproperlyConfigured."""
    if not given:
        return {}
    try:
        text = given if given.lstrip().startswith("[") else Path(given).read_text()
        listed = TypeAdapter(list[_Given]).validate_python(json.loads(text))
        found = {each.issuer: Issuer(each) for each in listed}
        if len(found) < len(listed) or OURS in found:
            raise ValueError(f"names an issuer twice, or {OURS}")
    except ValidationError as error:
        [fault, *_] = error.errors(include_input=False)
        why = f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}"
    except ChannelMalformed as error:
        why = f"{error.detail} Use a channel's name, or a kind and :*, as in item:*."
    except OSError as error:
        why = f"{error.filename} cannot be read: {error.strerror}"
    except json.JSONDecodeError:  # its text would quote a secret
        why = "is neither JSON nor the path of a file of it"
    except ValueError as error:
        why = str(error)
    else:
        return found
    raise ImproperlyConfigured(f"STREAMS_TOKEN_ISSUERS is not right: {why}.")
