"""The thread that has the engine: what it is asked, and what happens when clients leave or it fails."""

import asyncio
import gc
import threading
import time

import pytest

from paddlemix_qwenvl.engine.events import Failed, Finished, Token
from paddlemix_qwenvl.engine.session import Assistant
from paddlemix_qwenvl.errors import GenerationError
from paddlemix_qwenvl.server.errors import RequestError
from paddlemix_qwenvl.server.service import PREPARING, Service

SECONDS = 60.0


@pytest.fixture(scope="module")
def assistant():
    return Assistant.load("demo")


@pytest.fixture
def own(assistant):
    """A service of the test's own, whose engine may break."""
    service = started(lambda _: assistant)
    yield service
    service.stop(SECONDS)


def started(load, **how) -> Service:
    service = Service(load, ["demo"], **how)
    service.start()
    wait_until(lambda: service.state != "loading")
    return service


def wait_until(is_so) -> None:
    until = time.monotonic() + SECONDS
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.005)


def request(assistant, tokens=4, **options):
    question = [{"role": "user", "content": "Locate all shapes."}]
    options = {"max_new_tokens": tokens, "min_new_tokens": tokens, "eos_token_id": []} | options
    return assistant.request(question, **options)[0]


async def events_of(service, *requests):
    return [each async for each in await service.run(requests)]


def is_idle(service) -> bool:
    engine = service.assistant.engine
    return not engine.busy and not service._open and engine.blocks.available == engine.blocks.num_blocks


def test_each_request_is_answered_by_its_place(own, assistant):
    found = asyncio.run(events_of(own, request(assistant, 3), request(assistant, 5)))
    ended = {place: event for place, event in found if isinstance(event, Finished)}
    assert [len(ended[place].token_ids) for place in (0, 1)] == [3, 5]
    assert ended[1].token_ids[:3] == ended[0].token_ids
    assert is_idle(own)


def test_what_the_engine_refuses_is_raised_and_the_rest_is_not_begun(own, assistant):
    bad = request(assistant)
    bad.settings.num_return_sequences = 1000
    with pytest.raises(GenerationError, match="1000 answers"):
        asyncio.run(own.run([request(assistant), bad]))
    assert is_idle(own)
    assert len(asyncio.run(events_of(own, request(assistant, 2)))) == 4  # progress, 2 tokens, end


@pytest.mark.parametrize("how", ["closed", "dropped", "dropped before it began"])
def test_a_client_that_leaves_ends_its_requests(own, assistant, how):
    async def leave():
        answers = await own.run([request(assistant, 1500)])
        if how != "dropped before it began":
            await anext(answers)
        if how == "closed":
            await answers.aclose()

    asyncio.run(leave())
    gc.collect()
    wait_until(lambda: is_idle(own))


def test_a_request_that_waits_is_cancelled_without_being_computed(own, assistant, monkeypatch):
    """The client leaves while the engine is in a step: its request never gets into the engine."""
    engine, going, may_go = assistant.engine, threading.Event(), threading.Event()
    step, add, added = engine.step, engine.add, []
    monkeypatch.setattr(engine, "step", lambda: (going.set(), may_go.wait(SECONDS), step())[2])
    monkeypatch.setattr(engine, "add", lambda one: added.append(one) or add(one))

    async def leave_early():
        first = asyncio.ensure_future(events_of(own, request(assistant, 2)))
        await asyncio.to_thread(going.wait, SECONDS)
        second = asyncio.ensure_future(own.run([request(assistant, 2)]))
        await asyncio.sleep(0)
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)
        may_go.set()
        await first

    asyncio.run(leave_early())
    assert len(added) == 1 and is_idle(own)


