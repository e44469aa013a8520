"""Whether an engine can answer a request."""

from __future__ import annotations

from paddlemix_qwenvl.engine.block_manager import BlockManager
from paddlemix_qwenvl.engine.capacity import blocks_needed
from paddlemix_qwenvl.engine.runner import Facts
from paddlemix_qwenvl.engine.sequence import Request
from paddlemix_qwenvl.engine.settings import GenerationSettings
from paddlemix_qwenvl.errors import ContextError, GenerationError, PromptError


def checked(request: Request, facts: Facts, blocks: BlockManager, max_num_seqs: int) -> GenerationSettings:
    """The request's settings, with as many new tokens as fit the context.

    Raises:
        GenerationError: settings that cannot be carried out.
        PromptError: a prompt without tokens.
        ContextError: a prompt that does not fit the context or the cache.
    """
    settings, length, context = request.settings, len(request.prompt.token_ids), facts.context
    if settings.num_return_sequences < 1 or settings.num_beams < 1:
        raise GenerationError(
            f"{settings.num_return_sequences} answers of {settings.num_beams} beams were asked for: ask for 1 at least."
        )
    if settings.width > max_num_seqs:
        raise GenerationError(
            f"{settings.width} answers at a time were asked for: this engine has {max_num_seqs} at most."
        )
    if settings.num_beams > 1 and (request.grammar or request.stop):
        raise GenerationError("beam search takes no grammar and no stop strings: leave them out, or num_beams.")
    if settings.num_beams > 1 and (settings.logit_bias or settings.presence_penalty or settings.frequency_penalty):
        raise GenerationError(
            "beam search takes no logit_bias, presence_penalty and frequency_penalty: leave them out, or num_beams."
        )
    if request.grammar and request.grammar.vocabulary.size != facts.vocab_size:
        raise GenerationError(
            f"the grammar is for {request.grammar.vocabulary.size} tokens and the model has {facts.vocab_size}: make it of the "
            f"model's own vocabulary."
        )
    if request.stop and request.decoder is None:
        raise GenerationError("stop strings need a decoder: give the tokenizer as well.")
    settings.check_vocabulary(facts.vocab_size)
    if not length:
        raise PromptError("the prompt has no tokens: give it one at least.")
    if length >= context:
        raise ContextError(
            f"the prompt has {length} tokens and the model's context is {context}: shorten it, or give fewer images, or where "
            f"the processor takes one, a smaller max_pixels."
        )
    settings = settings.within_context(length, context)
    size, there = blocks.block_size, blocks.num_blocks
    needed = blocks_needed(length, settings, size, blocks.prefix_cache)
    if needed > there:
        raise ContextError(
            f"the request takes up to {needed * size} tokens of the cache, which has {there * size}: give the engine a larger "
            f"kv_cache_gib, or ask for fewer new tokens, or give a shorter prompt."
        )
    return settings
