"""SIGTERM while streams run: each that was accepted ends whole, nobody new is let in, and the command ends by itself."""

import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import httpx
from served import PATIENCE, Served, asked

STREAMS, TOKENS = 8, 300


def body(number: int) -> dict:
    how = {"stream": True, "stream_options": {"include_usage": True}, "max_tokens": TOKENS, "ignore_eos": True}
    return {"messages": asked(f"What do you see? {number}"), **how}


def events(address: str, number: int, begun: Barrier) -> list[str]:
    """The data of a stream; `begun` is passed when its first piece is there."""
    found: list[str] = []
    with httpx.stream("POST", f"{address}/v1/chat/completions", json=body(number), timeout=PATIENCE) as response:
        assert response.status_code == 200
        for line in response.iter_lines():
            if line.startswith("data: "):
                found.append(line.removeprefix("data: "))
                if len(found) == 1:
                    begun.wait(PATIENCE)
    return found


def test_streams_end_whole(tmp_path):
    begun = Barrier(STREAMS + 1)
    with Served(tmp_path) as server, ThreadPoolExecutor(STREAMS) as pool:
        streams = [pool.submit(events, server.address, number, begun) for number in range(STREAMS)]
        begun.wait(PATIENCE)
        for _ in range(3):  # as Paddle's launcher does
            server.terminate()
            time.sleep(0.2)
        for stream in streams:
            *chunks, usage, done = stream.result()
            assert done == "[DONE]" and json.loads(usage)["usage"]["completion_tokens"] == TOKENS
            assert json.loads(chunks[-1])["choices"][0]["finish_reason"] == "length"
            assert not any("error" in json.loads(chunk) for chunk in chunks)
        assert server.process.wait(PATIENCE) == 0, server.told()
        assert "Traceback" not in server.told()


def test_nobody_is_let_in_afterwards(tmp_path):
    begun = Barrier(2)
    with Served(tmp_path) as server, ThreadPoolExecutor(1) as pool:
        stream = pool.submit(events, server.address, 0, begun)
        begun.wait(PATIENCE)
        server.terminate()
        refused = 0
        while not stream.done() and not refused:
            try:
                late = httpx.post(
                    f"{server.address}/v1/chat/completions", json=body(1) | {"max_tokens": 1}, timeout=PATIENCE
                )
            except httpx.TransportError:
                refused = 1
            else:
                refused = late.status_code == 503  # those that came before the signal was seen are answered
        assert refused and stream.result()[-1] == "[DONE]"
        assert server.process.wait(PATIENCE) == 0, server.told()


def test_a_body_that_never_comes_does_not_keep_it(tmp_path):
    with Served(tmp_path) as server, socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: here\r\nContent-Length: 1000\r\n\r\n{")
        time.sleep(0.5)  # in which it is seen
        server.terminate()
        assert server.process.wait(PATIENCE) == 0, server.told()
