"""What comes of a request: pieces of its answers as the engine makes them, its usage, and server-sent events."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from fastapi import Request

from paddlemix_qwenvl.engine.events import Event, Failed, Finished, Token
from paddlemix_qwenvl.server.asking import Asked
from paddlemix_qwenvl.server.errors import Gone, as_request_error, body_of
from paddlemix_qwenvl.server.protocol import Sampling, Usage
from paddlemix_qwenvl.server.stops import StopStrings

PING_SECONDS = 10.0
T = TypeVar("T")


@dataclass
class Piece:
    """What a step adds to one of the answers.

    Attributes:
        index: of the answer.
        text: more of it; tokens whose text is held back come with the piece that tells it.
        tokens: that make this text.
        finished: how it ended, in its last piece.
        stop: the stop string or token that ended it, if one did.
    """

    index: int
    text: str
    tokens: list[Token]
    finished: Finished | None = None
    stop: str | int | None = None

    @property
    def reason(self) -> str | None:
        """Why it ended; what was cancelled from outside was cut off."""
        if self.finished is None:
            return None
        return "stop" if self.finished.reason == "stop" else "length"


async def pieces(events: AsyncIterator[tuple[int, Event]], body: Sampling) -> AsyncIterator[Piece]:
    """The answers' pieces of what a `Service` tells.

    Raises:
        Exception: what a request failed with.
    """
    held: defaultdict[int, list[Token]] = defaultdict(list)
    stops = defaultdict(lambda: StopStrings(body.stops, body.include_stop_str_in_output))
    async for index, event in events:
        if isinstance(event, Failed):
            raise event.error
        if isinstance(event, Token):
            held[index].append(event)
            if text := stops[index].add(event.text):
                yield Piece(index, text, held.pop(index))
        elif isinstance(event, Finished):
            text = stops[index].add(event.text, final=True)
            yield Piece(index, text, held[index], event, stops[index].found or _stop_token(event, body))


def _stop_token(finished: Finished, body: Sampling) -> int | None:
    last = finished.token_ids[-1:]
    return last[0] if finished.reason == "stop" and {*last} & {*(body.stop_token_ids or ())} else None


@dataclass
class Tally:
    """Counts the tokens of answers, `n` to each prompt."""

    asked: Asked
    n: int
    finished: dict[int, Finished] = field(default_factory=dict)

    def add(self, piece: Piece) -> None:
        """Count in a piece."""
        if piece.finished:
            self.finished[piece.index] = piece.finished

    def usage(self) -> Usage:
        """Of all that has finished; a prompt counts once, however many answers it gets."""
        prompts = [each for index, each in self.finished.items() if index % self.n == 0]
        prompt_tokens = sum(each.prompt_tokens for each in prompts)
        completion_tokens = sum(len(each.token_ids) for each in self.finished.values())
        return {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": prompt_tokens + completion_tokens,
            "prompt_tokens_details": {
                "cached_tokens": sum(each.cached_tokens for each in prompts),
                "image_tokens": self.asked.image_tokens,
            },
        }


async def unless_gone(request: Request, answer: Awaitable[T]) -> T:
    """An answer, given up as soon as the client leaves.

    Raises:
        Gone: it has.
    """
    leaving, working = asyncio.ensure_future(_gone(request)), asyncio.ensure_future(answer)
    try:
        await asyncio.wait({leaving, working}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise Gone
        return working.result()
    finally:
        await _ended(leaving, working)


async def server_sent_events(
    request: Request, chunks: AsyncIterator[Mapping[str, Any]], events: AsyncIterator
) -> AsyncIterator[bytes]:
    """Chunks as lines of a stream, comments while there are none, and its end. It ends early when the client leaves.

    Args:
        events: what the chunks are made of, which is closed in any case.
    """
    leaving = asyncio.ensure_future(_gone(request))
    coming = asyncio.ensure_future(anext(chunks, None))
    try:
        while True:
            await asyncio.wait({leaving, coming}, timeout=PING_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if leaving.done():
                return
            if not coming.done():
                yield b": ping\n\n"
                continue
            if (chunk := coming.result()) is None:
                break
            yield _line(chunk)
            coming = asyncio.ensure_future(anext(chunks, None))
    except Exception as error:
        yield _line(body_of(as_request_error(error)))
    finally:
        await _ended(leaving, coming)
        await chunks.aclose()
        await events.aclose()
    yield b"data: [DONE]\n\n"


def _line(content: Mapping[str, Any]) -> bytes:
    return b"data: " + json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _ended(*tasks: asyncio.Future) -> None:
    """Cancel what still runs, and wait for it."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
