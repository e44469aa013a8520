"""Qwen2's byte-level BPE from a folder's files, whichever tool saved them. Needs no Paddle.

Vocabulary, merges and added tokens come from tokenizer.json where it is there, else from vocab.json, merges.txt and
added_tokens.json; the rest of the tokenizer is Qwen2's own in any case.

Source: the Qwen2 tokenizer of transformers 5, and the tokenizer.json of Qwen/Qwen2.5-VL-3B-Instruct.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from paddlemix_qwenvl.errors import ConfigurationError
from paddlemix_qwenvl.fields import Flag, Never, Text, Whole, checked, read_object, read_text, wrong
from paddlemix_qwenvl.models.tokenizer_settings import (
    CONFIG,
    END,
    PATTERN,
    SPECIAL_TOKENS_MAP,
    Name,
    NumberedToken,
    Token,
    TokenizerSettings,
)

TOKENIZER, VOCAB, MERGES, ADDED = "tokenizer.json", "vocab.json", "merges.txt", "added_tokens.json"
FILES = (TOKENIZER, VOCAB, MERGES, ADDED, CONFIG, SPECIAL_TOKENS_MAP)
NEEDED = (END, "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
"""What prompts are made of: each is one id."""
SPECIAL = (
    *NEEDED,
    *(f"<|{name}_{end}|>" for name in ("object_ref", "box", "quad") for end in ("start", "end")),
    "<|vision_pad|>",
)


@dataclass(kw_only=True)
class _Nfc:
    type: Literal["NFC"]


@dataclass(kw_only=True)
class _Pattern:
    Regex: Literal[PATTERN]


@dataclass(kw_only=True)
class _Split:
    type: Literal["Split"]
    pattern: _Pattern
    behavior: Literal["Isolated"]
    invert: Never


@dataclass(kw_only=True)
class _ByteLevel:
    type: Literal["ByteLevel"]
    trim_offsets: Flag = True
    add_prefix_space: Never
    use_regex: Never


@dataclass(kw_only=True)
class _PreTokenizer:
    type: Literal["Sequence"]
    pretokenizers: tuple[_Split, _ByteLevel]


@dataclass(kw_only=True)
class _Bytes:
    """As a decoder, and as a post-processor, which only says where tokens are."""

    type: Literal["ByteLevel"]
    trim_offsets: Flag = True
    add_prefix_space: Flag = True
    use_regex: Flag = True


@dataclass(kw_only=True)
class _Nothing:
    """A post-processor that adds no tokens, as transformers 5 writes it."""

    type: Literal["TemplateProcessing"]
    special_tokens: Annotated[dict[str, Any], Field(max_length=0)]


def _type_of(found: Any) -> Any:
    return found.get("type") if isinstance(found, dict) else None


_PostProcessor = Annotated[
    Annotated[_Bytes, Tag("ByteLevel")] | Annotated[_Nothing, Tag("TemplateProcessing")],
    Discriminator(
        _type_of,
        custom_error_type="post_processor",
        custom_error_message="Input should be a ByteLevel, or a TemplateProcessing without special tokens",
    ),
]


@dataclass(kw_only=True)
class _Bpe:
    vocab: dict[str, Whole]
    merges: list[Any]
    type: Literal["BPE"] = "BPE"
    dropout: None = None
    unk_token: None = None
    continuing_subword_prefix: Literal[""] = ""
    end_of_word_suffix: Literal[""] = ""
    fuse_unk: Flag = False
    byte_fallback: Never = False
    ignore_merges: Never = False


@dataclass(kw_only=True)
class _TokenizerFile:
    """What in tokenizer.json decides about ids. A file that differs from Qwen2's here is another model's."""

    version: Text | None = None
    model: _Bpe
    normalizer: _Nfc
    pre_tokenizer: _PreTokenizer
    post_processor: _PostProcessor | None = None
    decoder: _Bytes | None = None
    added_tokens: list[NumberedToken] = field(default_factory=list)


def read_tokenizer(folder: Path, settings: TokenizerSettings) -> Tokenizer:
    """The tokenizer of a folder.

    Args:
        settings: the folder's own; their `added_tokens_decoder` adds to what the vocabulary's files list.

    Raises:
        ConfigurationError: no such files; a value that is wrong or contradicts another; one of `NEEDED` or of the settings'
            special tokens that is not one id.
    """
    source = place = folder / TOKENIZER
    if source.is_file():
        vocab, merges, added = _read_tokenizer_file(source)
    elif (source := folder / VOCAB).is_file():
        vocab = checked(dict[str, Whole], read_object(source), source)
        merges = _read_merges(folder / MERGES)
        place = folder / ADDED
        added = _read_added(place, settings) if settings.added_tokens_decoder is None else []
    else:
        raise ConfigurationError(
            f"{folder} holds neither {TOKENIZER} nor {VOCAB} with {MERGES}: download the tokenizer's files, too."
        )
    lists = [(added, place), (_listed(settings), folder / CONFIG)]
    contents = {token.content for tokens, _ in lists for token in tokens}
    _check_merges(vocab.keys() - contents, merges, source)
    tokens = _numbered(vocab, source, lists)
    _check_special_tokens({*vocab, *tokens}, tokens, settings, folder)
    try:
        return _build(vocab, merges, sorted(tokens.values(), key=lambda token: token.id))
    except Exception as error:  # the library raises no other kind
        raise ConfigurationError(f"{source} holds no byte-level BPE ({error}): download it again.") from error


def _read_tokenizer_file(path: Path) -> tuple[dict[str, int], list[tuple[str, str]], list[NumberedToken]]:
    found = checked(_TokenizerFile, read_object(path), path)
    merges = [_pair(merge, path, f"model.merges[{i}]") for i, merge in enumerate(found.model.merges)]
    return found.model.vocab, merges, found.added_tokens


def _read_merges(path: Path) -> list[tuple[str, str]]:
    lines = read_text(path).removesuffix("\n").split("\n")
    start = int(lines[0].startswith("#version"))
    return [_pair(line.rstrip("\r"), path, f"line {i + 1}") for i, line in enumerate(lines) if i >= start]


def _pair(merge: Any, source: Path, key: str) -> tuple[str, str]:
    parts = merge.split(" ") if isinstance(merge, str) else merge
    if not isinstance(parts, list) or len(parts) != 2 or not all(isinstance(part, str) and part for part in parts):
        raise wrong(source, key, merge, "two tokens")
    return parts[0], parts[1]


def _read_added(path: Path, settings: TokenizerSettings) -> list[NumberedToken]:
    """Tokens of added_tokens.json, which does not tell which are special: those that the settings name, else Qwen's own."""
    found = checked(dict[Name, Whole], read_object(path), path) if path.is_file() else {}
    special = {*settings.named_tokens().values(), *(settings.other_tokens() or SPECIAL)}
    return [
        NumberedToken(content=content, id=index, special=content in special, normalized=content not in special)
        for content, index in found.items()
    ]


