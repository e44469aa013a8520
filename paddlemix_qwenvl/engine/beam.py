"""Beam search on the key-value cache, scored by PaddleNLP's `BeamSearchScorer`."""

from __future__ import annotations

import time

import numpy as np
import paddle
from paddle.nn import functional as F
from paddlenlp.generation.utils import BeamSearchScorer

from paddlemix_qwenvl.engine.decode import Answer, Step
from paddlemix_qwenvl.engine.finite import Watch
from paddlemix_qwenvl.engine.settings import GenerationSettings

_NEVER = -1e9


def beam_search(step: Step, prompt_ids, settings: GenerationSettings) -> Answer:
    """The best of `settings.num_beams` continuations of each row; arguments as `generate_tokens`."""
    started = time.perf_counter()
    (batch, length), beams, vocab = prompt_ids.shape, settings.num_beams, step.logits.shape[-1]
    scorer = BeamSearchScorer(
        batch_size=batch,
        max_length=length + settings.max_new_tokens,
        num_beams=beams,
        length_penalty=settings.length_penalty,
        do_early_stopping=settings.early_stopping,
    )
    ends = settings.eos_token_ids
    eos, known_as = (ends[0] if ends else None), np.arange(vocab)
    known_as[ends] = ends[:1]  # the scorer knows one end token
    known_as = paddle.to_tensor(known_as)
    rows = paddle.arange(batch * beams) // beams
    step.cache.reorder(rows)
    ids, logits = prompt_ids.index_select(rows), step.logits.index_select(rows)
    scores = paddle.where(paddle.arange(batch * beams) % beams == 0, 0.0, _NEVER)
    watch = Watch(step.dtype)
    for count in range(1, settings.max_new_tokens + 1):
        watch.add(logits)
        if count <= settings.min_new_tokens and ends:
            logits[:, ends] = _NEVER
        totals = _penalised(F.log_softmax(logits, axis=-1), ids, settings) + scores.unsqueeze(-1)
        best, chosen = paddle.topk(totals.reshape([batch, beams * vocab]), max(2, 1 + len(ends)) * beams, axis=1)
        tokens, origins = known_as[chosen % vocab], chosen // vocab
        taken = scorer.process(
            ids, best, tokens, origins, origin_len=length, pad_token_id=settings.pad_token_id, eos_token_id=eos
        )
        scores, next_tokens = taken["next_beam_scores"], taken["next_beam_tokens"]
        beam_rows = paddle.maximum(taken["next_beam_indices"], paddle.zeros_like(taken["next_beam_indices"]))
        ids = paddle.concat([ids.index_select(beam_rows), next_tokens.unsqueeze(-1)], axis=1)
        if scorer.is_done or count == settings.max_new_tokens:
            break
        step.cache.reorder(beam_rows)
        logits = step.decode(next_tokens, step.cache)
    watch.look()
    found, final_scores = scorer.finalize(
        ids, scores, tokens, origins, origin_len=length, pad_token_id=settings.pad_token_id, eos_token_id=eos
    )
    return Answer(found[:, length:], final_scores.reshape([batch, 1]), time.perf_counter() - started)


def _penalised(log_probabilities, ids, settings: GenerationSettings):
    """Tokens that were there before count less, by transformers' rule for beams: the penalty multiplies log-probabilities."""
    if settings.repetition_penalty == 1.0:
        return log_probabilities
    seen = paddle.take_along_axis(log_probabilities, ids, axis=-1)
    return paddle.put_along_axis(log_probabilities, ids, seen * settings.repetition_penalty, axis=-1)
