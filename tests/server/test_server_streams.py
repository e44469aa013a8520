"""Pieces of answers, and clients that leave."""

import asyncio
import json

import pytest

from paddlemix_qwenvl.engine.events import Failed, Finished, Progress, Token
from paddlemix_qwenvl.errors import GenerationError
from paddlemix_qwenvl.server import streams
from paddlemix_qwenvl.server.errors import Gone
from paddlemix_qwenvl.server.protocol import Sampling
from paddlemix_qwenvl.server.streams import pieces, server_sent_events, unless_gone


class Client:
    """In a request's place: leaves when it is told to."""

    def __init__(self):
        self.left = asyncio.Event()

    async def receive(self) -> dict:
        await self.left.wait()
        return {"type": "http.disconnect"}


async def told(events):
    for event in events:
        yield event


def token(number: int, text: str) -> Token:
    return Token(0, 0, number, -1.0, text)


def finished(reason: str, *ids: int, text: str = "") -> Finished:
    return Finished(0, 0, reason, [*ids], 0.0, text)


def read(*events, **fields):
    async def run():
        return [piece async for piece in pieces(told(events), Sampling(**fields))]

    return [
        (one.index, one.text, [each.token_id for each in one.tokens], one.reason, one.stop)
        for one in asyncio.run(run())
    ]


def test_tokens_come_with_the_text_that_they_make():
    events = [(1, Progress(0, 1, 1)), (1, token(5, "a")), (0, token(6, "")), (1, token(7, "")), (1, token(8, "b"))]
    events += [(1, finished("length", 5, 7, 8)), (0, finished("cancelled", 6, text="c"))]
    assert read(*events) == [
        (1, "a", [5], None, None),
        (1, "b", [7, 8], None, None),
        (1, "", [], "length", None),
        (0, "c", [6], "length", None),
    ]


def test_what_stops_an_answer_is_said():
    events = [(0, token(5, "a")), (0, token(6, "b!")), (0, finished("stop", 5, 6))]
    assert read(*events, stop="b") == [(0, "a", [5], None, None), (0, "", [6], "stop", "b")]
    assert read(*events, stop=["x"], stop_token_ids=[6])[-1] == (0, "", [], "stop", 6)
    assert read(*events, stop_token_ids=[7])[-1] == (0, "", [], "stop", None)


def test_a_failure_is_raised():
    with pytest.raises(GenerationError, match="alas"):
        read((0, token(5, "a")), (0, Failed(0, GenerationError("alas"))))


def test_an_answer_is_given_up_when_the_client_leaves():
    """vLLM went on (54947)."""
    ended = []

    async def answer():
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(True)

    async def run():
        client = Client()
        asyncio.get_running_loop().call_later(0.01, client.left.set)
        await unless_gone(client, answer())

    with pytest.raises(Gone):
        asyncio.run(run())
    assert ended == [True]


def test_an_answer_or_its_error_is_handed_on():
    async def answer(error=None):
        if error:
            raise error
        return 7

    async def run(**kwargs):
        return await unless_gone(Client(), answer(**kwargs))

    assert asyncio.run(run()) == 7
    with pytest.raises(GenerationError):
        asyncio.run(run(error=GenerationError("alas")))


def lines_of(chunks, leave_after=None) -> list[str]:
    """Lines of a stream of these chunks, whose client may leave after some of them."""

    async def run():
        client, lines = Client(), []
        async for line in server_sent_events(client, chunks(), told([])):
            lines.append(line.decode())
            if len(lines) == leave_after:
                client.left.set()
        return lines

    return asyncio.run(run())


def test_chunks_are_lines_with_comments_while_there_are_none(monkeypatch):
    monkeypatch.setattr(streams, "PING_SECONDS", 0.01)

    async def chunks():
        yield {"a": "é"}
        await asyncio.sleep(0.05)
        yield {"b": 1}

    first, *pings, second, done = lines_of(chunks)
    assert (first, second, done) == ('data: {"a":"é"}\n\n', 'data: {"b":1}\n\n', "data: [DONE]\n\n")
    assert pings and {*pings} == {": ping\n\n"}


def test_a_stream_says_what_it_failed_with():
    async def chunks():
        yield {"a": 1}
        raise GenerationError("alas")

    _, error, done = lines_of(chunks)
    assert json.loads(error.removeprefix("data: "))["error"]["message"] == "alas" and done == "data: [DONE]\n\n"


def test_a_stream_is_closed_when_the_client_leaves():
    closed = []

    async def chunks():
        try:
            yield {"a": 1}
            await asyncio.sleep(60)
        finally:
            closed.append(True)

    assert lines_of(chunks, leave_after=1) == ['data: {"a":1}\n\n']
    assert closed == [True]
