"""API keys: who may ask, and whose remembered prompts are shared with whom."""

from __future__ import annotations

import base64
import binascii
import hmac
import os
import secrets
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path

from fastapi import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from paddlemix_qwenvl.errors import ConfigurationError
from paddlemix_qwenvl.server.errors import RequestError, response_of

FREE = "/health"  # the one address that needs no key
SHORTEST = 16  # characters of a key
_SECRET = secrets.token_bytes(32)  # so that nobody can compute another's salt
_CHALLENGE = {"WWW-Authenticate": 'Basic realm="key as the password"'}  # browsers then ask for it, for the page
_REFUSED = RequestError(
    "the key is missing or wrong: send it as Authorization: Bearer KEY.", 401, code="invalid_api_key"
)


def read_keys(path: str | os.PathLike) -> list[str]:
    """The keys in a file, one a line; empty lines and those that begin with # are left out.

    Raises:
        ConfigurationError: it cannot be read, has none, or one that is short or not of visible ASCII characters.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path}: no file of keys ({error}); give a text file with one key a line.") from error
    keys = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if not keys:
        raise ConfigurationError(f"{path}: holds no key; write one a line, or leave api_key_file out.")
    for number, key in enumerate(keys, 1):
        if len(key) < SHORTEST or not (key.isascii() and key.isprintable()) or " " in key:
            raise ConfigurationError(
                f"{path}: key {number} is no key; expected {SHORTEST} or more visible ASCII characters, such as "
                "`openssl rand -hex 24` prints."
            )
    return keys


class KeyCheck:
    """Middleware that lets clients with a key pass, and everybody to /health.

    All send it as Bearer; a browser that opens the page sends it as a password (Basic). That counts for GET alone: it would be
    sent with whatever a foreign page has the browser post, too (cross-site request forgery). What is compared are digests, with
    all keys: the time it takes tells nothing of them.
    """

    def __init__(self, app: ASGIApp, keys: Sequence[str]):
        self._app, self._digests = app, [_digest(key.encode()) for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or (scope["type"] == "http" and scope["path"] == FREE):
            return await self._app(scope, receive, send)
        given = _given(scope)
        known = [digest for digest in self._digests if hmac.compare_digest(digest, given)]
        if scope["type"] == "http" and known:
            scope.setdefault("state", {})["key"] = known[0]
            return await self._app(scope, receive, send)
        if scope["type"] == "websocket":
            return await send({"type": "websocket.close", "code": 1008})
        response = response_of(_REFUSED)
        response.headers.update(_CHALLENGE)
        return await response(scope, receive, send)


def salt(request: Request, wanted: str | None = None) -> bytes:
    """What a request's remembered prompts are shared within: its key, and the salt it asks for; empty without either."""
    key = getattr(request.state, "key", b"")
    return _digest(key + (wanted or "").encode("utf-8", "surrogatepass")) if key or wanted else b""


def _given(scope: Scope) -> bytes:
    """The digest of the key that a request came with, of nothing where it has none or several."""
    values = [value for name, value in scope["headers"] if name == b"authorization"]
    scheme, _, key = (values[0] if len(values) == 1 else b"").strip().partition(b" ")
    if scheme.lower() == b"basic":
        if scope["method"] not in ("GET", "HEAD"):
            return _digest(b"")
        try:
            key = base64.b64decode(key.strip(), validate=True).partition(b":")[2]
        except binascii.Error:
            return _digest(b"")
    return _digest(key.strip() if scheme.lower() in (b"basic", b"bearer") else b"")


def _digest(value: bytes) -> bytes:
    return blake2b(value, digest_size=32, key=_SECRET).digest()