def test_an_error_of_one_request_is_its_own(own, assistant, monkeypatch):
    """A picture that the encoder cannot take (CVE-2026-22773: one of 1 x 1 ended the engine for all)."""
    from PIL import Image

    shown = [{"role": "user", "content": [{"type": "image", "image": Image.new("RGB", (56, 56))}]}]
    picture = assistant.request(shown, max_new_tokens=4)[0]

    def fail(_):
        raise ZeroDivisionError("in the encoder")

    monkeypatch.setattr(assistant.engine.runner, "encode", fail)

    async def both():
        return await asyncio.gather(events_of(own, picture), events_of(own, request(assistant, 9)))

    broken, whole = asyncio.run(both())
    assert [type(event) for _, event in broken] == [Failed] and isinstance(broken[0][1].error, ZeroDivisionError)
    assert sum(isinstance(event, Token) for _, event in whole) == 9
    assert own.state == "ready" and is_idle(own)


def test_an_error_of_the_engine_fails_all_and_is_logged(assistant, monkeypatch, caplog):
    """What is open ends with a fixed text, and what comes later, too; the log has the traceback."""
    service = started(lambda _: assistant)

    def fail(*_):
        raise MemoryError("0x7f00 at /secret")

    async def all_fail():
        answers = await service.run([request(assistant, 1000)])
        await anext(answers)
        monkeypatch.setattr(assistant.engine.runner, "step", fail)
        return [event async for _, event in answers]

    with caplog.at_level("CRITICAL"):
        last = asyncio.run(all_fail())[-1]
    assert isinstance(last, Failed) and str(last.error).startswith("the engine has failed")
    assert "/secret" not in str(last.error) and "MemoryError: 0x7f00 at /secret" in caplog.text
    assert service.health()["state"] == "failed"
    with pytest.raises(RequestError, match="the engine has failed") as raised:
        asyncio.run(service.run([request(assistant)]))
    assert raised.value.status == 503
    assert service.stop(SECONDS)
    for number in [*assistant.engine._groups]:
        assistant.engine.discard(number)


def test_loading_that_fails():
    def load(_):
        raise OSError("no such folder")

    service = started(load)
    assert service.state == "failed" and str(service.error) == "no such folder"
    assert service.health()["progress"] == 0.0 and service.stop(SECONDS)


def test_what_takes_long_to_prepare_is_given_up(assistant):
    """Patterns and templates from clients (CVE-2025-48944, CVE-2025-62426) neither hold up the loop nor run without end."""
    service, may_go = started(lambda _: assistant, prepare_seconds=0.05), threading.Event()
    ticks = []

    async def prepare():
        async def tick():
            while True:
                ticks.append(time.monotonic())
                await asyncio.sleep(0.005)

        ticking = asyncio.ensure_future(tick())
        try:
            await service.prepare(lambda: may_go.wait(SECONDS))
        finally:
            ticking.cancel()

    with pytest.raises(RequestError, match="took too long to prepare") as raised:
        asyncio.run(prepare())
    assert raised.value.status == 503 and len(ticks) > 2
    may_go.set()
    assert asyncio.run(service.prepare(lambda: 3)) == 3
    with pytest.raises(ZeroDivisionError):
        asyncio.run(service.prepare(lambda: 1 / 0))
    assert service.stop(SECONDS)


@pytest.mark.parametrize("takes_long", [True, False])
def test_four_slow_preparations_keep_no_fifth_one_waiting(assistant, takes_long):
    """Those that take long have turns of their own; and those that were given up, or whose client left, have none."""
    service, may_go = started(lambda _: assistant, prepare_seconds=0.05), threading.Event()

    async def run():
        slow = [service.prepare(lambda: may_go.wait(SECONDS), takes_long=True) for _ in range(PREPARING)]
        slow = [asyncio.ensure_future(each) for each in slow]
        slow[0].get_loop().call_soon(slow[0].cancel)
        await asyncio.sleep(0)
        fifth = await service.prepare(lambda: 5, takes_long)
        return fifth, await asyncio.gather(*slow, return_exceptions=True)

    fifth, slow = asyncio.run(run())
    assert fifth == 5 and not may_go.is_set()
    assert [type(each) for each in slow] == [asyncio.CancelledError, *[RequestError] * (PREPARING - 1)]
    may_go.set()
    assert service.stop(SECONDS)


