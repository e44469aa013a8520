"""Grammars compiled by llguidance, each in a process of its own first: nothing that a user writes may stop the one that answers.

llguidance gives up on most of what is too large, but not on all: a few hundred bytes can keep it busy for minutes, fill the
memory or the stack. Run as a module, this reads one grammar and writes what is wrong with it.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path

SECONDS, MEMORY, STACK = 10, 2 << 30, 1 << 20
"""Of the process that tries a grammar; its stack is smaller than any that the grammar is compiled on later."""
_NAME = "paddlemix_qwenvl.engine.grammar_compiler"
_LEXER_STATES = 50_000  # 1 to 2 KB each
_WITHOUT_TAGS = r'[^"\\\x00-\x1F\x7F<>]{1,30}'
"""What labels of `grounding.schema` are made of: tokens that are all allowed or none are looked at together."""
_OPTIONS = '\n%llguidance {"no_forcing": true}\n'
_PLACE = "at 1(8): failed to compile JSON schema: "  # which is always there
_EXCERPT = re.compile(r"\n\s+\d+ \| |\n<non-verbose/>")


class _Tokens:
    """As llguidance takes a vocabulary. It asks for no ids of text, because nothing is forced."""

    is_tokenizer_wrapper, bos_token_id = True, None

    def __init__(self, tokens: list[bytes], special: Iterable[int], ends: Iterable[int]):
        self.tokens, self.special_token_ids = tokens, [*special]
        self.eos_token_id = next(iter(ends))


def tokenizer_of(tokens: list[bytes], special: Iterable[int], ends: Iterable[int]):
    """llguidance's `LLTokenizer`.

    Args:
        tokens: bytes of each id, b"" for none.
        special: ids that text is never made of.
        ends: ids that end an answer, one at least.
    """
    from llguidance import LLTokenizer

    slices = [*LLTokenizer.general_slices(), _WITHOUT_TAGS]
    return LLTokenizer(_Tokens(tokens, special, ends), eos_token=[*ends], slices=slices)


def compiled(text: str, tokenizer):
    """llguidance's `LLMatcher` of a Lark grammar, at its start.

    A token may follow if its bytes may, however a tokenizer would have cut the text: otherwise what one composes (NFC) or takes
    for a special token could not be written.

    Raises:
        ValueError: what is wrong with the grammar.
    """
    from llguidance import LLMatcher, LLParserLimits

    limits = LLParserLimits(max_lexer_states=_LEXER_STATES, verbose_errors=False)
    matcher = LLMatcher(tokenizer, text + _OPTIONS, log_level=0, limits=limits)
    if not matcher.is_error():
        matcher.compute_bitmask()
    if matcher.is_error():
        told = reason(matcher)
        raise ValueError("no answer fits it" if told == "NoExtensionBias" else told)
    return matcher


def reason(matcher) -> str:
    """Why an `LLMatcher` goes no further, on one line."""
    told = " ".join(_EXCERPT.split(matcher.get_error())[0].split()).removeprefix(_PLACE)
    return told if len(told) < 300 else f"{told[:100]} ... {told[-200:]}"


def try_out(text: str, special: Mapping[int, str], size: int, ends: Iterable[int]) -> None:
    """Compile a grammar in another process, with a vocabulary of single bytes and special tokens.

    Args:
        special: the special tokens by id.
        size, ends: of the model's vocabulary.

    Raises:
        ValueError: what is wrong with it; among that, that it takes too long or too much.
    """
    given = json.dumps({"text": text, "special": {**special}, "size": size, "ends": [*ends]})
    command = [sys.executable, "-m", _NAME]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    options = {"cwd": Path(__file__).parents[2], "env": environment, "capture_output": True, "text": True}
    try:
        done = subprocess.run(command, input=given, timeout=SECONDS, **options)
    except subprocess.TimeoutExpired:
        raise ValueError(f"it takes over {SECONDS} s") from None
    if done.returncode < 0:
        raise ValueError(f"it is nested too deeply, or needs over {MEMORY >> 30} GiB")
    if done.returncode:
        raise ValueError(f"{' '.join(command)} failed to try it ({' '.join(done.stderr.split())[-200:]})")
    if problem := json.loads(done.stdout.splitlines()[-1]):
        raise ValueError(problem)


def main() -> None:
    """The other process: the same on standard input, on standard output what is wrong."""
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    given = json.load(sys.stdin)
    special = {int(token): name for token, name in given["special"].items()}
    tokens = [special.get(token, "").encode() for token in range(given["size"])]
    free = (token for token in range(given["size"]) if token not in special)
    for byte, token in zip(range(255), free, strict=False):
        tokens[token] = bytes([byte])
    tokenizer = tokenizer_of(tokens, special, given["ends"])

    def compile_it() -> None:
        try:
            compiled(given["text"], tokenizer)
            problem = ""
        except ValueError as error:
            problem = str(error)
        print(json.dumps(problem))

    threading.stack_size(STACK)
    thread = threading.Thread(target=compile_it)
    thread.start()
    thread.join()


if __name__ == "__main__":
    main()
