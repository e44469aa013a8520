"""The one thread that has the model: it loads it, steps its engine, and tells the event loops what comes of their requests."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Literal, TypeVar

from paddlemix_qwenvl.engine.engine import Engine
from paddlemix_qwenvl.engine.events import Event, Failed, Finished
from paddlemix_qwenvl.engine.sequence import Request
from paddlemix_qwenvl.engine.session import Assistant
from paddlemix_qwenvl.progress import OnProgress
from paddlemix_qwenvl.server.errors import RETRY_AFTER, RequestError
from paddlemix_qwenvl.server.metrics import Metrics
from paddlemix_qwenvl.server.protocol import Health

BEAT_SECONDS = 5.0  # between signs of life to the other ranks, whose waits end after 30
PREPARING = 4  # at a time, of what is made at once, and as many of what takes long
_THREADS = 16  # those of preparations that were given up included
_LOG = logging.getLogger(__name__)
T = TypeVar("T")


class _Mail:
    """Events of the requests of one HTTP request on their way to its event loop."""

    def __init__(self):
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[tuple[int, Event]] = asyncio.Queue()
        self.get = self._events.get

    def put(self, position: int, event: Event) -> None:
        """From any thread. What a loop that has ended was to hear is lost."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._events.put_nowait, (position, event))


class Answers:
    """What comes of the requests of one HTTP request: an async iterator of (position of the request, event) until each has
    finished or failed. Closed before that, or dropped, it ends them.

    Args:
        mail: where the events come.
        count: of the requests.
        end: is called to end them.
    """

    def __init__(self, mail: _Mail, count: int, end: Callable[[_Mail], None]):
        self._mail, self._left, self._end = mail, count, end

    def __aiter__(self) -> Answers:
        return self

    async def __anext__(self) -> tuple[int, Event]:
        if not self._left:
            raise StopAsyncIteration
        position, event = await self._mail.get()
        self._left -= isinstance(event, Finished | Failed)
        return position, event

    async def aclose(self) -> None:
        """End what has not ended."""
        self.__del__()

    def __del__(self):
        if self._left:
            self._left = 0
            self._end(self._mail)