def _listed(settings: TokenizerSettings) -> list[NumberedToken]:
    listed = settings.added_tokens_decoder or {}
    return [NumberedToken(**vars(token), id=int(index)) for index, token in listed.items()]


def _numbered(
    vocab: dict[str, int], source: Path, lists: Sequence[tuple[list[NumberedToken], Path]]
) -> dict[str, NumberedToken]:
    """The added tokens of all lists by content, once it is sure that each id means one token and each token one id."""
    contents = {token.content for tokens, _ in lists for token in tokens}
    plain = {token: index for token, index in vocab.items() if token not in contents}
    owners: dict[int, str] = {}
    for token, index in plain.items():
        if index >= len(plain) or owners.setdefault(index, token) != token:
            raise wrong(source, f"the id of {token!r}", index, f"0 to {len(plain) - 1}, each once")
    found: dict[str, NumberedToken] = {}
    for tokens, place in lists:
        for token in tokens:
            known = found[token.content].id if token.content in found else vocab.get(token.content, token.id)
            owner = owners.setdefault(token.id, token.content)
            if token.id != known or owner != token.content:
                expected = (
                    f"{known}, as elsewhere in the folder" if token.id != known else f"another than that of {owner!r}"
                )
                raise wrong(place, f"the id of {token.content!r}", token.id, expected)
            found.setdefault(token.content, token)
    return found


def _check_merges(tokens: set[str], merges: list[tuple[str, str]], source: Path) -> None:
    """A vocabulary or merges that are cut short give other ids in silence."""
    alphabet = {*pre_tokenizers.ByteLevel.alphabet()}
    if missing := alphabet - tokens:
        raise ConfigurationError(
            f"{source}: no token is {min(missing)!r}, expected one for each byte: download it again."
        )
    if unmade := tokens - alphabet - {left + right for left, right in merges}:
        raise ConfigurationError(
            f"{source}: no merge makes the token {min(unmade)!r}: download vocabulary and merges again."
        )


def _check_special_tokens(known: set[str], added: Iterable[str], settings: TokenizerSettings, folder: Path) -> None:
    for token in NEEDED:
        if token not in added:
            raise ConfigurationError(
                f"{folder}: the tokenizer has no {token} as a token of its own, which prompts are made of: add the tokenizer's "
                f"files of the model that this one was made from."
            )
    named = settings.named_tokens().items()
    for name, token in (*named, *(("additional_special_tokens", token) for token in settings.other_tokens())):
        if token not in known:
            raise wrong(folder / CONFIG, name, token, "a token of the vocabulary or of added_tokens_decoder")


def _build(vocab: dict[str, int], merges: list[tuple[str, str]], added: list[NumberedToken]) -> Tokenizer:
    new = [token for token in added if token.content not in vocab]
    if [token.id for token in new] != list(range(len(vocab), len(vocab) + len(new))):
        # The library numbers added tokens itself, without gaps, unless the vocabulary has them.
        vocab = vocab | {token.content: token.id for token in new}
    tokenizer = Tokenizer(models.BPE(vocab, merges, continuing_subword_prefix="", end_of_word_suffix=""))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_tokens([_added_token(token) for token in added])
    return tokenizer


def _added_token(token: Token) -> AddedToken:
    flags = {name: value for name, value in vars(token).items() if name not in ("content", "id")}
    return AddedToken(token.content, **flags)
