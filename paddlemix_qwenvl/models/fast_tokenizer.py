"""Qwen2's byte-level BPE on the `tokenizers` library, with Jinja chat templates."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as FastBackend
from tokenizers.pre_tokenizers import ByteLevel

from paddlemix_qwenvl.files import whole_file
from paddlemix_qwenvl.models import chat_templates, tokenizer_files
from paddlemix_qwenvl.models.chat_templates import choose_template
from paddlemix_qwenvl.models.jinja import render_chat
from paddlemix_qwenvl.models.tokenizer import Tokenizer
from paddlemix_qwenvl.models.tokenizer_settings import TokenizerSettings


class ChatTemplated:
    """What a tokenizer with a `chat_template` and a `special_tokens_map` makes of conversations."""

    def apply_chat_template(
        self,
        conversation: list,
        tokenize: bool = True,
        add_generation_prompt: bool = False,
        *,
        tools: list[dict | Callable] | None = None,
        chat_template: str | None = None,
        padding: bool | str = False,
        truncation: bool | str = False,
        max_length: int | None = None,
        return_tensors: str | None = None,
        return_dict: bool = True,
        tokenizer_kwargs: dict | None = None,
        **variables: Any,
    ):
        """The prompt's text, or its ids, by the tokenizer's own template, which need not be the processor's.

        Args:
            conversation, add_generation_prompt, tools: as in `render_chat`.
            tokenize: ids, not text.
            chat_template: a template, or the name of one of the tokenizer's.
            padding, truncation, max_length, return_tensors, tokenizer_kwargs: of the tokenizer's call.
            return_dict: all that the call returns, not only its `input_ids`.
            variables: `documents`, `continue_final_message` and the template's own.
        """
        template = choose_template(self.chat_template, chat_template, tools)
        special = {name: token for name, token in self.special_tokens_map.items() if name not in variables}
        text = render_chat(template, conversation, add_generation_prompt, tools=tools, **special, **variables)
        if not tokenize:
            return text
        options = {"padding": padding, "truncation": truncation, "max_length": max_length}
        options |= {"return_tensors": return_tensors, "add_special_tokens": False, **(tokenizer_kwargs or {})}
        encoded = self(text, **options)
        return encoded if return_dict else encoded["input_ids"]


class FastTokenizer(ChatTemplated, Tokenizer):
    """Base of the tokenizers of Qwen2's kind, padding on the left.

    Args:
        backend: the library's tokenizer, with all its tokens.
        settings: as tokenizer_config.json has them.
        chat_template: Jinja text, a dict of several by name, or None.
    """

    files = (*tokenizer_files.FILES, *chat_templates.FILES)
    shared = (ChatTemplated,)
    """What a host's tokenizer of this kind has of ours."""

    def __init__(self, backend: FastBackend, settings: TokenizerSettings, chat_template: chat_templates.Chosen = None):
        super().__init__(settings)
        self._backend, self.chat_template = backend, chat_template
        special = [i for i, token in backend.get_added_tokens_decoder().items() if token.special]
        named = {*settings.named_tokens().values(), *settings.other_tokens()}
        self._special = {backend.id_to_token(i): i for i in {*special, *filter(None, map(backend.token_to_id, named))}}

    @classmethod
    def _of_folder(cls, folder: Path, settings: TokenizerSettings):
        backend = tokenizer_files.read_tokenizer(folder, settings)
        return cls(backend, settings, chat_templates.tokenizer_templates(folder, settings))

    def __len__(self) -> int:
        return self._backend.get_vocab_size(with_added_tokens=True)

    def _encode(self, text: str, special: bool) -> tuple[list[int], list[tuple[int, int]]]:
        found = self._backend.encode(text, add_special_tokens=special)
        return found.ids, found.offsets

    def _decode(
        self, ids: list[int], skip_special_tokens: bool, clean_up_tokenization_spaces: bool | None = None
    ) -> str:
        if skip_special_tokens:
            special = {*self._special.values()}
            ids = [i for i in ids if i not in special]
        text = self._backend.decode(ids, skip_special_tokens=False)
        clean = clean_up_tokenization_spaces
        clean = self.settings.clean_up_tokenization_spaces if clean is None else clean
        return _without_odd_spaces(text) if clean else text

    def _id_of(self, token: str) -> int | None:
        return self._backend.token_to_id(token)

    def _special_tokens(self) -> dict[str, int]:
        return self._special

    def _plain_ids(self, text: str) -> list[int]:
        words = self._backend.pre_tokenizer.pre_tokenize_str(self._backend.normalizer.normalize_str(text))
        return [token.id for word, _ in words for token in self._backend.model.tokenize(word)]

    def token_bytes(self) -> dict[int, bytes]:
        added = {i: token.content.encode() for i, token in self._backend.get_added_tokens_decoder().items()}
        byte_of, vocabulary = _bytes_by_letter(), self._backend.get_vocab(with_added_tokens=False)
        plain = {i: bytes(map(byte_of.__getitem__, token)) for token, i in vocabulary.items() if i not in added}
        return plain | added

    def _save_vocabulary(self, folder: Path) -> None:
        with whole_file(folder / tokenizer_files.TOKENIZER) as unfinished:
            self._backend.save(str(unfinished))
        self._backend.model.save(str(folder))  # vocab.json and merges.txt, for those who read these


def _bytes_by_letter() -> dict[str, int]:
    """The byte that each letter of the vocabulary stands for: its own if that can be printed, else the next of the others.

    Source: `bytes_to_unicode` of openai/gpt-2.
    """
    letters = sorted(ByteLevel.alphabet())
    own = {letter: ord(letter) for letter in letters if ord(letter) < 256}
    others = [byte for byte in range(256) if chr(byte) not in own]
    return own | dict(zip(letters[len(own) :], others, strict=True))


def _without_odd_spaces(text: str) -> str:
    """Source: `clean_up_tokenization` of transformers."""
    for mark in (".", "?", "!", ",", "n't", "'m", "'s", "'ve", "'re"):
        text = text.replace(f" {mark}", mark)
    return text.replace(" ' ", "'")