def test_a_stuck_step_is_reported_once(assistant, monkeypatch, caplog):
    service, may_go = started(lambda _: assistant, stuck_seconds=0.05), threading.Event()
    step = assistant.engine.step

    def stuck():
        may_go.wait(SECONDS)
        return step()

    monkeypatch.setattr(assistant.engine, "step", stuck)

    async def run():
        answers = asyncio.ensure_future(events_of(service, request(assistant, 1)))
        while not service.stuck_for():
            await asyncio.sleep(0.01)
        assert service.health()["stuck_seconds"] > 0 and service.stuck_for() > 0
        assert metrics_of(service)["qwenvl:stuck_step_seconds"] > 0
        may_go.set()
        return await answers

    assert isinstance(asyncio.run(run())[-1][1], Finished)
    assert caplog.text.count("a step of the engine has taken") == 1 and "may_go.wait" in caplog.text
    assert service.health()["stuck_seconds"] == 0
    assert service.stop(SECONDS)


def test_nobody_waits_for_a_step_that_hangs(assistant, monkeypatch):
    """Those who wait are told, and so is who comes; if the step ends after all, the engine is there again."""
    service, may_go = started(lambda _: assistant, stuck_seconds=0.1, hung_seconds=1.0), threading.Event()
    step = assistant.engine.step
    monkeypatch.setattr(assistant.engine, "step", lambda: (may_go.wait(SECONDS), step())[1])

    async def run():
        open_ones = asyncio.ensure_future(events_of(service, request(assistant, 1), request(assistant, 2)))
        while not service.stuck_for():
            await asyncio.sleep(0.001)
        coming = asyncio.ensure_future(events_of(service, request(assistant, 1)))
        while service.health()["state"] != "stuck":
            await asyncio.sleep(0.001)
        service.watch()
        service.watch()
        with pytest.raises(RequestError, match="stuck in a step") as late:
            await service.run([request(assistant)])
        with pytest.raises(RequestError, match="stuck in a step"):
            await coming
        return await open_ones, late.value.status

    events, status = asyncio.run(run())
    assert [type(event) for _, event in events] == [Failed, Failed] and status == 503
    assert {str(event.error) for _, event in events} == {str(events[0][1].error)} and "stuck" in str(events[0][1].error)
    may_go.set()
    wait_until(lambda: service.health()["state"] == "ready")
    service._hung_seconds = SECONDS
    assert isinstance(asyncio.run(events_of(service, request(assistant, 1)))[-1][1], Finished)
    wait_until(lambda: is_idle(service))
    assert service.stop(SECONDS)


def metrics_of(service) -> dict[str, float]:
    from prometheus_client import generate_latest

    lines = generate_latest(service.metrics._registry).decode().splitlines()
    return {
        line.partition("{")[0]: float(line.rpartition(" ")[2])
        for line in lines
        if not line.startswith("#") and "_bucket" not in line
    }


def test_metrics(own, assistant):
    asyncio.run(events_of(own, request(assistant, 3), request(assistant, 5)))
    wait_until(lambda: metrics_of(own)["qwenvl:num_requests_running"] == 0)
    found = metrics_of(own)
    prompt = len(request(assistant).prompt.token_ids)
    assert found["qwenvl:prompt_tokens_total"] == found["qwenvl:prefix_cache_queries_total"] == 2 * prompt
    assert found["qwenvl:generation_tokens_total"] == 8 == found["qwenvl:request_generation_tokens_sum"]
    assert found["qwenvl:time_to_first_token_seconds_count"] == 2
    assert found["qwenvl:inter_token_latency_seconds_count"] == 6
    assert found["qwenvl:request_success_total"] == 2
    assert found["qwenvl:kv_cache_usage_perc"] == found["qwenvl:num_requests_waiting"] == 0
