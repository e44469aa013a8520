"""How much one request may hold and cost, and the middleware that turns larger ones away before anything reads them.

Counts of single fields (answers, stop strings, messages, ...) are in the types of `protocol`.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from paddlemix_qwenvl.server.errors import Gone, RequestError, response_of

_SHORT = 1 << 20  # bytes that are looked through at once; longer ones on a thread
_OPENING = b"[{"


@dataclass(frozen=True)
class Limits:
    """What one request may hold and cost.

    Attributes:
        header_bytes: of its address and headers.
        body_bytes: of its body, media in it included.
        body_seconds: for the body to arrive.
        depth: of lists and objects in each other.
        items: of all lists and objects, and texts.
        media: pictures and videos.
        media_bytes: of one that is fetched or read, encoded.
        picture_pixels: of one picture, or one frame of a video, decoded.
        pixels: of all that is decoded, frames of videos as they are resized.
        fetch_seconds: to fetch one, redirects included.
        decode_seconds: to decode one.
        media_seconds: for all of them, and those of others before.
        decode_bytes: of memory that a decoder takes, what every process takes included.
    """

    header_bytes: int = 32 << 10
    body_bytes: int = 64 << 20
    body_seconds: float = 120.0
    depth: int = 64
    items: int = 1 << 20
    media: int = 256
    media_bytes: int = 256 << 20
    picture_pixels: int = 1 << 26
    pixels: int = 1 << 28
    fetch_seconds: float = 30.0
    decode_seconds: int = 60
    media_seconds: float = 120.0
    decode_bytes: int = 3 << 30


class RequestLimit:
    """Middleware that reads a request's body and hands it on where it keeps within the limits."""

    def __init__(self, app: ASGIApp, limits: Limits):
        self._app, self._limits = app, limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        try:
            body = await self._checked(scope, receive)
        except RequestError as error:
            return await response_of(error)(scope, receive, send)
        except Gone:
            return None
        given = [{"type": "http.request", "body": body, "more_body": False}]

        async def again() -> Message:
            return given.pop() if given else await receive()

        return await self._app(scope, again, send)

    async def _checked(self, scope: Scope, receive: Receive) -> bytes:
        limits = self._limits
        headers = sum(len(name) + len(value) for name, value in scope["headers"])
        if headers + len(scope.get("raw_path") or b"") + len(scope["query_string"]) > limits.header_bytes:
            raise RequestError(f"the address and headers have over {limits.header_bytes} bytes: send less.", 431)
        try:
            body = await asyncio.wait_for(self._body(scope, receive), limits.body_seconds)
        except asyncio.TimeoutError:
            raise RequestError(f"the body did not arrive within {limits.body_seconds:g} s: try again.", 408) from None
        if len(body) <= _SHORT:
            check_json(body, limits)
        else:
            await asyncio.to_thread(check_json, body, limits)
        return body

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        most = self._limits.body_bytes
        error = RequestError(f"the body has over {most} bytes: send fewer or smaller pictures and videos.", 413)
        told = dict(scope["headers"]).get(b"content-length", b"")
        if told.isdigit() and (len(told) > 18 or int(told) > most):
            raise error
        chunks, size, more = [], 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise Gone
            chunks.append(message.get("body", b""))
            size, more = size + len(chunks[-1]), message.get("more_body", False)
            if size > most:
                raise error
        return b"".join(chunks)


def check_json(body: bytes, limits: Limits) -> None:
    """Look whether it is safe to parse: every pass is linear, and over bytes in C.

    Raises:
        RequestError: too many items, or too deep.
    """
    plain = body.replace(b"\\\\", b"").replace(b'\\"', b"") if b"\\" in body else body
    texts = plain.count(b'"') // 2
    outside = b"".join(plain.split(b'"')[::2]) if texts <= limits.items else b""
    if texts > limits.items or sum(map(outside.count, (b",", b"[", b"{"))) > limits.items:
        raise RequestError(f"the body has over {limits.items} items: send fewer.", 413)
    depth = 0
    for bracket in re.sub(rb"[^][{}]+", b"", outside):
        depth += 1 if bracket in _OPENING else -1
        if depth > limits.depth:
            raise RequestError(f"lists and objects are over {limits.depth} deep in each other: send flatter ones.")
