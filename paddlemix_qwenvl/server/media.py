"""The pictures and videos of requests: nothing else in the server opens an address, a file or a decoder."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO

from PIL import Image

from paddlemix_qwenvl.errors import MediaError
from paddlemix_qwenvl.media import Video
from paddlemix_qwenvl.server.addresses import Fetcher
from paddlemix_qwenvl.server.decoding import Decoders
from paddlemix_qwenvl.server.errors import RETRY_AFTER, RequestError
from paddlemix_qwenvl.server.limits import Limits
from paddlemix_qwenvl.server.local_files import Folder

_AT_ONCE = 8  # of one request
_FILES_AT_ONCE = 16  # of all requests, fetched or read
_WEB = ("http://", "https://")
_NOT_ALLOWED = "this server takes data URIs alone here: data:image/png;base64,DATA."


class MediaPolicy:
    """What the media of a request may name, and what they may cost.

    Args:
        limits: of one request.
        allow_from: domains whose http(s) addresses it may name; see `Fetcher`.
        allow_below: the folder whose files it may name.

    Raises:
        ConfigurationError: one of these is no domain, or no folder.
    """

    def __init__(self, limits: Limits, allow_from: Sequence[str] = (), allow_below: str | os.PathLike | None = None):
        self._limits = limits
        self._fetcher = Fetcher(allow_from, limits.media_bytes, limits.fetch_seconds) if allow_from else None
        self._folder = Folder(allow_below, limits.media_bytes) if allow_below is not None else None
        self._decoders = Decoders(limits)
        self._files = asyncio.Semaphore(_FILES_AT_ONCE)

    async def load(self, parts: Sequence[Mapping[str, Any]]) -> list[Image.Image | Video]:
        """Pictures in RGB, as large as they are, and videos as their parts ask for them.

        Args:
            parts: in the Hub's format, with the source and the options of each.

        Raises:
            MediaError: one of them cannot be used, or they are too much together.
            RequestError: they took too long together.
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
            left -= max(pixels_of(loaded), part.get("min_pixels", 0))
            if left < 0:
                raise MediaError(
                    f"pictures and videos of over {self._limits.pixels} pixels together; send fewer or smaller ones."
                )
            return loaded

        tasks = [asyncio.ensure_future(one(number, part)) for number, part in enumerate(parts, 1)]
        try:
            return await asyncio.wait_for(asyncio.gather(*tasks), self._limits.media_seconds)
        except asyncio.TimeoutError:
            text = "the pictures and videos took too long to decode: send fewer or smaller ones, or try again later."
            raise RequestError(text, 503, code="timeout", retry_after=RETRY_AFTER) from None
        finally:
            for task in tasks:
                task.cancel()

    def close(self) -> None:
        """End the processes that decode."""
        self._decoders.close()

    async def _one(self, part: Mapping[str, Any]) -> Image.Image | Video:
        kind, source = part["type"], part[part["type"]].strip()
        options = {name: value for name, value in part.items() if name not in ("type", kind)}
        if source[:5].lower() == "data:":
            return await self._decoders.decode(kind, source, options)
        async with self._files:
            return await self._decoders.decode(kind, await self._file(source), options)

    async def _file(self, name: str) -> BinaryIO:
        is_address = name[:8].lower().startswith(_WEB)
        if is_address and self._fetcher:
            return await self._fetcher.fetch(name)
        if not is_address and self._folder:
            return await asyncio.to_thread(self._folder.open, name)
        raise MediaError(_NOT_ALLOWED)


def pixels_of(loaded: Image.Image | Video) -> int:
    """Of a picture, or of all frames of a video."""
    if isinstance(loaded, Video):
        return loaded.frames.size // 3
    return loaded.width * loaded.height
