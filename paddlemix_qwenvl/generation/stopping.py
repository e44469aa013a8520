"""Criteria that end generation early; each is called with `(all ids [B, S + new], scores [B, 1])`."""

from __future__ import annotations


class StopStrings:
    """True once every row's new text holds one of the strings.

    Args:
        tokenizer: anything with `decode(token_ids)`.
        prompt_length: tokens of the padded prompt, which do not count.
        strings: one or several.
    """

    def __init__(self, tokenizer, prompt_length: int, strings: str | list[str]):
        self._tokenizer = tokenizer
        self._start = prompt_length
        self._strings = [strings] if isinstance(strings, str) else list(strings)

    def __call__(self, token_ids, scores) -> bool:
        texts = (self._tokenizer.decode(row[self._start :]) for row in token_ids.tolist())
        return all(any(string in text for string in self._strings) for text in texts)
