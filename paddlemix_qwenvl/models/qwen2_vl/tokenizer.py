"""The tokenizer of Qwen2-VL."""

from __future__ import annotations

from paddlemix_qwenvl.models.fast_tokenizer import FastTokenizer


class Qwen2VLTokenizer(FastTokenizer):
    """Qwen2's tokenizer with the marks of pictures, videos and boxes."""

    saved_as = {"tokenizer_class": "Qwen2Tokenizer", "processor_class": "Qwen2VLProcessor"}  # noqa: RUF012
