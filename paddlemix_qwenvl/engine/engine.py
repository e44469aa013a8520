"""The one loop: requests in, and each step one pass of the model over some tokens of some of them."""

from __future__ import annotations

import math
import threading
from collections.abc import Container, Iterable
from dataclasses import replace
from itertools import count
from time import perf_counter

import numpy as np
import paddle

from paddlemix_qwenvl.device import to_device
from paddlemix_qwenvl.engine.batch import batch_of
from paddlemix_qwenvl.engine.beam import BeamSearch
from paddlemix_qwenvl.engine.block_manager import BlockManager
from paddlemix_qwenvl.engine.checks import checked
from paddlemix_qwenvl.engine.encoder import Encoder
from paddlemix_qwenvl.engine.events import Event, Failed, Progress, Token
from paddlemix_qwenvl.engine.finite import not_finite
from paddlemix_qwenvl.engine.group import Group
from paddlemix_qwenvl.engine.pace import Pace, spared_from
from paddlemix_qwenvl.engine.runner import Drawn, Runner, StepInputs
from paddlemix_qwenvl.engine.sampling import Row, draw, likeliest, rows_of
from paddlemix_qwenvl.engine.scheduler import Part, Plan, Scheduler
from paddlemix_qwenvl.engine.sequence import Request, Sequence
from paddlemix_qwenvl.errors import ContextError, GenerationError, ParallelError, QwenVLError

BLOCK_SIZE = 64
MAX_NUM_SEQS = 64
MAX_NUM_BATCHED_TOKENS = 512


