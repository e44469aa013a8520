"""How many requests come in, and what others are told."""

import asyncio

import httpx
import pytest

from paddlemix_qwenvl.server.gate import Gate


class Busy:
    """An application and its service: requests stay until they may go."""

    def __init__(self):
        self.state, self.refusals, self.may_go = "ready", 0, asyncio.Event()
        self.metrics = self

    def refused(self):
        self.refusals += 1

    async def __call__(self, scope, receive, send):
        if scope["method"] == "POST":
            while (await receive()).get("more_body"):
                pass
            await self.may_go.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"whole"})


async def asked(gate, method="POST"):
    async with httpx.AsyncClient(transport=httpx.ASGITransport(gate), base_url="http://here") as client:
        return await client.request(method, "/")


@pytest.mark.parametrize("state", ["ready", "draining"])
def test_what_came_in_is_answered_whole_and_the_rest_told_to_come_again(state):
    async def run():
        busy = Busy()
        gate = Gate(busy, busy, 2)
        inside = [asyncio.ensure_future(asked(gate)) for _ in range(2)]
        while gate.inside < 2:
            await asyncio.sleep(0)
        busy.state = state
        refused, looked = await asked(gate), await asked(gate, "GET")
        busy.may_go.set()
        return busy, gate, refused, looked, await asyncio.gather(*inside)

    busy, gate, refused, looked, inside = asyncio.run(run())
    assert (refused.status_code, int(refused.headers["retry-after"]) > 0) == (503, True)
    assert refused.json()["error"]["code"] == ("queue_full" if state == "ready" else "draining")
    assert busy.refusals == (state == "ready")
    assert looked.text == "whole" and [each.text for each in inside] == ["whole", "whole"]
    assert gate.inside == 0


def test_a_body_that_never_comes_takes_no_place():
    async def run():
        gate = Gate(Busy(), Busy(), 1)
        scope = {"type": "http", "method": "POST"}
        waiting = asyncio.ensure_future(gate(scope, asyncio.Event().wait, None))
        await asyncio.sleep(0.01)
        inside = gate.inside
        waiting.cancel()
        return inside

    assert asyncio.run(run()) == 0
