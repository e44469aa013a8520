"""Random answers under a grammar: what a model that knows nothing would write."""

import random
from collections.abc import Sequence

import numpy as np
from hub_model import MERGES
from qwen_vl_model import BYTES, FILLERS

from paddlemix_qwenvl.engine.grammar import Grammar, Matcher, Vocabulary
from paddlemix_qwenvl.models.auto import find_family
from paddlemix_qwenvl.models.qwen_vl.tokenizer import QWenVLTokenizer
from paddlemix_qwenvl.models.tokenizer import Tokenizer
from paddlemix_qwenvl.models.tokenizer_settings import TokenizerSettings

HURRY = ('"', "}", "]", "</box>", "<|box_end|>")
"""With these an answer comes to an end: strings before what they are in."""


def demo() -> tuple[Tokenizer, Vocabulary]:
    """The demo's tokenizer, of Qwen2's kind, under its model's vocabulary of 832."""
    tokenizer = find_family("demo").load("tokenizer").from_pretrained("demo")
    return tokenizer, Vocabulary.of(tokenizer, 832, tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"]))


def qwen_vl() -> tuple[Tokenizer, Vocabulary]:
    """A small one of Qwen-VL's kind."""
    ranks = {token: rank for rank, token in enumerate(BYTES + MERGES + FILLERS)}
    tokenizer = QWenVLTokenizer(ranks, TokenizerSettings())
    return tokenizer, Vocabulary.of(tokenizer, len(tokenizer) + 7, [tokenizer.eod_id, tokenizer.im_end_id])


def allowed(matcher: Matcher) -> list[int]:
    """The tokens of a mask."""
    return np.flatnonzero(np.unpackbits(matcher.mask().view(np.uint8), bitorder="little")).tolist()


def answer(
    grammar: Grammar, tokenizer: Tokenizer, seed: int, patience: int = 40, begun: Sequence[int] = ()
) -> tuple[list[int], str]:
    """An answer's tokens and text without its end: after those that are there uniform draws, and once it has `patience` tokens
    whatever leads to an end."""
    draws, matcher, ids = random.Random(seed), grammar.matcher(), [*begun]
    for token in begun:
        matcher.accept(token)
    ends = grammar.vocabulary.end_ids
    hurry = [*ends, *tokenizer.convert_tokens_to_ids(HURRY)]
    while True:
        choices = allowed(matcher)
        if len(ids) >= patience:
            choices = next(([token] for token in hurry if token in choices), choices)
        token = draws.choice(choices)
        matcher.accept(token)
        if token in ends:
            assert matcher.ended
            return ids, tokenizer.decode(ids)
        ids.append(token)
        assert len(ids) < 2000
