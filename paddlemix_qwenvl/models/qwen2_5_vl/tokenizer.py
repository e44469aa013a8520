"""The tokenizer of Qwen2.5-VL."""

from __future__ import annotations

from paddlemix_qwenvl.models.fast_tokenizer import FastTokenizer


class Qwen2_5_VLTokenizer(FastTokenizer):
    """Qwen2's tokenizer with the marks of pictures and videos."""

    saved_as = {"tokenizer_class": "Qwen2Tokenizer", "processor_class": "Qwen2_5_VLProcessor"}  # noqa: RUF012
