"""Qwen's byte-level BPE as `tiktoken` has it: the ranks in qwen.tiktoken, and what follows them."""

from __future__ import annotations

from base64 import b64decode, b64encode
from pathlib import Path

from paddlemix_qwenvl.errors import ConfigurationError
from paddlemix_qwenvl.fields import read_text, wrong
from paddlemix_qwenvl.files import write_text
from paddlemix_qwenvl.models.qwen_vl.tags import IMAGE_TAGS
from paddlemix_qwenvl.models.tokenizer_settings import END, PATTERN

RANKS = "qwen.tiktoken"
SPECIAL = (END, "<|im_start|>", "<|im_end|>", *(f"<|extra_{i}|>" for i in range(205)))
"""The special tokens of text-only Qwen; those of Qwen-VL follow."""


def special_tokens(first: int) -> dict[str, int]:
    """The special tokens and their ids, which follow the ranks from `first` on."""
    return {token: first + i for i, token in enumerate((*SPECIAL, *IMAGE_TAGS))}


def read_ranks(path: Path) -> dict[bytes, int]:
    """Tokens and their ranks, 0 and up.

    Raises:
        ConfigurationError: the file cannot be read, or a line is no token in base64 with the next rank, or a byte has none.
    """
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(filter(None, read_text(path).split("\n"))):
        try:
            encoded, rank = line.split()
            token, rank = b64decode(encoded, validate=True), int(rank)
        except ValueError as error:
            raise _wrong_line(path, number, line) from error
        if not token or rank != number or ranks.setdefault(token, rank) != rank:
            raise _wrong_line(path, number, line)
    missing = next((byte for byte in range(256) if bytes([byte]) not in ranks), None)
    if missing is not None:
        raise ConfigurationError(
            f"{path} has no token for the byte {missing}, expected one for each: download it again."
        )
    return ranks


def write_ranks(ranks: dict[bytes, int], path: Path) -> None:
    """Write the ranks as `read_ranks` reads them."""
    write_text(path, "".join(f"{b64encode(token).decode()} {rank}\n" for token, rank in ranks.items()))


def encoding_of(ranks: dict[bytes, int], special_tokens: dict[str, int]):
    """The `tiktoken.Encoding` of these."""
    import tiktoken

    return tiktoken.Encoding("Qwen", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens=special_tokens)


def _wrong_line(path: Path, number: int, line: str) -> ConfigurationError:
    return wrong(path, f"line {number + 1}", line, f"a token in base64, which no other line has, and the rank {number}")
