"""A service behind its address, from the start to the end of the process."""

from __future__ import annotations

import logging
import os
import socket
from ipaddress import ip_address
from time import monotonic
from types import FrameType

import uvicorn

from paddlemix_qwenvl.errors import ConfigurationError
from paddlemix_qwenvl.server.app import create_app
from paddlemix_qwenvl.server.gate import Gate
from paddlemix_qwenvl.server.keys import read_keys
from paddlemix_qwenvl.server.media import MediaPolicy
from paddlemix_qwenvl.server.service import Service
from paddlemix_qwenvl.server.settings import ServerSettings

_BACKLOG = 2048  # connections that wait to be accepted
_LOG = logging.getLogger(__name__)
_OTHER_CONNECTIONS = 512  # that ask for the page and how the server is, or for nothing
_ONE_SIGNAL = 2.0  # seconds within which another one is the same: Paddle's launcher sends three
_LAST_BYTES = 10  # seconds that clients have to read the end of their answers
_LAST_STEP = 20.0  # seconds that the thread of the engine has for its last step


def serve(service: Service, settings: ServerSettings) -> None:
    """Answer until SIGTERM or SIGINT, after which what was taken is answered to its end; a second one ends at once.

    Raises:
        ConfigurationError: settings that cannot be carried out.
        Exception: what loading failed with.
    """
    keys = read_keys(settings.api_key_file) if settings.api_key_file else ()
    listening = _listen(settings)
    media = MediaPolicy(settings.limits, settings.allow_media_from, settings.allow_media_below)
    is_local = ip_address(listening.getsockname()[0].partition("%")[0]).is_loopback
    app = create_app(service, media, settings.limits, keys, is_local)
    gate = Gate(app, service, settings.max_queue)
    config = uvicorn.Config(
        gate,
        http="h11",
        lifespan="off",
        log_config=None,
        access_log=False,
        limit_concurrency=settings.max_queue + _OTHER_CONNECTIONS,
        timeout_graceful_shutdown=_LAST_BYTES,
    )
    server = _Server(config, service, gate)
    service.start()
    _LOG.info("listening at http://%s:%d", *listening.getsockname()[:2])
    server.run([listening])
    ended = service.stop(_LAST_STEP if service.assistant else 0.0)
    media.close()
    if service.error is not None:
        raise service.error
    if not ended:  # Paddle is not to be taken down while it computes
        os._exit(0)


def _listen(settings: ServerSettings) -> socket.socket:
    """Before anything is loaded.

    Raises:
        ConfigurationError: nobody can listen there.
    """
    host, port = settings.host, settings.port
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigurationError(f"host {host}, port {port}: {reason}; give another --host or --port.") from error


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, service: Service, gate: Gate):
        super().__init__(config)
        self._service, self._gate = service, gate
        self._told_to_end: float | None = None  # when

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal."""
        if self._told_to_end is None:
            self._told_to_end = monotonic()
            self._service.drain()
        elif monotonic() - self._told_to_end > _ONE_SIGNAL:
            os._exit(128 + sig)

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second; whether to end."""
        service = self._service
        service.watch()
        could_not_load = service.assistant is None and service.error is not None
        self.should_exit |= could_not_load or (self._told_to_end is not None and not self._gate.inside)
        return await super().on_tick(counter)
