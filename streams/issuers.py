"""Who else may sign stream tokens: issuers of STREAMS_TOKEN_ISSUERS, each with its public keys.

An issuer vouches for users that we have no row of, so what its token names is what its holder may
read, and no more than the setting grants the issuer. Keys come as a JWK Set (RFC 7517), in the
setting or in a file of its own, which is read again when it changes: that is how keys are rotated,
and a key that is taken out ends what it signed. Nothing is ever fetched.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from threading import Lock
from typing import Annotated, Any

import jwt
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from events.errors import ChannelMalformed
from streams.scope import check_pattern

OURS = "tickertape"  # the issuer of what we sign, and its audience
# Pinned by the key and never taken from the token (RFC 8725, 3.1). Only an `oct` key is for HS256.
# Tuples, as what is looked for in them may be anything, lists included.
ALGORITHMS = "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "HS256"
KINDS = "RSA", "EC", "OKP", "oct"

logger = logging.getLogger(__name__)


class KeysWrong(ValueError):
    """What is wrong with the keys of an issuer; its text quotes none of them."""


@dataclass(frozen=True, slots=True)
class Key:
    """What tokens are verified by."""

    jwk: jwt.PyJWK
    mark: str  # another one for another key, of the same name too


Keys = Mapping[str, Key]


class _Given(BaseModel):
    """An issuer as the setting has it."""

    model_config = ConfigDict(extra="forbid", strict=True)

    # Its users are counted as `issuer|sub`: no two of two issuers' may be one.
    issuer: Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^|]*$")]
    audience: Annotated[str, Field(min_length=1, max_length=200)] = OURS
    channels: Annotated[list[str], Field(min_length=1)]
    jwks: str | dict[str, Any]


class Issuer:
    """Somebody whose tokens count, for some channels."""

    def __init__(self, given: _Given) -> None:
        """Read the keys; raise ChannelMalformed, or KeysWrong, which says who is meant."""
        self.name = given.issuer
        self.audience = given.audience
        self.channels = tuple(map(check_pattern, given.channels))
        self._jwks = given.jwks
        self._lock = Lock()
        self._failed: object = None  # the stamp of what could not be read, and was reported
        self._stamp = self._changed()
        try:
            self._keys = self._read()
        except KeysWrong as error:
            raise KeysWrong(f"{self.name} {error}") from None

    @property
    def at_hand(self) -> bool:
        """Tell whether its keys are in no file, and what follows is for an event loop, too."""
        return not isinstance(self._jwks, str)

    def key(self, name: object) -> Key | None:
        """Return the key of a `kid`, as it is now. Reads a file, unless `at_hand`."""
        return self._now().get(name) if isinstance(name, str) else None

    def has(self, mark: str) -> bool:
        """Tell whether the key of a mark counts now. Reads a file, likewise."""
        return any(key.mark == mark for key in self._now().values())

    def _now(self) -> Keys:
        with self._lock:  # or who reads an older file more slowly would have the last word
            stamp = self._changed()
            if stamp == self._stamp:
                self._failed = None
                return self._keys
            try:
                # The stamp is of before the reading: what is changed meanwhile is read next time.
                self._keys, self._stamp = self._read(), stamp
            except KeysWrong as error:
                # Read again each time, for what was in the way may be gone; and said once.
                if stamp != self._failed:
                    facts = {"issuer": self.name, "error": str(error)}
                    logger.error("The keys of an issuer cannot be read; its earlier ones count.", extra=facts)
                self._failed = stamp
            return self._keys

    def _changed(self) -> tuple[int, ...]:
        """Return what is another when the file is, or who may read it; of a set in the setting, nothing."""
        if not isinstance(self._jwks, str):
            return ()
        try:
            found = Path(self._jwks).stat()
        except (OSError, ValueError):
            return ()
        return found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size

    def _read(self) -> Keys:
        try:
            jwks = json.loads(Path(self._jwks).read_text()) if isinstance(self._jwks, str) else self._jwks
        except (json.JSONDecodeError, UnicodeDecodeError, RecursionError):  # their texts would quote a secret
            raise KeysWrong("has a file of keys that is not JSON") from None
        except (OSError, ValueError):  # likewise, where the keys themselves were taken for a path
            raise KeysWrong("has `jwks` that is neither a JWK Set nor the path of a readable file") from None
        return keys_of(jwks)


def keys_of(jwks: Any) -> Keys:
    """Return the keys of a JWK Set that tokens can be verified by; raise KeysWrong.

    What is for something else than signatures, of a sort that is not taken, not understood or without a name
    is left out, as RFC 7517, 5, has it: a set may serve others, too. What should not be there is refused.
    """
    listed = jwks.get("keys") if isinstance(jwks, dict) else None
    if not isinstance(listed, list):
        raise KeysWrong("has no JWK Set: there is no list of `keys`")
    found: dict[str, Key] = {}
    left: list[str] = []
    for place, each in enumerate(listed):
        if not _is_to_verify_by(each):
            continue
        key = _key(each, place)
        if isinstance(key, str):
            left.append(f"keys.{place} {key}")
        elif each["kid"] in found:
            raise KeysWrong(f"has a `kid` twice, at keys.{place}")
        else:
            found[each["kid"]] = key
    if not found:
        raise KeysWrong(": ".join(["has no key to verify signatures by", *left[:1]]))
    return found


def _is_to_verify_by(said: Any) -> bool:
    if not isinstance(said, dict) or said.get("use", "sig") != "sig":
        return False
    return said.get("kty") in KINDS and said.get("alg", "HS256") in ALGORITHMS


def _key(said: dict[str, Any], place: int) -> Key | str:
    """Return a key, or why it is left out; raise KeysWrong where it should not be there."""
    symmetric = said["kty"] == "oct"
    if not symmetric and "d" in said:
        raise KeysWrong(f"has a private key at keys.{place}: give the public one")
    if not isinstance(said.get("kid"), str) or not said["kid"]:
        return "has no `kid`"
    if symmetric and said.get("alg") != "HS256":
        return "is a secret that does not say that it is for HS256"
    try:
        key = jwt.PyJWK(said)
    except (jwt.PyJWTError, ValueError, TypeError, KeyError, RecursionError):  # their texts quote the key
        return "cannot be read"
    if key.algorithm_name not in ALGORITHMS:  # as ES256K, which only the curve says
        return "has an algorithm that is not taken"
    if key.Algorithm.check_key_length(key.key):
        raise KeysWrong(f"has a key at keys.{place} that is too short")
    itself = [key.key_id, key.algorithm_name, key.Algorithm.to_jwk(key.key, as_dict=True)]
    return Key(key, sha256(json.dumps(itself, sort_keys=True).encode()).hexdigest())


def find(name: object) -> Issuer | None:
    """Return the issuer of a name, if its tokens count."""
    return read(settings.STREAMS_TOKEN_ISSUERS).get(name) if isinstance(name, str) else None


def is_at_hand(name: object) -> bool:
    """Tell whether an issuer's tokens count by keys that are in the setting, so that no file is read."""
    issuer = find(name)
    return issuer is not None and issuer.at_hand


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
            raise KeysWrong(f"names an issuer twice, or {OURS}")
    except ValidationError as error:
        [fault, *_] = error.errors(include_input=False)
        why = f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}"
    except ChannelMalformed as error:
        why = f"{error.detail} Use a channel's name, or a kind and :*, as in item:*."
    except KeysWrong as error:
        why = str(error)
    except (OSError, ValueError, RecursionError):  # their texts may quote a secret, taken for a path
        why = "it is neither JSON nor the path of a readable file"
    else:
        return found
    raise ImproperlyConfigured(f"STREAMS_TOKEN_ISSUERS is not right: {why}.")