class Engine:
    """Answers any number of requests at a time; an answer does not depend on the others. Threads may share one.

    Args:
        runner: the model.
        num_blocks: of the cache, which is made here.
        block_size: tokens of a block.
        max_num_seqs: sequences in a step, at most.
        max_num_batched_tokens: tokens of prompts in a step, at most; fewer where answers wait.
        prefix_cache: keep what was computed, and take from it what another prompt begins with.
        encoder_cache_bytes: of pictures' features that are kept; None for as much as the blocks take, 256 MiB at most.
    """

    def __init__(
        self,
        runner: Runner,
        num_blocks: int,
        block_size: int = BLOCK_SIZE,
        max_num_seqs: int = MAX_NUM_SEQS,
        max_num_batched_tokens: int = MAX_NUM_BATCHED_TOKENS,
        prefix_cache: bool = True,
        encoder_cache_bytes: int | None = None,
    ):
        self.runner, self.facts = runner, runner.facts
        self.blocks = BlockManager(num_blocks, block_size, prefix_cache)
        self._scheduler = Scheduler(self.blocks, max_num_seqs)
        self._pace = Pace(max_num_batched_tokens)
        if encoder_cache_bytes is None:
            encoder_cache_bytes = min(256 << 20, num_blocks * block_size * self.facts.bytes_per_token())
        self._encoder = Encoder(runner, encoder_cache_bytes)
        self._groups: dict[int, Group] = {}
        self._ids = count()
        self._events: list[Event] = []
        self._queued: tuple[list[Sequence], Drawn] | None = None
        self._lock = threading.Lock()
        runner.allocate(num_blocks, block_size)

    @property
    def busy(self) -> bool:
        """Whether there is anything to do or to tell."""
        return bool(self._groups or self._events)

    @property
    def running(self) -> int:
        """Sequences that have blocks."""
        return len(self._scheduler.running)

    @property
    def waiting(self) -> int:
        """Sequences that wait for blocks, or for their turn."""
        return len(self._scheduler.waiting)

    def add(self, request: Request) -> int:
        """Take a request; returns its number.

        Raises:
            GenerationError: settings that cannot be carried out.
            ContextError: a prompt that does not fit the context or the cache.
        """
        settings = checked(request, self.facts, self.blocks, self._scheduler.max_num_seqs)
        number = next(self._ids)
        seed = settings.seed
        if seed is None:
            seed = int(paddle.randint(0, 2**31 - 1, [1], dtype="int64")) if settings.do_sample else 0
        request = replace(request, settings=settings)
        sequence = Sequence(request, (request.priority, number, 0), seed)
        beams = BeamSearch(settings) if settings.num_beams > 1 else None
        with self._lock:
            self._groups[number] = Group(request, [sequence], beams)
            self._scheduler.add(sequence)
        return number

    def cancel(self, request_id: int, index: int | None = None) -> None:
        """End a request, or one of its answers; the next step tells what there is of them.

        Raises:
            GenerationError: there is no such request or answer, or it has ended.
        """
        with self._lock:
            self._cancel(request_id, index)

    def _cancel(self, request_id: int, index: int | None) -> None:
        if request_id not in self._groups:
            raise GenerationError(f"request {request_id!r} is unknown or has ended: cancel what add returned, once.")
        group = self._groups[request_id]
        if index is None or (index == 0 and group.request.settings.num_return_sequences == 1):
            return self._cancel_all(group)
        chosen = [each for each in group.sequences if each.index == index]
        if not chosen or not group.is_forked or group.beams is not None:
            raise GenerationError(
                f"answer {index!r} of request {request_id} has not begun or has ended: cancel the request, or an answer once."
            )
        self._finish(chosen[0], "cancelled")

    def discard(self, request_id: int) -> None:
        """End a request, if it has not ended, of which nothing is to be told any more."""
        with self._lock:
            for sequence in [*self._groups[request_id].sequences] if request_id in self._groups else []:
                self._drop(sequence)
            self._events = [event for event in self._events if event.request_id != request_id]

    def step(self, request_ids: Container[int] | None = None) -> list[Event]:
        """Compute some tokens, and tell what has come of them.

        Args:
            request_ids: those that are told of, the others' events wait for whoever asks for them; None for all.
        """
        with self._lock:
            self._run(self._plan())
            asked = [request_ids is None or event.request_id in request_ids for event in self._events]
            events = [event for event, told in zip(self._events, asked, strict=True) if told]
            self._events = [event for event, told in zip(self._events, asked, strict=True) if not told]
        return events

    def run(self) -> Iterable[Event]:
        """Steps until all requests are done."""
        while self.busy:
            yield from self.step()

    def forget(self) -> None:
        """Drop what is kept of prompts and pictures, as when the weights have changed."""
        with self._lock:
            self.blocks.forget()
            self._encoder.forget()

    def _cancel_all(self, group: Group) -> None:
        if group.beams is not None:
            return self._finish_beams(group, [*group.sequences], "cancelled")
        for sequence in self._forked(group.sequences[0]) if not group.is_forked else [*group.sequences]:
            self._finish(sequence, "cancelled")

    def _plan(self) -> Plan:
        scheduler = self._scheduler
        plan = scheduler.plan(self._pace.budget_beside(scheduler.running, scheduler.waiting), self._drafts)
        while not plan.parts and scheduler.waiting:
            plan = scheduler.plan(self._pace.most, self._drafts)
            if plan.parts:
                break
            stuck = self._group_of(scheduler.waiting[0])
            self._fail(stuck, ContextError("the cache has no room left for this request: use a larger one."))
        return plan

    def _drafts(self, sequence: Sequence) -> list[int]:
        if self._group_of(sequence).beams is not None:
            return []
        room = min(self.facts.context, sequence.ids.size) - sequence.length - 1
        drafts = sequence.lookup.drafts(sequence.ids[: sequence.length], room)
        return drafts[: sequence.matcher.accepted(drafts)] if sequence.matcher and drafts else drafts

    def _run(self, plan: Plan) -> None:
        """One pass of the model, and what follows from it."""
        if plan.copies:
            self.runner.copy_blocks(plan.copies)
        goes_ahead = self.runner.is_asynchronous and plan.may_be_read_late
        if not goes_ahead:
            self._read()
        decoding = sum(part.sequence.remaining == 1 for part in plan.parts)
        parts = self._encode(plan.parts)
        if not parts:
            return
        started = perf_counter()
        for part in parts:
            part.sequence.clock.started = part.sequence.clock.started or started
        prompt_tokens = sum(part.count for part in parts if part.sequence.remaining > 1)
        inputs, features = batch_of(parts, self.blocks.block_size)
        if goes_ahead:
            self._go_ahead([part.sequence for part in parts], inputs)
        else:
            self._advance(parts, self.runner.step(inputs, features))
        self._pace.took(perf_counter() - started, decoding, prompt_tokens)

    def _encode(self, parts: list[Part]) -> list[Part]:
        """Have the pictures of these encoded; returns those that can be computed then. Beside answers that are to be spared the
        first prompt's picture takes the time that the step has for prompts, and those behind it wait.
        """
        spared, ready, waits = spared_from(self._scheduler.running), [], False
        decoding = any(part.sequence.remaining == 1 for part in parts)
        for part in parts:
            sequence, is_prompt = part.sequence, part.sequence.remaining > 1
            if not self._lives(sequence) or (waits and is_prompt):
                continue
            seconds = 0.0 if any(each.sequence.remaining > 1 for each in ready) else self._pace.spare
            try:
                if self._encoder.encode(part, decoding, math.inf if sequence.clock.added < spared else seconds):
                    ready.append(part)
                else:
                    waits = True
            except ParallelError:  # no request's fault: the ranks are out of step
                raise
            except Exception as error:
                self._fail(self._group_of(sequence), error)
        return [part for part in ready if self._lives(part.sequence)]

    def _go_ahead(self, sequences: list[Sequence], inputs: StepInputs) -> None:
        """Queue one token more of each, and take those that the step before drew."""
        drawn = self.runner.decode(inputs, [row for each in sequences for row in rows_of(each, [])])
        self._read()
        self._queued = sequences, drawn
        for row, sequence in enumerate(sequences):
            sequence.computed += 1
            sequence.expect(row)
        if any(sequence.total == sequence.ids.size for sequence in sequences):  # it ends, whatever it is
            self._read()

    def _read(self) -> None:
        """Take the tokens that were drawn and not read. What an answer had computed after its end is nobody's."""
        if self._queued is not None:
            (sequences, drawn), self._queued = self._queued, None
            self._take([(each, []) for each in sequences], *drawn.read(), [()] * len(sequences))

    def _advance(self, parts: list[Part], logits) -> None:
        """Count in what was computed, and draw the next tokens."""
        rows: list[Row] = []
        takers: list[tuple[Sequence, list[int]]] = []
        chosen: list[int] = []
        first = 0
        for part, completes in [(part, part.completes) for part in parts]:
            sequence, width = part.sequence, 1 + len(part.drafts)
            first += width if completes else 0
            if sequence.key[1] not in self._groups:
                continue  # another answer to the same request failed
            sequence.computed += part.count
            if sequence.length == sequence.prompt_length:
                self._tell(Progress(sequence.key[1], sequence.computed, sequence.prompt_length))
            self._scheduler.know(sequence)
            if not completes:
                continue
            for each in self._forked(sequence):
                if self._group_of(each).beams is not None:
                    self._group_of(each).logits[each.index] = logits[first - 1].clone()  # a view otherwise
                    continue
                try:
                    rows += rows_of(each, part.drafts)
                except QwenVLError as error:  # its grammar cannot go on
                    self._fail(self._group_of(each), error)
                    break
                takers.append((each, part.drafts))
                chosen += range(first - width, first)
        if rows:
            whole = chosen == list(range(logits.shape[0]))
            logits_of_rows = logits if whole else logits.index_select(to_device(chosen))
            tokens, scores = draw(logits_of_rows, rows)
            self._take(takers, tokens.tolist(), scores.tolist(), likeliest(logits_of_rows, rows))
        for group in [group for group in self._groups.values() if len(group.logits) == group.width > 1]:
            self._advance_beams(group)

    def _forked(self, sequence: Sequence) -> list[Sequence]:
        """The sequences that go on from this one's logits: itself, and after a prompt all answers to it."""
        group = self._group_of(sequence)
        sequence.features = {}
        if group.is_forked:
            return [sequence]
        group.is_forked = True
        for index in range(1, group.width):
            twin = sequence.fork((*sequence.key[:2], index), index)
            self._scheduler.run(twin)
            group.sequences.append(twin)
        return [*group.sequences]

    def _take(
        self,
        takers: list[tuple[Sequence, list[int]]],
        tokens: list[int],
        scores: list[float],
        tops: list[tuple[tuple[int, float], ...]],
    ) -> None:
        """Each sequence takes its new tokens, up to the first that its draft had not."""
        at = 0
        for sequence, drafts in takers:
            accepted, reason, start, at = -1, None, at, at + 1 + len(drafts)
            if not self._lives(sequence):
                continue  # another answer to the same request failed, or it has ended before this token was read
            if not np.isfinite(scores[start:at]).all():
                self._fail(self._group_of(sequence), not_finite(self.facts.dtype))
                continue
            try:
                drawn = zip(tokens[start:at], scores[start:at], tops[start:at], strict=True)
                for (token, score, top), draft in zip(drawn, [*drafts, None], strict=True):
                    reason, accepted = self._append(sequence, token, score, top), accepted + 1
                    if reason or token != draft:
                        break
            except QwenVLError as error:
                self._fail(self._group_of(sequence), error)
                continue
            sequence.computed += accepted
            if drafts:
                sequence.lookup.took(accepted, len(drafts))
            self._scheduler.know(sequence)
            if reason:
                self._finish(sequence, reason)

    def _append(self, sequence: Sequence, token: int, score: float, top: tuple[tuple[int, float], ...]) -> str | None:
        sequence.clock.first_token = sequence.clock.first_token or perf_counter()
        reason = sequence.append(token, score)
        text = sequence.text.add(token) if sequence.text else ""
        self._tell(Token(sequence.key[1], sequence.index, token, score, text, top))
        return reason

    def _advance_beams(self, group: Group) -> None:
        """One token more for a beam search."""
        beams = sorted(group.sequences, key=lambda each: each.index)
        logits, group.logits = paddle.stack([group.logits[each.index] for each in beams]), {}
        if not float(logits.sum()) < math.inf:  # minus infinity rules a token out
            return self._fail(group, not_finite(self.facts.dtype))
        choice = group.beams.advance(logits, np.stack([each.ids[: each.length] for each in beams]))
        if choice is None:
            ended = group.beams.answer[-1] in group.request.settings.eos_token_ids
            return self._finish_beams(group, beams, "stop" if ended else "length")
        twins = [beams[origin].fork((*beams[0].key[:2], i), i) for i, origin in enumerate(choice.origins)]
        for twin in twins:
            self._scheduler.run(twin)
        for each in beams:
            self._scheduler.remove(each)
        group.sequences = twins
        for twin, token in zip(twins, choice.tokens, strict=True):
            twin.clock.first_token = twin.clock.first_token or perf_counter()
            twin.append(token, 0.0)
            self._scheduler.know(twin)

    def _finish_beams(self, group: Group, beams: list[Sequence], reason: str) -> None:
        """The answer is the search's own, which has none before it is over."""
        for each in beams[1:]:
            self._drop(each)
        best, answer = beams[0], group.beams.answer
        best.length = best.prompt_length + len(answer)
        best.ids[best.prompt_length : best.length] = answer
        text = "".join(map(best.text.add, answer)) if best.text else ""
        self._finish(best, reason, group.beams.score, text)

    def _finish(self, sequence: Sequence, reason: str, score: float | None = None, text: str = "") -> None:
        finished = sequence.finished(reason, score, text)
        self._drop(sequence)
        self._tell(finished)

    def _drop(self, sequence: Sequence) -> None:
        """A sequence is done; with the last one its request is."""
        self._scheduler.remove(sequence)
        group = self._group_of(sequence)
        group.sequences.remove(sequence)
        if not group.sequences:
            del self._groups[sequence.key[1]]

    def _fail(self, group: Group, error: Exception) -> None:
        number = group.sequences[0].key[1]
        for sequence in [*group.sequences]:
            self._drop(sequence)
        self._tell(Failed(number, error))

    def _lives(self, sequence: Sequence) -> bool:
        """Whether its answer goes on."""
        return sequence.key[1] in self._groups and sequence in self._group_of(sequence).sequences

    def _group_of(self, sequence: Sequence) -> Group:
        return self._groups[sequence.key[1]]

    def _tell(self, event: Event) -> None:
        self._events.append(event)
