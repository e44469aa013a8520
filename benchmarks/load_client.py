"""Clients of a server with OpenAI's interface, for serve_load.py: each asks for a stream, reads it and notes when what came.

The protocol is spoken by hand, because a client's library takes more of two cores than some servers do.
"""

import asyncio
import base64
import io
import itertools
import json
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from time import perf_counter

import numpy as np
from PIL import Image

LEAVING = 0.1  # of the clients, somewhere in their answer
PATIENCE = 600.0  # seconds


@dataclass(frozen=True)
class Workload:
    """What is asked: numbers, each digit a token, with or without a picture, for answers of `tokens` on average.

    Attributes:
        pictures: share of the requests that show one.
        leaving: share of the clients that leave early.
    """

    text_tokens: int
    tokens: int
    pictures: float = 0.5
    side: int = 448
    leaving: float = LEAVING

    def asked(self, number: int) -> tuple[dict, int | None]:
        """The body of a request, of which no two are alike, and the token at which its client leaves, if it does."""
        draw = random.Random(number)
        content: list[dict] = [{"type": "text", "text": "".join(draw.choices("0123456789", k=self.text_tokens))}]
        if draw.random() < self.pictures:
            content.insert(0, {"type": "image_url", "image_url": {"url": picture(number, self.side)}})
        tokens = draw.randint(self.tokens // 2, self.tokens + self.tokens // 2)
        body = {"messages": [{"role": "user", "content": content}], "max_tokens": tokens, "temperature": 0}
        leaves = draw.randrange(tokens) if draw.random() < self.leaving else None
        return body | {"stream": True, "ignore_eos": True}, leaves


def picture(number: int, side: int) -> str:
    """A JPEG of smooth colours, of which no two are alike, as a data URI."""
    small = np.random.default_rng(number).integers(0, 256, (4, 4, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(small).resize((side, side), Image.Resampling.BICUBIC).save(file, "JPEG")
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


@dataclass
class Told:
    """What a client saw.

    Attributes:
        status: of HTTP; 0 where the connection broke.
        sent: when the request was, by `perf_counter`.
        times: when each piece of the answer came.
        ended: whether the stream said so itself.
    """

    status: int = 0
    sent: float = 0.0
    times: list[float] = field(default_factory=list)
    left: bool = False
    ended: bool = False
    error: str = ""

    @property
    def kind(self) -> str:
        """How it went: done, left, refused or failed."""
        if self.left:
            return "left"
        if self.status == 503:
            return "refused"
        return "done" if self.ended and self.times and not self.error else "failed"


async def ask(port: int, body: dict, leaves: int | None) -> Told:
    """One request, and its stream until it ends or the client leaves."""
    told = Told(sent=perf_counter())
    try:
        async with asyncio.timeout(PATIENCE):
            await _ask(told, port, json.dumps(body).encode(), leaves)
    except (OSError, asyncio.IncompleteReadError, ValueError) as error:
        told.error = f"{type(error).__name__}: {error}"
    return told


async def _ask(told: Told, port: int, body: bytes, leaves: int | None) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()
        if leaves == 0:
            told.left = True
            return
        told.status = int((await reader.readline()).split()[1])
        async for line in reader:  # the sizes of chunks are lines too
            if told.status != 200:
                told.error += line.decode(errors="replace")
            elif line.startswith(b"data: [DONE]"):
                told.ended = True
            elif line.startswith(b'data: {"error"'):
                told.error = line.decode(errors="replace")
            elif line.startswith(b"data: ") and _has_text(line):
                told.times.append(perf_counter())
                if len(told.times) == leaves:
                    told.left = True
                    return
    finally:
        writer.close()


def _has_text(line: bytes) -> bool:
    choices = json.loads(line[6:]).get("choices")
    return bool(choices and choices[0]["delta"].get("content"))


class Clients:
    """Ask a server by a workload, each request another one.

    Attributes:
        told: of all requests so far.
    """

    def __init__(self, port: int, workload: Workload, first: int = 0):
        self._port, self._workload, self._numbers = port, workload, itertools.count(first)
        self.told: list[Told] = []

    async def _one(self) -> None:
        body, leaves = await asyncio.to_thread(self._workload.asked, next(self._numbers))
        self.told.append(await ask(self._port, body, leaves))

    async def in_turn(self, clients: int, seconds: float) -> None:
        """So many clients at a time, each of which asks again when it was answered, until the time is up."""
        until = perf_counter() + seconds

        async def client() -> None:
            while perf_counter() < until:
                await self._one()

        await asyncio.gather(*(client() for _ in range(clients)))

    async def arriving(self, rate: float, seconds: float, every_second: Callable[[], Awaitable[None]]) -> None:
        """So many new clients a second at random times (a Poisson process), whether or not others have been answered."""
        draw, asking, started = random.Random(0), set(), perf_counter()
        arrival = told = 0.0
        while arrival < seconds:
            await asyncio.sleep(max(0.0, started + arrival - perf_counter()))
            one = asyncio.create_task(self._one())
            asking.add(one)
            one.add_done_callback(asking.discard)
            arrival += draw.expovariate(rate)
            if arrival >= told:
                await every_second()
                told = arrival + 1
        await asyncio.gather(*asking)


def percentiles(values: list[float]) -> str:
    """p50 and p95, in milliseconds."""
    if not values:
        return "none"
    middle, high = np.percentile(values, [50, 95]) * 1000
    return f"{middle:.0f} / {high:.0f}"


def firsts(told: list[Told]) -> list[float]:
    """Seconds to the first token of the answers that came whole."""
    return [each.times[0] - each.sent for each in told if each.kind == "done"]


def gaps(told: list[Told]) -> list[float]:
    """Seconds of a token after the first, of each such answer on average."""
    whole = [each.times for each in told if each.kind == "done" and len(each.times) > 1]
    return [(times[-1] - times[0]) / (len(times) - 1) for times in whole]
