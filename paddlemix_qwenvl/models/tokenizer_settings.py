"""What a folder says of its tokenizer beside the vocabulary: tokenizer_config.json and special_tokens_map.json."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from paddlemix_qwenvl.fields import Flag, Never, Text, Whole, checked, read_object

CONFIG, SPECIAL_TOKENS_MAP = "tokenizer_config.json", "special_tokens_map.json"
END = "<|endoftext|>"
PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""How Qwen's text is split before bytes are merged."""
NAMED = ("bos_token", "eos_token", "pad_token", "unk_token", "sep_token", "cls_token", "mask_token")

Name = Annotated[str, Field(strict=True, min_length=1)]
FileName = Annotated[str, Field(strict=True, pattern=r"^[^/\\]+$")]
Index = Annotated[str, Field(strict=True, pattern=r"^\d{1,9}$")]
Length = Annotated[int, Field(strict=True, ge=1)] | Annotated[float, Field(strict=True, ge=1, le=1e30, multiple_of=1)]
"""Tokens; transformers writes 10**30 or 1e30 for as many as there are."""
Side = Literal["left", "right"]


@dataclass(kw_only=True)
class Token:
    """A token beside the BPE's own, as all files write it."""

    content: Name
    lstrip: Flag = False
    rstrip: Flag = False
    single_word: Flag = False
    normalized: Flag = False
    special: Flag = False


@dataclass(kw_only=True)
class NumberedToken(Token):
    """As tokenizer.json lists it."""

    id: Whole


@dataclass(kw_only=True)
class NamedTemplate:
    """One of several chat templates."""

    name: FileName
    template: Name


Templates = (
    Name | Annotated[dict[FileName, Name], Field(min_length=1)] | Annotated[list[NamedTemplate], Field(min_length=1)]
)


@dataclass(kw_only=True)
class TokenizerSettings:
    """The fields of tokenizer_config.json that count."""

    bos_token: Name | Token | None = None
    eos_token: Name | Token = END
    pad_token: Name | Token = END
    unk_token: Name | Token | None = None
    sep_token: Name | Token | None = None
    cls_token: Name | Token | None = None
    mask_token: Name | Token | None = None
    additional_special_tokens: list[Name | Token] | None = None
    extra_special_tokens: list[Name | Token] | dict[Text, Name | Token] | None = None  # transformers 5's name
    added_tokens_decoder: dict[Index, Token] | None = None
    chat_template: Templates | None = None
    model_max_length: Length | None = None
    padding_side: Side | None = None
    truncation_side: Side | None = None
    clean_up_tokenization_spaces: Flag = False
    split_special_tokens: Never = False
    add_prefix_space: Never = False
    errors: Literal["replace", "strict", "ignore"] = "replace"

    def named_tokens(self) -> dict[str, str]:
        """The special tokens that have a name, `{"eos_token": ...}`."""
        return {name: _content(token) for name in NAMED if (token := getattr(self, name)) is not None}

    def other_tokens(self) -> list[str]:
        """The special tokens that have none."""
        tokens = self.additional_special_tokens or self.extra_special_tokens or []
        return [_content(token) for token in (tokens.values() if isinstance(tokens, dict) else tokens)]


@dataclass(kw_only=True)
class _File(TokenizerSettings):
    """And those that say whose it is."""

    tokenizer_class: Text | None = None
    processor_class: Text | None = None
    add_bos_token: Never = False
    add_eos_token: Never = False


def read_settings(folder: Path) -> TokenizerSettings:
    """Settings of a folder, the defaults where it has no files of them.

    As in transformers, special_tokens_map.json counts where tokenizer_config.json lists no added tokens.

    Raises:
        ConfigurationError: a value of another kind.
    """
    config, special = folder / CONFIG, folder / SPECIAL_TOKENS_MAP
    given = read_object(config) if config.is_file() else {}
    settings = checked(_File, given, config)
    if settings.added_tokens_decoder is None and special.is_file():
        checked(_File, tokens := read_object(special), special)
        settings = checked(_File, {**given, **tokens}, config)
    return settings


def _content(token: str | Token) -> str:
    return token if isinstance(token, str) else token.content
