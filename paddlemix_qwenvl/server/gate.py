"""Middleware by which requests come in: as many at a time as there is room for, and none while the server ends."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from paddlemix_qwenvl.server.errors import RETRY_AFTER, RequestError, response_of
from paddlemix_qwenvl.server.service import Service


class Gate:
    """Lets at most `most` requests in at a time that ask something of the model. One comes in when its body is whole: a client
    that never sends it keeps nobody out and no server from ending. Where there is no room the body is not read.

    Attributes:
        inside: how many there are.
    """

    def __init__(self, app: ASGIApp, service: Service, most: int):
        self._app, self._service, self._most = app, service, most
        self.inside = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":
            return await self._app(scope, receive, send)
        if error := self._refusal():
            return await response_of(error)(scope, receive, send)
        is_inside = False

        async def come_in() -> Message:
            nonlocal is_inside
            message = await receive()
            if message["type"] == "http.request" and not message.get("more_body") and not is_inside:
                if error := self._refusal():
                    raise error
                self.inside += 1
                is_inside = True
            return message

        try:
            await self._app(scope, come_in, send)
        finally:
            self.inside -= is_inside

    def _refusal(self) -> RequestError | None:
        if self._service.state == "draining":
            return RequestError("the server is ending: ask another one.", 503, code="draining", retry_after=RETRY_AFTER)
        if self.inside >= self._most:
            self._service.metrics.refused()
            return RequestError(
                "too many requests at a time: try again.", 503, code="queue_full", retry_after=RETRY_AFTER
            )
        return None
