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
        max_queue: requests at a time, at most.
        limits: of one request.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    api_key_file: Path | None = None
    max_queue: int = 256
    limits: Limits = field(default_factory=Limits)