class Service:
    """A model that is loaded and asked on a thread of its own.

    Args:
        load: makes the assistant, and says how far it is.
        model_names: that it is served by.
        prepare_seconds: that the making of a request may take.
        stuck_seconds: after which a step is reported.
        hung_seconds: after which nobody waits for it any more.

    Attributes:
        assistant: None while it loads.
        progress: of loading, 0 to 1.
        error: what loading or the engine failed with.
    """

    def __init__(
        self,
        load: Callable[[OnProgress], Assistant],
        model_names: Sequence[str],
        prepare_seconds: float = 60.0,
        stuck_seconds: float = 60.0,
        hung_seconds: float = 600.0,
    ):
        self.model_names = [*model_names]
        self.assistant: Assistant | None = None
        self.state: Literal["loading", "ready", "draining", "failed"] = "loading"
        self.progress = 0.0
        self.error: BaseException | None = None
        self.metrics = Metrics(self.model_names[0], self.stuck_for)
        self._load, self._prepare_seconds = load, prepare_seconds
        self._stuck_seconds, self._hung_seconds = stuck_seconds, hung_seconds
        self._orders: SimpleQueue[Callable[[Engine], None]] = SimpleQueue()
        self._open: dict[int, tuple[_Mail, int]] = {}
        self._stopping = False
        self._step_began: float | None = None
        self._reported: float | None = None
        self._given_up: float | None = None
        self._preparers = ThreadPoolExecutor(_THREADS, "prepare")
        self._lanes = {takes_long: asyncio.Semaphore(PREPARING) for takes_long in (False, True)}
        self._thread = threading.Thread(target=self._work, name="engine", daemon=True)

    def start(self) -> None:
        """Begin to load."""
        self._thread.start()

    def drain(self) -> None:
        """From now on nothing new is taken."""
        if self.state != "failed":
            self.state = "draining"

    def stop(self, seconds: float) -> bool:
        """End the thread when its step is over; whether it did within this time."""
        self._stopping = True
        self._orders.put(lambda _: None)
        self._preparers.shutdown(wait=False, cancel_futures=True)
        self._thread.join(seconds)
        return not self._thread.is_alive()

    async def prepare(self, make: Callable[[], T], takes_long: bool = False) -> T:
        """What a function returns that runs on a thread, apart from the event loop.

        What takes long keeps nothing else waiting. What is given up, after a while or because the client has left, makes room for
        the next; its thread goes on to the end, which the limits of a request set.

        Raises:
            RequestError: it took too long.
            Exception: what it raises.
        """

        async def in_turn() -> T:
            async with self._lanes[takes_long]:
                return await asyncio.wrap_future(self._preparers.submit(make))

        try:
            return await asyncio.wait_for(in_turn(), self._prepare_seconds)
        except asyncio.TimeoutError:
            raise RequestError(
                "the request took too long to prepare: send less at a time, or try again later.",
                503,
                code="timeout",
                retry_after=RETRY_AFTER,
            ) from None

    async def run(self, requests: Sequence[Request]) -> Answers:
        """Have these answered, beside all others.

        Raises:
            RequestError: the engine has failed, or hangs.
            QwenVLError: the engine cannot answer one of them; then none is.
        """
        if self._hangs:
            raise _engine_hangs()
        mail, added = _Mail(), Future()
        answers = Answers(mail, len(requests), self._end)
        self._orders.put(partial(self._add, requests=requests, mail=mail, added=added))
        try:
            await asyncio.wait_for(asyncio.wrap_future(added), self._hung_seconds)
        except asyncio.TimeoutError:
            raise _engine_hangs() from None
        return answers

    def health(self) -> Health:
        """How the service is."""
        engine = self.assistant and self.assistant.engine
        return {
            "state": "stuck" if self._hangs else self.state,
            "progress": self.progress,
            "running": engine.running if engine else 0,
            "waiting": engine.waiting if engine else 0,
            "stuck_seconds": round(self.stuck_for(), 1),
        }

    def stuck_for(self) -> float:
        """Seconds of a step that takes too long; 0 where none does. The first time it is logged where it is."""
        began = self._step_began
        seconds = 0.0 if began is None else monotonic() - began
        if seconds < self._stuck_seconds:
            return 0.0
        if self._reported != began:
            self._reported = began
            frame = sys._current_frames().get(self._thread.ident)
            stack = "".join(traceback.format_stack(frame)) if frame else ""
            _LOG.warning("a step of the engine has taken %.0f s so far; it is here:\n%s", seconds, stack)
        return seconds

    def watch(self) -> None:
        """To be called often: a step that takes too long is reported, and from a certain time on nobody waits for it. The engine
        goes on where such a step ends after all."""
        began = self._step_began
        if self._hangs and self._given_up != began:
            self._given_up = began
            for number, (mail, position) in [
                *self._open.items()
            ]:  # which stay as they are: their thread is in the step
                mail.put(position, Failed(number, _engine_hangs()))

    @property
    def _hangs(self) -> bool:
        return self.stuck_for() >= self._hung_seconds

    def _work(self) -> None:
        """All of the thread."""
        try:
            began = monotonic()
            self.assistant = self._load(self._loaded)
            self.progress = 1.0
            _LOG.info("loaded in %.1f s", monotonic() - began)
            if self.state == "loading":
                self.state = "ready"
            self.assistant.lead(self._serve)
        except BaseException as error:
            self.error, self.state = error, "failed"
            if self.assistant is not None:
                _LOG.critical("the engine has failed", exc_info=error)
        self._fail()

    def _loaded(self, done: int, whole: int) -> None:
        self.progress = done / whole

    def _serve(self) -> None:
        engine = self.assistant.engine
        while not self._stopping:
            self._take_orders(engine)
            if engine.busy:
                self._step(engine)
            self.metrics.stepped(engine)

    def _step(self, engine: Engine) -> None:
        self._step_began = monotonic()
        try:
            events = engine.step()
        finally:
            self._step_began = None
        for event in events:
            if event.request_id not in self._open:
                continue
            self.metrics.told(event)
            mail, position = self._open[event.request_id]
            if isinstance(event, Finished | Failed):
                del self._open[event.request_id]
            mail.put(position, event)

    def _take_orders(self, engine: Engine) -> None:
        """Those there are; where there is nothing else to do, wait for one."""
        try:
            if not engine.busy:
                self._orders.get(timeout=BEAT_SECONDS)(engine)
            while True:
                self._orders.get_nowait()(engine)
        except Empty:
            if not engine.busy:
                engine.runner.beat()

    def _add(self, engine: Engine | None, requests: Sequence[Request], mail: _Mail, added: Future[None]) -> None:
        if not added.set_running_or_notify_cancel():  # the client has left
            return
        numbers = []
        try:
            if engine is None:
                raise _engine_failed()
            for request in requests:
                numbers.append(engine.add(request))
        except Exception as error:
            for number in numbers:
                engine.discard(number)
            return added.set_exception(error)
        self._open |= {number: (mail, position) for position, number in enumerate(numbers)}
        self.metrics.added(numbers)
        added.set_result(None)

    def _end(self, mail: _Mail) -> None:
        self._orders.put(partial(self._discard, mail=mail))

    def _discard(self, engine: Engine, mail: _Mail) -> None:
        for number in [number for number, (whose, _) in self._open.items() if whose is mail]:
            del self._open[number]
            engine.discard(number)
            self.metrics.discarded(number)

    def _fail(self) -> None:
        """There is no engine any more: nothing that is open or to come can be answered."""
        for number, (mail, position) in self._open.items():
            mail.put(position, Failed(number, _engine_failed()))
        self._open.clear()
        while not self._stopping:
            self._orders.get()(None)


def _engine_hangs() -> RequestError:
    text = "the engine is stuck in a step: try again later, or have the server started again."
    return RequestError(text, 503, code="engine_stuck", retry_after=60)


def _engine_failed() -> RequestError:
    return RequestError("the engine has failed: the server must be started again.", 503, code="engine_failed")
