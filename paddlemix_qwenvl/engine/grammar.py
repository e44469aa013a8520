"""Answers that a grammar guides: masks of the tokens that may follow, by llguidance, which is imported when one is used.

Grammars are JSON schemas, regular expressions, choices, and Lark grammars in llguidance's dialect. Text is never made of special
tokens. A Lark grammar may name them in its rules, by name or number: `<|box_start|>` or `<[151648]>` of Qwen2-VL, `<box>` of
Qwen-VL; in quotes they are text. A box as Qwen2-VL writes it:

    start: <|object_ref_start|> LABEL <|object_ref_end|> <|box_start|> "(" N "," N "),(" N "," N ")" <|box_end|>
    LABEL: /[^<>]+/
    N: /[0-9]{1,3}|1000/

Source: https://github.com/guidance-ai/llguidance/blob/main/docs/syntax.md, json_schema.md and python/llguidance/_lib.pyi.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import takewhile
from typing import Any

import numpy as np

from paddlemix_qwenvl.engine import grammar_compiler
from paddlemix_qwenvl.errors import GenerationError
from paddlemix_qwenvl.models.tokenizer import Tokenizer

MAX_BYTES = 64 << 10
"""Of a grammar's text."""
_TRIED = 64  # grammars of a vocabulary that are known to compile
_BOUNDS = ("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")
_LITTLE, _EXACT = 1e-9, 2**40
_EXAMPLE = '{"type": "object"}'
_BLANK = r"[ \t]|\r?\n[ \t]{0,32}"
_SEPARATORS = {"item_separator": ",", "key_separator": ":", "whitespace_flexible": True, "whitespace_pattern": _BLANK}


class Vocabulary:
    """A tokenizer's tokens as grammars need them; made once a tokenizer, in about a second for a released one.

    Args:
        tokens: bytes of each token.
        special: ids of those that are no text.
        size: of the model's vocabulary; ids that are no token never follow.
        end_ids: tokens that end an answer; these are no text either.

    Raises:
        GenerationError: no end tokens, or one that the model does not know.
    """

    def __init__(self, tokens: dict[int, bytes], special: Sequence[int], size: int, end_ids: Sequence[int]):
        if not end_ids or not all(0 <= token < size for token in end_ids):
            raise GenerationError(
                f"the end tokens are {list(end_ids)}: a grammar needs one or more of 0 to {size - 1}, eos_token_id."
            )
        self.size, self.end_ids = size, [int(token) for token in end_ids]
        never = {*special, *self.end_ids}
        # 0xFF, which no text holds, is llguidance's mark of special tokens.
        tokens = {i: token for i, token in tokens.items() if i < size and (i in never or not token.startswith(b"\xff"))}
        tokens = {i: b"<end>" for i in self.end_ids} | tokens
        self.known = frozenset(tokens)
        self.complete, self.not_ended = _words(self.known, size), _words(self.known - {*self.end_ids}, size)
        self.special = {i: tokens[i].decode(errors="replace") for i in sorted(never & self.known)}
        texts = [tokens.get(i, b"") for i in range(size)]
        self.backend = grammar_compiler.tokenizer_of(texts, self.special, self.end_ids)
        self.try_out = lru_cache(_TRIED)(self._try_out)

    @classmethod
    def of(cls, tokenizer: Tokenizer, size: int, eos_token_ids: Sequence[int]) -> Vocabulary:
        """The vocabulary of a model of `size` tokens and its tokenizer, of either kind."""
        return cls(tokenizer.token_bytes(), tokenizer.all_special_ids, size, eos_token_ids)

    def _try_out(self, text: str) -> None:
        """As `grammar_compiler.try_out`; what was in order once is not tried again."""
        grammar_compiler.try_out(text, self.special, self.size, self.end_ids)


