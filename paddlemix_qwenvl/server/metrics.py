"""What Prometheus is told, by vLLM's names with `qwenvl:` in place of `vllm:`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from time import monotonic

from fastapi import APIRouter
from fastapi.responses import Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from paddlemix_qwenvl.engine.engine import Engine
from paddlemix_qwenvl.engine.events import Event, Failed, Finished, Token

_SECONDS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0)
_TOKEN_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
_TOKENS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000, 100000)
_PARTS = {"waiting": "request_queue_time", "vision": "request_vision_time", "prefill": "request_prefill_time"}
_PARTS |= {"decode": "request_decode_time"}


@dataclass
class _Times:
    """Of a request that is open."""

    added: float
    last_token: float | None = None


class Metrics:
    """Counts what a service's engine does. Called on the engine's thread alone, but for `routes` and `refused`.

    Args:
        model_name: label of all of them.
        stuck_for: seconds of a step that takes too long, else 0.
    """

    def __init__(self, model_name: str, stuck_for: Callable[[], float]):
        self._registry = CollectorRegistry()
        self._model = model_name
        self._times: dict[int, _Times] = {}
        self._running = self._gauge("num_requests_running", "Sequences that are computed.")
        self._waiting = self._gauge("num_requests_waiting", "Sequences that wait for their turn.")
        self._cache = self._gauge("kv_cache_usage_perc", "Share of the cache's blocks that sequences hold, 0 to 1.")
        self._gauge("stuck_step_seconds", "Of a step that takes longer than any should.").set_function(stuck_for)
        self._first = self._histogram(
            "time_to_first_token_seconds", "From the engine's queue to a first token.", _SECONDS
        )
        self._next = self._histogram("inter_token_latency_seconds", "From token to token.", _TOKEN_SECONDS)
        self._each = self._histogram("request_time_per_output_token_seconds", "Mean of an answer.", _TOKEN_SECONDS)
        self._whole = self._histogram("e2e_request_latency_seconds", "From the engine's queue to the end.", _SECONDS)
        self._parts = {
            part: self._histogram(f"{name}_seconds", f"{part.capitalize()} of a request.", _SECONDS)
            for part, name in _PARTS.items()
        }
        self._prompts = self._counter("prompt_tokens", "Tokens of prompts.")
        self._generated = self._counter("generation_tokens", "Tokens of answers.")
        self._prompt = self._histogram("request_prompt_tokens", "Tokens of a prompt.", _TOKENS)
        self._answer = self._histogram("request_generation_tokens", "Tokens of an answer.", _TOKENS)
        self._queries = self._counter("prefix_cache_queries", "Tokens of prompts that were looked for in the cache.")
        self._hits = self._counter("prefix_cache_hits", "Tokens of prompts that were found there.")
        self._success = self._counter("request_success", "Answers, by how they ended.", "finished_reason")
        self._failed = self._counter("request_failed", "Requests that ended in an error.")
        self._refused = self._counter("request_refused", "Requests that found the queue full.")
        self._cancelled = self._counter("request_cancelled", "Requests whose client left.")

    def routes(self) -> APIRouter:
        """`/metrics`."""
        router = APIRouter(include_in_schema=False)

        @router.get("/metrics")
        def metrics() -> Response:
            return Response(generate_latest(self._registry), media_type=CONTENT_TYPE_LATEST)

        return router

    def added(self, numbers: Iterable[int]) -> None:
        """The engine has taken these."""
        now = monotonic()
        self._times |= {number: _Times(now) for number in numbers}

    def discarded(self, number: int) -> None:
        """Nobody waits for this one any more."""
        if self._times.pop(number, None):
            self._cancelled.inc()

    def refused(self) -> None:
        """One found no room."""
        self._refused.inc()

    def told(self, event: Event) -> None:
        """Something came of one."""
        now, times = monotonic(), self._times[event.request_id]
        if isinstance(event, Token):
            if times.last_token is None:
                self._first.observe(now - times.added)
            else:
                self._next.observe(now - times.last_token)
            times.last_token = now
            self._generated.inc()
        elif isinstance(event, Finished):
            self._finished(event, now - times.added)
            del self._times[event.request_id]
        elif isinstance(event, Failed):
            self._failed.inc()
            del self._times[event.request_id]

    def _finished(self, event: Finished, seconds: float) -> None:
        self._whole.observe(seconds)
        for part, histogram in self._parts.items():
            histogram.observe(event.seconds[part])
        count = len(event.token_ids)
        if count > 1:
            self._each.observe(event.seconds["decode"] / (count - 1))
        self._prompt.observe(event.prompt_tokens)
        self._answer.observe(count)
        self._prompts.inc(event.prompt_tokens)
        self._queries.inc(event.prompt_tokens)
        self._hits.inc(event.cached_tokens)
        self._success.labels(self._model, event.reason).inc()

    def stepped(self, engine: Engine) -> None:
        """How the engine stands."""
        self._running.set(engine.running)
        self._waiting.set(engine.waiting)
        self._cache.set(1 - engine.blocks.available / engine.blocks.num_blocks)

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(f"qwenvl:{name}", text, ["model_name"], registry=self._registry).labels(self._model)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
        made = Histogram(f"qwenvl:{name}", text, ["model_name"], registry=self._registry, buckets=buckets)
        return made.labels(self._model)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        made = Counter(f"qwenvl:{name}", text, ["model_name", *labels], registry=self._registry)
        return made if labels else made.labels(self._model)
