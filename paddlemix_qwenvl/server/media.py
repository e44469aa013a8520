"""The pictures and videos of requests: nothing else in the server opens an address, a file or a decoder."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

from paddlemix_qwenvl.errors import MediaError
from paddlemix_qwenvl.media import Video
from paddlemix_qwenvl.server.decoding import Decoders
from paddlemix_qwenvl.server.limits import Limits

_AT_ONCE = 8  # of one request
_NO_ADDRESS = "this server takes no address there; send a data URI: data:image/png;base64,DATA."


class MediaPolicy:
    """What the media of a request may name, and what they may cost.

    Args:
        limits: of one request.
    """

    def __init__(self, limits: Limits):
        self._limits = limits
        self._decoders = Decoders(limits)

    async def load(self, parts: Sequence[Mapping[str, Any]]) -> list[Image.Image | Video]:
        """Pictures in RGB, as large as they are, and videos as their parts ask for them.

        Args:
            parts: in the Hub's format, with the source and the options of each.

        Raises:
            MediaError: one of them cannot be used, or they are too much together.
        """
        if len(parts) > self._limits.media:
            raise MediaError(
                f"{len(parts)} pictures and videos are over the limit of {self._limits.media}; send fewer."
            )
        turn, left = asyncio.Semaphore(_AT_ONCE), self._limits.pixels

        async def one(number: int, part: Mapping[str, Any]) -> Image.Image | Video:
            nonlocal left
            try:
                async with turn:
                    loaded = await self._one(part)
            except MediaError as error:
                raise MediaError(f"{part['type']} {number}: {error}") from None
            left -= max(_pixels(loaded), part.get("min_pixels", 0))
            if left < 0:
                raise MediaError(
                    f"pictures and videos of over {self._limits.pixels} pixels together; send fewer or smaller ones."
                )
            return loaded

        tasks = [asyncio.ensure_future(one(number, part)) for number, part in enumerate(parts, 1)]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()

    def close(self) -> None:
        """End the processes that decode."""
        self._decoders.close()

    async def _one(self, part: Mapping[str, Any]) -> Image.Image | Video:
        kind, source = part["type"], part[part["type"]]
        options = {name: value for name, value in part.items() if name not in ("type", kind)}
        if source[:5].lower() == "data:":
            return await self._decoders.decode(kind, source, options)
        raise MediaError(_NO_ADDRESS)


def _pixels(loaded: Image.Image | Video) -> int:
    if isinstance(loaded, Video):
        return loaded.frames.size // 3
    return loaded.width * loaded.height
