"""Qwen's byte-level BPE as `tiktoken` has it: the ranks in qwen.tiktoken, and what follows them."""

from __future__ import annotations

from base64 import b64decode
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from paddlemix_qwenvl.errors import ConfigurationError
from paddlemix_qwenvl.fields import Whole, checked, read_object, read_text, wrong
from paddlemix_qwenvl.models.qwen_vl.tags import IMAGE_TAGS
from paddlemix_qwenvl.models.tokenizer_settings import END, PATTERN, Name

RANKS, EXPORTED = "qwen.tiktoken", "tiktoken.json"


@dataclass(kw_only=True)
class Exported:
    """What an export adds to the ranks."""

    pattern: Literal[PATTERN]
    special_tokens: dict[Name, Whole]


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


def read_exported(folder: Path, ranks: dict[bytes, int]) -> Exported:
    """The splitting pattern and the special tokens of an export.

    Raises:
        ConfigurationError: they are not Qwen-VL's, or their ids do not follow the ranks.
    """
    path = folder / EXPORTED
    found = checked(Exported, read_object(path), path)
    first = len(ranks)
    if sorted(found.special_tokens.values()) != list(range(first, first + len(found.special_tokens))):
        raise wrong(path, "special_tokens", found.special_tokens, f"ids from {first} on, each once")
    for token in (END, "<|im_start|>", "<|im_end|>", *IMAGE_TAGS):
        if token not in found.special_tokens:
            raise ConfigurationError(f"{path}: special_tokens has no {token}, which prompts are made of: export again.")
    return found


def encoding_of(ranks: dict[bytes, int], special_tokens: dict[str, int]):
    """The `tiktoken.Encoding` of these."""
    import tiktoken

    return tiktoken.Encoding("Qwen", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens=special_tokens)


def _wrong_line(path: Path, number: int, line: str) -> ConfigurationError:
    return wrong(path, f"line {number + 1}", line, f"a token in base64, which no other line has, and the rank {number}")
