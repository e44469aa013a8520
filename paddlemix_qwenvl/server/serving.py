"""A service behind its address, from the start to the end of the process."""

from __future__ import annotations

import os
from types import FrameType

import uvicorn

from paddlemix_qwenvl.server.app import create_app
from paddlemix_qwenvl.server.gate import Gate
from paddlemix_qwenvl.server.limits import Limits
from paddlemix_qwenvl.server.service import Service
from paddlemix_qwenvl.server.settings import ServerSettings

_LAST_STEP = 20.0  # seconds that the thread of the engine has for its last step


def serve(service: Service, media, settings: ServerSettings) -> None:
    """Answer until SIGTERM or SIGINT, after which what was taken is answered to its end; a second one ends at once.

    Raises:
        Exception: what loading failed with.
    """
    app = create_app(service, media, Limits(body_bytes=settings.max_body_bytes))
    app.include_router(service.metrics.routes())
    gate = Gate(app, service, settings.max_queue)
    config = uvicorn.Config(
        gate, host=settings.host, port=settings.port, log_config=None, access_log=False, lifespan="off"
    )
    server = _Server(config, service, gate)
    service.start()
    server.run()
    ended = service.stop(_LAST_STEP)
    if service.assistant is None and service.error is not None:
        raise service.error
    if not ended:  # Paddle is not to be taken down while it computes
        os._exit(0)


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, service: Service, gate: Gate):
        super().__init__(config)
        self._service, self._gate = service, gate
        self._told_to_end = False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal."""
        if self._told_to_end:
            os._exit(128 + sig)
        self._told_to_end = True
        self._service.drain()

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second; whether to end."""
        service = self._service
        service.stuck_for()
        could_not_load = service.assistant is None and service.error is not None
        self.should_exit |= could_not_load or (self._told_to_end and not self._gate.inside)
        return await super().on_tick(counter)
