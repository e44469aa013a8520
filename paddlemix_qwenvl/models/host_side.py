"""What both families' tokenizers and processors do for their hosts."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import paddle
from paddlenlp.transformers.image_processing_utils import BatchFeature

from paddlemix_qwenvl import hub
from paddlemix_qwenvl.errors import ConfigurationError, PromptError, QwenVLError
from paddlemix_qwenvl.fields import checked
from paddlemix_qwenvl.files import write_json
from paddlemix_qwenvl.models.call_options import (
    LOADING,
    TEXT,
    check_names,
    check_text,
    check_text_options,
    plain_options,
)
from paddlemix_qwenvl.models.chat_templates import as_saved
from paddlemix_qwenvl.models.pretrained import SIZES
from paddlemix_qwenvl.models.tokenizer_settings import NAMED, TokenizerSettings, read_settings

_RAGGED = "the texts are of different lengths, which make no tensor: pass padding=True, or return_tensors=None."
_LOCAL = ("name_or_path", "chat_template_file", "from_slow", "vocab_file")


def tensors(data: dict, kind: str | None) -> BatchFeature:
    """Arrays as `kind`: "pd" for Paddle, "np" for NumPy, None for what they are; floats are float32, and `SIZES` stay lists.

    Raises:
        ConfigurationError: any other kind.
        PromptError: rows of different lengths.
    """
    if kind not in (None, "np", "pd"):
        raise ConfigurationError(f"return_tensors is {kind!r}: it must be 'pd', 'np' or None.")
    if kind is None:
        return BatchFeature(data)
    make = paddle.to_tensor if kind == "pd" else np.asarray
    return BatchFeature({name: value if name in SIZES else make(_array(value)) for name, value in data.items()})


def _array(value) -> np.ndarray:
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise PromptError(_RAGGED) from error
    return array.astype(np.float32) if array.dtype == np.float64 else array


class PortableTokenizer:
    """Base of tokenizers that are read from checked files, and whose own hold no path of the machine they were saved on; put
    before the host's class.

    Attributes:
        files: what a folder may hold of the tokenizer.
        saved_as: fields of tokenizer_config.json by which others know the class.
        options: what a call takes beside its text.
    """

    files: tuple[str, ...]
    options = (*TEXT, "is_split_into_words", "return_dict", "return_overflowing_tokens")
    saved_as: dict[str, str]

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path,
        **settings,
    ):
        """Load from a folder or by name.

        Args:
            settings: in place of those of tokenizer_config.json (`padding_side`, `eos_token`, ...); and where a
                name is looked up (`hub.SOURCE_OPTIONS`).

        Raises:
            ConfigurationError: a setting that nobody knows, or files that are missing or wrong.
            DownloadError: a name that cannot be had.
        """
        source = hub.take_source(settings)
        known = [f.name for f in fields(TokenizerSettings)]
        given = {name: value for name, value in settings.items() if value is not None and name not in LOADING}
        check_names(given, known, "the tokenizer")
        folder = hub.gather(pretrained_model_name_or_path, cls.files, **source)
        own = checked(TokenizerSettings, given, "from_pretrained")
        merged = replace(read_settings(folder), **{name: getattr(own, name) for name in given})
        tokenizer = cls._of_folder(folder, merged)
        tokenizer.name_or_path = str(pretrained_model_name_or_path)
        return tokenizer

    @classmethod
    def _of_folder(cls, folder: Path, settings: TokenizerSettings):
        raise NotImplementedError

    @staticmethod
    def _host_settings(settings: TokenizerSettings) -> dict:
        """Keyword arguments of the host's class."""
        names = ("model_max_length", "padding_side", "truncation_side", "clean_up_tokenization_spaces", "errors")
        given = {name: getattr(settings, name) for name in names if getattr(settings, name) is not None}
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
            raise PromptError(_RAGGED) from error

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
        unset = {name: None for name in NAMED[:4] if name not in found}  # else transformers has its own for these
        found |= {"chat_template": as_saved(self.chat_template)} if self.chat_template else {}
        write_json(path, found | unset | self.saved_as, ensure_ascii=False)
        return files
