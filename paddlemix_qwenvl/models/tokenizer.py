"""Text to ids and back, as transformers' tokenizers do it in what processors and models need. Needs neither Paddle nor a host."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from paddlemix_qwenvl import hub
from paddlemix_qwenvl.fields import checked
from paddlemix_qwenvl.files import folder_to_save, write_json
from paddlemix_qwenvl.models.batch import BatchFeature, tensors
from paddlemix_qwenvl.models.call_options import (
    LOADING,
    TEXT,
    TextOptions,
    check_names,
    check_text,
    check_text_options,
    plain_options,
)
from paddlemix_qwenvl.models.chat_templates import as_saved
from paddlemix_qwenvl.models.tokenizer_settings import CONFIG, NAMED, TokenizerSettings, read_settings

_LONGEST = 10**30  # as transformers writes for as many tokens as there are
_BREAK = "\ufdd0"
"""In a text, that what stands around it is no special token; itself where it is doubled. Unicode keeps it free for such ends."""


class TokenizerFiles:
    """How tokenizers are loaded, ours and the hosts'.

    Attributes:
        files: what a folder may hold of the tokenizer.
        saved_as: fields of tokenizer_config.json by which others know the class.
    """

    files: tuple[str, ...]
    saved_as: dict[str, str]

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, **settings):
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


class Tokenizer(TokenizerFiles):
    """Base of the families' tokenizers. A subclass encodes one text, decodes ids, and writes its vocabulary.

    Attributes:
        settings: as tokenizer_config.json has them.
        padding_side, truncation_side: "left" or "right".
        chat_template: Jinja text, or a dict of several by name; None if there is none.
    """

    padding_side, truncation_side = "left", "right"
    options: tuple[str, ...] = TEXT
    chat_template = None

    def __init__(self, settings: TokenizerSettings):
        self.settings = settings
        self.padding_side = settings.padding_side or type(self).padding_side
        self.truncation_side = settings.truncation_side or type(self).truncation_side
        self.model_max_length = int(settings.model_max_length or _LONGEST)
        self.special_tokens_map = settings.named_tokens()

    def _encode(self, text: str, special: bool) -> tuple[list[int], list[tuple[int, int]]]:
        """Ids, and where their characters stand in the text, if that is known."""
        raise NotImplementedError

    def _decode(self, ids: list[int], skip_special_tokens: bool, **options) -> str:
        raise NotImplementedError

    def _id_of(self, token: str) -> int | None:
        raise NotImplementedError

    def _special_tokens(self) -> dict[str, int]:
        """Special tokens and their ids."""
        raise NotImplementedError

    def _plain_ids(self, text: str) -> list[int]:
        """Ids of a text that has no special tokens, whatever it spells."""
        raise NotImplementedError

    def escape(self, text: str, but: Collection[str] = ()) -> str:
        """Words of a stranger for a prompt, in which no special tokens are read but those in `but`."""
        text = text.replace(_BREAK, 2 * _BREAK)
        for token in self._special_tokens().keys() - {*but}:
            text = text.replace(token, token[0] + _BREAK + token[1:])
        return text

    def token_bytes(self) -> dict[int, bytes]:
        """What each token adds to a text, special ones their names."""
        raise NotImplementedError

    def _save_vocabulary(self, folder: Path) -> None:
        raise NotImplementedError

    def __call__(self, text: str | Sequence[str], **options) -> BatchFeature:
        """`input_ids` and `attention_mask` of a text or of several, and what else is asked for.

        Args:
            options: those of `TextOptions`.

        Raises:
            ConfigurationError: an option that nobody knows, or of another kind.
            PromptError: text that is none, or that UTF-8 cannot write; rows of different lengths for a tensor.
        """
        check_text(text)
        given = plain_options(options)
        check_names(given, self.options, "the tokenizer's call")
        check_text_options(given, "the tokenizer's call")
        asked = checked(TextOptions, given, "the tokenizer's call")
        texts = [text] if isinstance(text, str) else list(text)
        rows = [self._row(one, asked.add_special_tokens) for one in texts]
        data = self._padded([self._cut(row, asked) for row in rows], asked)
        if asked.return_length:
            data["length"] = [len(ids) for ids in data["input_ids"]]
        if isinstance(text, str) and asked.return_tensors is None:
            data = {name: values[0] for name, values in data.items()}
        return tensors(data, asked.return_tensors)

    def _row(self, text: str, special: bool) -> tuple[list[int], list[tuple[int, int]]]:
        """As `_encode`, of a text that may be escaped in parts; where they stand is not known then."""
        if _BREAK not in text:
            return self._encode(text, special)
        tokens, ids = self._special_tokens(), []
        for piece in re.split(f"({'|'.join(map(re.escape, sorted(tokens, key=len, reverse=True)))})", text):
            if piece in tokens:
                ids.append(tokens[piece])
            elif _BREAK in piece:
                ids += self._plain_ids(re.sub(f"{_BREAK}({_BREAK}?)", r"\1", piece))
            else:
                ids += self._encode(piece, special)[0]
        ids = self._joined(ids)
        return ids, [(0, 0)] * len(ids)

    def _joined(self, ids: list[int]) -> list[int]:
        """A row of which pieces were encoded apart."""
        return ids

    def _cut(self, row: tuple[list, list], asked: TextOptions) -> tuple[list, list]:
        if asked.truncation in (False, "do_not_truncate"):
            return row
        limit = asked.max_length or self.model_max_length
        return tuple(each[-limit:] if self.truncation_side == "left" else each[:limit] for each in row)

    def _padded(self, rows: list[tuple[list, list]], asked: TextOptions) -> dict[str, list]:
        longest = max((len(ids) for ids, _ in rows), default=0)
        if asked.padding in (False, "do_not_pad"):
            longest = 0
        elif asked.padding == "max_length":
            longest = max(longest, asked.max_length or longest)
        multiple = asked.pad_to_multiple_of or 1
        longest = -(-longest // multiple) * multiple
        left = (asked.padding_side or self.padding_side) == "left"

        def pad(values: list, filler: Any) -> list:
            filling = [filler] * (longest - len(values))
            return filling + values if left else values + filling

        special = {*self._special_tokens().values()}
        wanted = {
            "input_ids": lambda ids, offsets: pad(ids, self.pad_token_id),
            "attention_mask": lambda ids, offsets: pad([1] * len(ids), 0),
            "token_type_ids": lambda ids, offsets: pad([0] * len(ids), 0),
            "position_ids": lambda ids, offsets: pad([*range(len(ids))], 0),
            "special_tokens_mask": lambda ids, offsets: pad([int(i in special) for i in ids], 1),
            "offset_mapping": lambda ids, offsets: pad(offsets, (0, 0)),
        }
        kept = {
            "input_ids": True,
            "attention_mask": asked.return_attention_mask is not False,
            "token_type_ids": asked.return_token_type_ids,
            "position_ids": asked.return_position_ids,
            "special_tokens_mask": asked.return_special_tokens_mask,
            "offset_mapping": asked.return_offsets_mapping,
        }
        return {name: [make(*row) for row in rows] for name, make in wanted.items() if kept[name]}

    def encode(self, text: str, **options) -> list[int]:
        """The ids of one text; options as a call's."""
        return self(text, **options)["input_ids"]

    def decode(self, token_ids, skip_special_tokens: bool = False, **options) -> str:
        """The text of one row of ids, a list, array or tensor."""
        ids = np.asarray(token_ids).reshape(-1).tolist()
        return self._decode([int(i) for i in ids], skip_special_tokens, **options)

    def batch_decode(self, sequences, skip_special_tokens: bool = False, **options) -> list[str]:
        """As `decode`, for each row."""
        return [self.decode(row, skip_special_tokens, **options) for row in sequences]

    def convert_tokens_to_ids(self, tokens: str | Iterable[str]) -> int | list[int | None] | None:
        """The id of a token, or of each of several; None for what is none."""
        return self._id_of(tokens) if isinstance(tokens, str) else [self._id_of(token) for token in tokens]

    @property
    def all_special_ids(self) -> list[int]:
        """Ids of the special tokens."""
        return sorted(self._special_tokens().values())

    @property
    def eos_token(self) -> str:
        """What ends a row."""
        return self.special_tokens_map["eos_token"]

    @property
    def pad_token(self) -> str:
        """What fills a row."""
        return self.special_tokens_map["pad_token"]

    @property
    def eos_token_id(self) -> int | None:
        """Id of `eos_token`."""
        return self._id_of(self.eos_token)

    @property
    def pad_token_id(self) -> int | None:
        """Id of `pad_token`."""
        return self._id_of(self.pad_token)

    def save_pretrained(self, save_directory) -> None:
        """Write the vocabulary, and tokenizer_config.json so that transformers and the hosts read it.

        Raises:
            ConfigurationError: `save_directory` is a file.
        """
        folder = folder_to_save(save_directory)
        self._save_vocabulary(folder)
        found = {name: value for name, value in asdict(self.settings).items() if value is not None}
        found |= {"padding_side": self.padding_side, "model_max_length": self.model_max_length}
        write_tokenizer_config(folder / CONFIG, found, self.chat_template, self.saved_as)


def write_tokenizer_config(path: Path, found: dict, template, saved_as: dict[str, str]) -> None:
    """tokenizer_config.json with its chat templates, under the names by which others know the class."""
    unset = {name: None for name in NAMED[:4] if name not in found}  # else transformers has its own for these
    found = found | ({"chat_template": as_saved(template)} if template else {})
    write_json(path, found | unset | saved_as, ensure_ascii=False)
