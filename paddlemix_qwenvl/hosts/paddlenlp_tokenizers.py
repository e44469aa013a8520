"""PaddleNLP's kind of the tokenizers: its own classes, read from files that we have checked, with what ours share with them."""

from __future__ import annotations

import functools
import json
from collections.abc import Collection
from pathlib import Path

from paddlenlp.transformers.qwen.tokenizer import QWenTokenizer
from paddlenlp.transformers.qwen2.tokenizer_fast import Qwen2TokenizerFast
from paddlenlp.transformers.tokenizer_utils_fast import PretrainedTokenizerFast
from tokenizers import Tokenizer as FastBackend

from paddlemix_qwenvl.errors import PromptError, QwenVLError
from paddlemix_qwenvl.models import chat_templates, tokenizer_files
from paddlemix_qwenvl.models.batch import RAGGED
from paddlemix_qwenvl.models.call_options import TEXT, check_names, check_text, check_text_options, plain_options
from paddlemix_qwenvl.models.fast_tokenizer import FastTokenizer
from paddlemix_qwenvl.models.qwen_vl.ranks import RANKS, read_ranks
from paddlemix_qwenvl.models.qwen_vl.tags import IMAGE_TAGS
from paddlemix_qwenvl.models.tokenizer import TokenizerFiles, write_tokenizer_config
from paddlemix_qwenvl.models.tokenizer_settings import END, TokenizerSettings

_LOCAL = ("name_or_path", "chat_template_file", "from_slow", "vocab_file", "chat_template")
"""What the host writes that belongs to the machine it was written on, or that we write ourselves."""
_SETTINGS = ("model_max_length", "padding_side", "truncation_side", "clean_up_tokenization_spaces", "errors")


class HostTokenizer(TokenizerFiles):
    """What both kinds do before the host's class.

    Attributes:
        options: what a call takes beside its text.
    """

    options = (*TEXT, "is_split_into_words", "return_dict", "return_overflowing_tokens")
    chat_template = None

    @staticmethod
    def _host_settings(settings: TokenizerSettings) -> dict:
        """Keyword arguments of the host's class."""
        given = {name: getattr(settings, name) for name in _SETTINGS if getattr(settings, name) is not None}
        return given | settings.named_tokens() | {"additional_special_tokens": settings.other_tokens()}

    def __call__(self, text, text_pair=None, **options):
        """As the host's.

        Raises:
            ConfigurationError: an option that nobody knows, or of another kind.
            PromptError: text that is none, or that UTF-8 cannot write.
        """
        check_text((text, text_pair) if text_pair is not None else text)
        try:
            return super().__call__(text, text_pair, **self._options(options))
        except ValueError as error:  # the host's, of rows that make no tensor
            if isinstance(error, QwenVLError) or not options.get("return_tensors"):
                raise
            raise PromptError(RAGGED) from error

    def encode(self, text, text_pair=None, **options):
        """As the host's; raises as a call."""
        check_text((text, text_pair) if text_pair is not None else text)
        return super().encode(text, text_pair, **self._options(options))

    def batch_encode(self, batch_text_or_text_pairs, **options):
        """As the host's; raises as a call."""
        check_text(batch_text_or_text_pairs)
        return super().batch_encode(batch_text_or_text_pairs, **self._options(options))

    def _options(self, options: dict) -> dict:
        asked = {name: value for name, value in options.items() if value is not False or name in self.options}
        given = plain_options(asked)
        check_names(given, self.options, "the tokenizer's call")
        check_text_options(given, "the tokenizer's call")
        return given

    def save_pretrained(self, save_directory, *args, **kwargs):
        """As the host's."""
        files = super().save_pretrained(save_directory, *args, **kwargs)
        path = Path(save_directory, self.tokenizer_config_file)
        found = json.loads(path.read_text(encoding="utf-8"))
        found = {name: value for name, value in found.items() if name not in _LOCAL}
        write_tokenizer_config(path, found, self.chat_template, self.saved_as)
        return files


class FastHostTokenizer(HostTokenizer, Qwen2TokenizerFast):
    """On the `tokenizers` library, padding on the left, with the Hub's Jinja chat templates."""

    padding_side = "left"

    def __init__(self, tokenizer_object: FastBackend, **kwargs):
        """From a tokenizer that has all its tokens; of the host's class, which would add some, only the base is set up."""
        self._tokenizer = tokenizer_object
        self._decode_use_source_tokenizer = False
        super(PretrainedTokenizerFast, self).__init__(**kwargs)

    @classmethod
    def _of_folder(cls, folder: Path, settings: TokenizerSettings):
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


class TiktokenHostTokenizer(HostTokenizer, QWenTokenizer):
    """On `tiktoken`, with tags for pictures and boxes."""

    options = (
        *(name for name in HostTokenizer.options if name != "return_offsets_mapping"),
        "allowed_special",
        "disallowed_special",
    )
    model_input_names = ["input_ids", "attention_mask"]  # noqa: RUF012  (the host's own name and type)

    def __init__(self, vocab_file: str, errors: str = "replace", padding_side: str = "left", **kwargs):
        read_ranks(Path(vocab_file))  # which says what is wrong with them
        super().__init__(vocab_file, errors=errors, padding_side=padding_side, **kwargs)
        self._update_tiktoken(list(IMAGE_TAGS), special_tokens=True)
        self.name_tags()
        self.pad_token = self.eos_token = END

    @classmethod
    def _of_folder(cls, folder: Path, settings: TokenizerSettings):
        given = cls._host_settings(settings)
        return cls(str(folder / RANKS), **{name: given[name] for name in _SETTINGS if name in given})

    def tokenize(
        self,
        text: str,
        allowed_special: Collection[str] | str = "all",
        disallowed_special: Collection[str] | str = (),
        **kwargs,
    ) -> list[bytes | str]:
        """Tokens of a text: bytes, and special tokens as text; arguments as in `ids`."""
        return [self.decoder[i] for i in self.ids(text, allowed_special, disallowed_special)]

    def _decode(self, token_ids, skip_special_tokens: bool = False, errors: str | None = None, **kwargs) -> str:
        return super()._decode(self.plain_ids(token_ids), skip_special_tokens, errors)


@functools.cache
def adapt_tokenizer(core: type) -> type:
    """PaddleNLP's kind of one of our tokenizers."""
    base = FastHostTokenizer if issubclass(core, FastTokenizer) else TiktokenHostTokenizer
    body = {"__module__": "paddlemix_qwenvl.hosts.paddlenlp", "__doc__": core.__doc__}
    body |= {"files": core.files, "saved_as": core.saved_as}
    return type(core.__name__, (*core.shared, base), body)
