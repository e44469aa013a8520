"""What a server is told when it is started."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ServerSettings:
    """How a model is served.

    Attributes:
        host, port: where.
        served_model_names: by which requests may ask for it, the first one is said in answers.
        api_key_file: a key on each line, one of which every request must have; None for none.
        allow_media_from: domains that pictures and videos may come from.
        allow_media_below: folder that they may lie in.
        max_queue: requests at a time; what comes beyond them is told to come again.
        max_body_bytes: of a request.
    """

    host: str
    port: int
    served_model_names: tuple[str, ...]
    api_key_file: Path | None = None
    allow_media_from: tuple[str, ...] = ()
    allow_media_below: Path | None = None
    max_queue: int = 256
    max_body_bytes: int = 64 << 20
