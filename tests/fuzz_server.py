"""Changed requests to a running server: it never fails, says nothing of the machine, and answers afterwards as before.

`python tests/fuzz_server.py COUNT [FIRST_SEED]` sends COUNT requests, several at once, and prints what came of them: how often
each status, what is wrong, and the slowest.
"""

from __future__ import annotations

import http.client
import json
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx
from changed_bodies import Sent, changed_request
from served import PICTURE, ROOT, Served, asked, data_uri, wait_until

CLIENTS = 6
PATIENCE = 300.0  # seconds; an answer may be as long as the context
LEAVES = 10  # one of so many streams is left at its first bytes
SEEN = "a green circle, two green stars and a blue star"
PRIVATE = re.compile(
    r"Traceback|File \"|site-packages|\w\.py\b|0x[0-9a-fA-F]{5,}|\b\d{1,3}(?:\.\d{1,3}){3}\b|::1\b"
    r"|(?<![\w.])/(?:etc|home|opt|proc|root|tmp|usr|var|work)\b|" + "|".join(map(re.escape, {str(ROOT), sys.prefix}))
)


@dataclass
class Answer:
    """What came of a request; status 0 for none, 1 for one that was left."""

    status: int
    text: str
    seconds: float = 0.0
    is_stream: bool = False


def send(address: str, seed: int) -> Answer:
    """Send the request of a seed."""
    sent, started = changed_request(seed), time.perf_counter()
    try:
        answer = _answered(address.partition("//")[2], sent, leaves=seed % LEAVES == 0)
    except (OSError, http.client.HTTPException) as error:
        answer = Answer(0, f"{type(error).__name__}: {error}")
    answer.seconds = time.perf_counter() - started
    return answer


def _answered(host: str, sent: Sent, leaves: bool) -> Answer:
    connection = http.client.HTTPConnection(host, timeout=PATIENCE)
    try:
        connection.request("POST", sent.path, sent.body, sent.headers)
        response = connection.getresponse()
        is_stream = (response.getheader("Content-Type") or "").startswith("text/event-stream")
        if is_stream and leaves:
            response.read(1)
            return Answer(1, "")
        return Answer(response.status, response.read().decode(), is_stream=is_stream)
    finally:
        connection.close()


def wrong(answer: Answer, sent: Sent) -> Iterator[str]:
    """What may not be of an answer."""
    if answer.status == 1:
        return
    if answer.status == 0:
        yield f"no answer: {answer.text}"
        return
    if answer.status >= 500 and answer.status != 503:
        yield f"status {answer.status}"
    events = [answer.text]
    if answer.is_stream:
        events = [line[6:] for line in answer.text.splitlines() if line.startswith("data: ")]
        if not events or events.pop() != "[DONE]":
            yield "a stream without an end"
    for event in events:
        try:
            content = json.loads(event)
        except ValueError:
            yield f"no JSON: {event[:100]}"
            continue
        if "error" in content or answer.status >= 400:
            yield from _wrong_error(content, sent)


def _wrong_error(content: dict, sent: Sent) -> Iterator[str]:
    error = content.get("error")
    if not isinstance(error, dict) or set(error) != {"message", "type", "param", "code"}:
        yield f"an error of another form: {content}"
        return
    message = error["message"]
    if not message or len(message) > 600 or len(message.splitlines()) != 1:
        yield f"a message of no or several lines: {message[:200]!r}"
    given = sent.body.decode("utf-8", "replace")
    for found in PRIVATE.finditer(json.dumps(error)):
        if found[0] not in given:
            yield f"{found[0]!r} is told: {message[:300]!r}"


def alive(server: Served) -> None:
    """See that nothing is left of what was asked, and that the server answers as before.

    Raises:
        AssertionError: it does not.
    """
    wait_until(server.is_idle, lambda: f"{server.metrics()}\n{server.told()[-2000:]}")
    body = {"messages": asked("What do you see?", data_uri(PICTURE.read_bytes()))}
    answer = httpx.post(f"{server.address}/v1/chat/completions", json=body, timeout=PATIENCE)
    assert answer.json()["choices"][0]["message"]["content"] == SEEN


def run(address: str, seeds: range) -> Iterator[tuple[int, Answer]]:
    """What comes of these seeds, several at once."""
    with ThreadPoolExecutor(CLIENTS) as pool:
        yield from zip(seeds, pool.map(lambda seed: send(address, seed), seeds), strict=True)


def report(outcomes: Iterator[tuple[int, Answer]]) -> bool:
    """Print what came of requests; whether all of it may be."""
    statuses, faults, slowest = Counter(), {}, []
    for seed, answer in outcomes:
        sent = changed_request(seed)
        statuses[sent.path, answer.status] += 1
        for fault in wrong(answer, sent):
            faults.setdefault(fault[:60], (seed, fault))
        slowest = sorted([*slowest, (answer.seconds, seed)], reverse=True)[:5]
    for (path, status), count in sorted(statuses.items()):
        print(f"{count:6} {path:24} {status}")
    print("wrong:", *(f"seed {seed}: {fault}" for seed, fault in faults.values()), sep="\n  ")
    print("slowest:", *(f"{seconds:.2f} s seed {seed}" for seconds, seed in slowest), sep="\n  ")
    return not faults


if __name__ == "__main__":
    count, first = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0
    with tempfile.TemporaryDirectory() as scratch, Served(Path(scratch)) as server:
        is_sound = report(run(server.address, range(first, first + count)))
        alive(server)
    sys.exit(not is_sound)