class Grammar:
    """What answers look like; compiled once, for as many sequences as there are.

    To compile takes from a fifth of a second to `grammar_compiler.SECONDS`, nearly all of it in another process, and the next
    time milliseconds: do it on a thread of its own, before the request gets to the engine. A grammar may be used by several
    threads.
    """

    def __init__(self, text: str, vocabulary: Vocabulary, kind: str):
        self._text, self.vocabulary = text, vocabulary
        try:
            vocabulary.try_out(text)
            self._start = grammar_compiler.compiled(text, vocabulary.backend)
        except ValueError as error:
            raise GenerationError(f"the {kind} cannot be compiled: {error}: change that, or make it simpler.") from None

    @classmethod
    def json_schema(cls, schema: dict | str, vocabulary: Vocabulary) -> Grammar:
        """JSON by a schema, of the 2020-12 draft where it does not say another.

        Properties come in the schema's order. Between JSON's signs there may be one space, or a line's end and up to 32 signs of
        indentation; strings, arrays and numbers are as long as the schema and `max_new_tokens` let them.

        Args:
            schema: as it is or as JSON; `x-guidance` in it may set llguidance's options, but those of spaces.

        Raises:
            GenerationError: no schema, one of over `MAX_BYTES`, or one that llguidance cannot follow.
        """
        return cls(f"start: {json_rule(schema)}", vocabulary, "JSON schema")

    @classmethod
    def json_object(cls, vocabulary: Vocabulary) -> Grammar:
        """Any JSON object, as `json_schema` writes it."""
        return cls.json_schema({"type": "object"}, vocabulary)

    @classmethod
    def regex(cls, pattern: str, vocabulary: Vocabulary) -> Grammar:
        """The whole of an answer by a regular expression, without look-around and back-references.

        Source of the syntax: https://docs.rs/regex/latest/regex/#syntax; `\\d` is 0 to 9.

        Raises:
            GenerationError: no expression, one of over `MAX_BYTES`, or one that llguidance cannot follow.
        """
        from llguidance import regex_to_lark

        kind = "regular expression"
        _check_text(pattern, kind)
        if (len(pattern) - len(pattern.rstrip("\\"))) % 2:  # which llguidance would drop
            raise GenerationError(f"the {kind} ends in a backslash: write two for one, or none.")
        return cls(f"start: /{regex_to_lark(pattern, use_ascii='d')}/", vocabulary, kind)

    @classmethod
    def choice(cls, choices: Sequence[str], vocabulary: Vocabulary) -> Grammar:
        """One of several texts.

        Raises:
            GenerationError: none, an empty one, or over `MAX_BYTES` of them.
        """
        kind = "list of choices"
        if isinstance(choices, str) or not isinstance(choices, Sequence) or not choices:
            raise GenerationError(f"the {kind} is {choices!r:.100}: give one or more texts.")
        for text in choices:
            _check_text(text, "choice")
        text = " | ".join(map(json.dumps, choices))
        _check_size(text, kind)
        return cls(f"start: CHOICE\nCHOICE: {text}", vocabulary, kind)

    @classmethod
    def lark(cls, text: str, vocabulary: Vocabulary) -> Grammar:
        """A Lark grammar, whose rule `start` is the answer; what it ignores and repeats is its own matter.

        Raises:
            GenerationError: no grammar, one of over `MAX_BYTES`, or one that llguidance cannot follow.
        """
        _check_text(text, "Lark grammar")
        return cls(text, vocabulary, "Lark grammar")

    def matcher(self) -> Matcher:
        """A new answer's start."""
        if self._start is None:
            self._start = grammar_compiler.compiled(self._text, self.vocabulary.backend)
        return Matcher(self._start.deep_copy(), self)

    def forget(self) -> None:
        """Begin anew with the next answer: what answers have made of the grammar is kept for all, and has grown too large."""
        self._start = None


