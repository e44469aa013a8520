"""The tokenizer of Qwen2.5-VL: Qwen2's byte-level BPE, on the `tokenizers` library, as PaddleNLP's tokenizers behave."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from paddlenlp.transformers.qwen2.tokenizer_fast import Qwen2TokenizerFast
from paddlenlp.transformers.tokenizer_utils_fast import PretrainedTokenizerFast
from tokenizers import Tokenizer

from paddlemix_qwenvl.models import chat_templates, tokenizer_files
from paddlemix_qwenvl.models.chat_templates import choose_template
from paddlemix_qwenvl.models.host_side import PortableTokenizer
from paddlemix_qwenvl.models.jinja import render_chat
from paddlemix_qwenvl.models.tokenizer_settings import TokenizerSettings


class Qwen2_5_VLTokenizer(PortableTokenizer, Qwen2TokenizerFast):
    """Qwen2's fast tokenizer, padding on the left, with the Hub's Jinja chat templates.

    Attributes:
        chat_template: Jinja text, or a dict of several by name; None if there is none.
    """

    padding_side = "left"
    files = (*tokenizer_files.FILES, *chat_templates.FILES)
    saved_as = {"tokenizer_class": "Qwen2Tokenizer", "processor_class": "Qwen2_5_VLProcessor"}  # noqa: RUF012

    def __init__(self, tokenizer_object: Tokenizer, **kwargs):
        """From a tokenizer that has all its tokens; of the host's class, which would add some, only the base is set up."""
        self._tokenizer = tokenizer_object
        self._decode_use_source_tokenizer = False
        super(PretrainedTokenizerFast, self).__init__(**kwargs)

    @classmethod
    def _of_folder(cls, folder, settings: TokenizerSettings):
        tokenizer = cls(tokenizer_files.read_tokenizer(folder, settings), **cls._host_settings(settings))
        tokenizer.chat_template = chat_templates.tokenizer_templates(folder, settings)
        return tokenizer

    def decode(
        self, token_ids, skip_special_tokens: bool = False, clean_up_tokenization_spaces: bool | None = None, **kwargs
    ):
        """As the host's, which by default takes spaces away before full stops and apostrophes."""
        clean = (
            self.clean_up_tokenization_spaces if clean_up_tokenization_spaces is None else clean_up_tokenization_spaces
        )
        return super().decode(token_ids, skip_special_tokens, clean, **kwargs)

    def batch_decode(self, sequences, skip_special_tokens: bool = False, **kwargs) -> list[str]:
        """As `decode`, for each row."""
        return [self.decode(row, skip_special_tokens, **kwargs) for row in sequences]

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
