"""What a server is told when it is started."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from paddlemix_qwenvl.server.limits import Limits


@dataclass(frozen=True)
class ServerSettings:
    """How a model is served.

    Attributes:
        host, port: where.
        api_key_file: a key on each line, one of which every request must have; None for none.
        allow_media_from: domains whose addresses requests may name; none, unless they are given.
        allow_media_below: the folder whose files they may name, likewise.
        max_queue: requests at a time, at most.
        limits: of one request.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    api_key_file: Path | None = None
    allow_media_from: tuple[str, ...] = ()
    allow_media_below: Path | None = None
    max_queue: int = 256
    limits: Limits = field(default_factory=Limits)