class Matcher:
    """One answer, as far as it is written. To be used by one thread at a time."""

    def __init__(self, backend, grammar: Grammar):
        self._backend, self._grammar, self._vocabulary = backend, grammar, grammar.vocabulary

    @property
    def ended(self) -> bool:
        """Whether nothing but the end may follow, or it is there."""
        return self._backend.is_stopped()

    def mask(self) -> np.ndarray:
        """The tokens that may follow, int32 `[ceil(size / 32)]`: bit `v % 32` of word `v // 32` is token v's.

        Raises:
            GenerationError: no token may follow, or the grammar is too ambiguous to tell.
        """
        vocabulary = self._vocabulary
        words = np.empty_like(vocabulary.complete)
        self._backend.unsafe_compute_mask_ptr(words.ctypes.data, words.nbytes)
        self._check()
        words &= vocabulary.complete if self._backend.is_accepting() else vocabulary.not_ended
        if not words.any():
            raise GenerationError("the grammar wants an end token within an answer: name other special tokens in it.")
        return words

    def accept(self, token_id: int) -> None:
        """Write a token.

        Raises:
            GenerationError: it may not follow, and the answer stays as it was; or as in `mask`.
        """
        if not self.accepted([token_id]):
            raise GenerationError(f"the grammar does not let token {token_id} follow: take one of its mask.")
        self._backend.consume_token(token_id)
        self._check()

    def accepted(self, token_ids: Sequence[int]) -> int:
        """How many of these may follow one after another, from the first on; nothing is written."""
        if self.ended:
            return int(len(token_ids) > 0 and token_ids[0] in self._vocabulary.end_ids)
        count = self._backend.validate_tokens([*takewhile(self._vocabulary.known.__contains__, token_ids)])
        self._check()
        return count

    def copy(self) -> Matcher:
        """The same answer, to go on by itself."""
        return Matcher(self._backend.deep_copy(), self._grammar)

    def _check(self) -> None:
        if self._backend.is_error():
            self._grammar.forget()
            raise GenerationError(
                f"the grammar leads nowhere from here ({grammar_compiler.reason(self._backend)}): make it simpler."
            )


def json_rule(schema: dict | str) -> str:
    """JSON by a schema as a part of a rule of a Lark grammar; as `Grammar.json_schema`."""
    kind, found = "JSON schema", schema
    try:
        found = json.loads(schema) if isinstance(schema, str) else schema
        text = json.dumps(_with_closed_ranges(found), allow_nan=False)
    except (ValueError, TypeError, RecursionError) as error:
        raise GenerationError(f"the {kind} is no JSON ({error}): give an object such as {_EXAMPLE}.") from error
    if not isinstance(found, dict):
        raise GenerationError(f"the {kind} is {text:.100}: give an object such as {_EXAMPLE}.")
    options = found.get("x-guidance", {})
    if not isinstance(options, dict):
        raise GenerationError(f"x-guidance of the {kind} is {options!r:.100}: give an object or leave it out.")
    _check_size(text, kind)
    return f"%json {json.dumps(json.loads(text) | {'x-guidance': options | _SEPARATORS})}"


def _with_closed_ranges(schema: Any) -> Any:
    """A schema whose ranges of less than 1 that leave an end out begin or end a little further in: llguidance 1.9 lets such an end
    be written where it is a whole number.
    """
    if isinstance(schema, list):
        return [*map(_with_closed_ranges, schema)]
    if not isinstance(schema, dict):
        return schema
    found = {key: each if key in ("const", "enum") else _with_closed_ranges(each) for key, each in schema.items()}
    lows, highs = ([found[name] for name in names if name in found] for names in _BOUNDS)
    if not lows or not highs or {*map(type, lows + highs)} - {int, float}:
        return found
    largest = max(map(abs, lows + highs))
    if largest < _EXACT and 0 < (width := min(highs) - max(lows)) < 1:
        little = min(max(_LITTLE, 4 * math.ulp(largest)), width / 4)
        if "exclusiveMinimum" in found:
            found["minimum"] = max(found.pop("exclusiveMinimum") + little, *lows)
        if "exclusiveMaximum" in found:
            found["maximum"] = min(found.pop("exclusiveMaximum") - little, *highs)
    return found


def _words(token_ids: Iterable[int], size: int) -> np.ndarray:
    """The mask of these."""
    bits = np.zeros(-(-size // 32) * 32, bool)
    bits[[*token_ids]] = True
    return np.packbits(bits, bitorder="little").view(np.int32)


def _check_text(text: Any, kind: str) -> None:
    if not isinstance(text, str) or not text:
        raise GenerationError(f"the {kind} is {text!r:.100}: give a text.")
    _check_size(text, kind)


def _check_size(text: str, kind: str) -> None:
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise GenerationError(f"the {kind} holds half a character ({error.reason}): give whole ones.") from error
    if size > MAX_BYTES:
        raise GenerationError(f"the {kind} has {size} bytes, at most {MAX_BYTES} are compiled: make it shorter.")
